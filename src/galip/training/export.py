"""A trained generator as a model folder that every command reads."""

from __future__ import annotations

from pathlib import Path

import galip
from galip.conversion.optimizers import FILE as OPTIMIZERS_FILE
from galip.conversion.optimizers import Moments, save_moments
from galip.errors import GalipError, InputError
from galip.model_repo.card import HOW_TO_USE, front_matter, source_name
from galip.model_repo.describe import describe
from galip.model_repo.resolve import fetch, model_name
from galip.models.generator import MateGenerator
from galip.torch_backend.pipeline import GALIPPipeline
from galip.training.checkpoint import load_checkpoint
from galip.training.config import TrainConfig
from galip.training.config_file import parse_config
from galip.training.ema import frozen_copy
from galip.training.moments import moments_of
from galip.training.networks import Networks
from galip.training.stages import networks_of
from galip.utils.atomic import atomic_folder, write_json, write_text

_CARD = """\
{front_matter}# {name}

{description}
{inherited}
Trained with galip {version} on `{source}`: {images:,} images seen, batch {batch}, seed {seed}. These are the averaged
weights of the generator; `discriminator/` lies beside them. The run's settings are in `training.json`. The licence is
that of the weights; the code, `pipeline.py` among it, is under the MIT licence.

{how_to_use}"""


def export_model(
    networks: Networks,
    average: MateGenerator,
    config: TrainConfig,
    images: int,
    out: Path,
    moments: Moments | None = None,
    graphs: bool = True,
) -> Path:
    """Write pipeline, discriminator, model card and `training.json`, whole or not at all.

    Args:
        networks: CLIP and discriminator of the run.
        average: the generator to export.
        config: the run.
        images: images seen.
        out: the model folder; an earlier export there is replaced.
        moments: of the optimisers, to be written too.
        graphs: whether the graphs are written too.

    Returns:
        `out`.
    """
    vision_model, t5 = networks.vision.model, networks.t5
    text = (networks.tokenizer, networks.text_encoder) if t5 is None else (t5.tokenizer, t5.model)
    training = {"images": images, "version": galip.__version__, "config": config.model_dump(mode="json")}
    try:
        with atomic_folder(out) as folder:
            pipeline = GALIPPipeline(*text, vision_model, average, text_scale=None if t5 is None else t5.scale)
            pipeline.save_pretrained(folder, graphs=graphs)
            networks.discriminator.save_pretrained(folder / "discriminator")
            write_json(folder / "training.json", training)
            if moments is not None:
                save_moments(moments, folder / OPTIMIZERS_FILE)
            write_text(folder / "README.md", _card(config, images))
    except OSError as error:
        raise GalipError(f"{out}: the model could not be written ({error.strerror})") from error
    return out


def _card(config: TrainConfig, images: int) -> str:
    """The model card."""
    licence, inherited, prompts = config.licence, "", config.logging.grid_captions
    if start := config.model.start_from:
        earlier = describe(fetch(start)).licence
        licence = licence or (earlier or "")
        inherited = f"\nTrained on from `{model_name(start)}`, whose licence ({earlier}) goes on to apply.\n"
    return _CARD.format(
        front_matter=front_matter(licence, config.data.source, prompts),
        inherited=inherited,
        name=config.name,
        description=config.description,
        version=galip.__version__,
        source=source_name(config.data.source),
        images=images,
        batch=config.schedule.batch,
        seed=config.seed,
        how_to_use=HOW_TO_USE.format(prompt=prompts[0] if prompts else "a caption"),
    )


def export_checkpoint(
    checkpoint: Path, out: Path, raw: bool = False, with_optimizers: bool = False, graphs: bool = True
) -> Path:
    """Make the model folder of a training checkpoint, also while its run goes on.

    Args:
        checkpoint: a folder `images-N` of a run.
        out: the model folder.
        raw: the generator as it was at that moment, instead of its average.
        with_optimizers: write the moments of the optimisers too, which belong to the raw generator.
        graphs: whether the graphs are written too.

    Raises:
        InputError: the average is to have the optimisers of the raw generator.
        GalipError: the checkpoint, or the CLIP that its configuration names, cannot be loaded.
    """
    info, states = load_checkpoint(checkpoint)
    config = parse_config(info.config, str(checkpoint))
    networks = networks_of(config, info.stage)
    if with_optimizers and not raw and config.ema.half_life:
        raise InputError(
            f"{checkpoint}: the optimisers' states belong to the raw generator, not to its average; add --raw"
        )
    average = frozen_copy(networks.generator)
    load_checkpoint(checkpoint, {"generator" if raw else "ema": average, "discriminator": networks.discriminator})
    moments = moments_of(networks, states["optimizers"]) if with_optimizers else None
    if networks.t5 is not None and info.text_scale is not None:
        networks.t5.scale = info.text_scale
    return export_model(networks, average, config, info.images, out, moments, graphs)
