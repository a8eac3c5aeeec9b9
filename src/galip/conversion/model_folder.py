"""The authors' checkpoints to model folders, and back."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from galip import __version__
from galip.conversion import optimizers
from galip.conversion.checkpoint_file import CheckpointError, ReleasedCheckpoint, read_checkpoint, write_checkpoint
from galip.conversion.released import RELEASED, ReleasedModel, from_released, to_released
from galip.errors import GalipError, InputError
from galip.model_repo.fingerprint import sha256
from galip.model_repo.index import check_model_folder, read_index
from galip.model_repo.resolve import resolve
from galip.models.discriminator import MateDiscriminator
from galip.models.generator import MateGenerator
from galip.models.presets import PRESETS, Preset
from galip.torch_backend.encoders import load_clip
from galip.torch_backend.loading import no_progress_bars
from galip.torch_backend.pipeline import GALIPPipeline
from galip.utils.atomic import atomic_folder, write_json, write_text

RECORD = "released.json"
"""What a converted model folder remembers of its file, beside the weights themselves."""

REST = "released_rest.pt"
"""What stood beside the weights in the file: optimisers, epoch, loss scalers. Plain data, loaded with weights_only."""

_LOG = logging.getLogger(__name__)
_USUAL_CLIP = "openai/clip-vit-base-patch32"

_CARD = """\
---
library_name: galip
pipeline_tag: text-to-image
license: other
license_name: galip-academic-research-only
license_link: https://github.com/tobran/GALIP
tags:
- galip
- gan
---
# {title}

A checkpoint in the layout of GALIP's authors (Tao, Bao, Tang, Xu: *GALIP: Generative Adversarial CLIPs for
Text-to-Image Synthesis*, CVPR 2023), converted with galip {version}. Every weight is the file's, unchanged.

| | |
| --- | --- |
| file | `{file}` |
| SHA-256 | `{sha256}` |
| epoch | {epoch} |
| CLIP | `{clip}` |
| CLIP-ViT inside the file | {vision} |
| size | preset `{preset}` |

## Licence

**Academic research only.** The authors' README says: "The code is released for academic research use only. For
commercial use, please contact Ming Tao". Their repository, <https://github.com/tobran/GALIP>, also carries an MIT
licence file and a badge that says CC BY-NC-SA 4.0, and does not say which of them the weights are under, so the
strictest is given here. (If the file is not theirs but your own, correct this card.) The CLIP has a licence of its own.
The MIT licence of the galip package covers neither.

## Use

```python
import galip

pipe = galip.load("PATH/TO/THIS/FOLDER")
pipe("a prompt", seed=0).images[0].save("image.png")
```

Images equal the original network's. `clip_input = "released"` is kept in the generator's configuration: the
discriminator and the similarity loss were trained on images mapped to [0, 1] twice and resized by nearest neighbour.
`{record}` and `{rest}` hold what `galip convert --to-released` needs to write the file again, bit for bit.
"""


# ---- .pth -> model folder


def write_model(
    source: Path,
    out: Path,
    clip: str | None,
    preset_name: str | None,
    overwrite: bool,
    graphs: bool = True,
    with_optimizers: bool = False,
) -> str:
    """Write a model folder of one of the authors' checkpoints.

    Args:
        source: the .pth file.
        out: the folder.
        clip: the CLIP that the checkpoint was trained with: a folder or a hub id.
        preset_name: the model's size; None: that of the published files.
        overwrite: whether a folder that is there is replaced.
        graphs: whether the graphs are written too, from which the model runs without torch.
        with_optimizers: whether the moments of the optimisers are kept too, for training that goes on from the model.

    Returns:
        A line about what was written.

    Raises:
        GalipError: it cannot be done; nothing is written then.
    """
    if source.is_dir():
        raise InputError(f"{source}: this is a folder; name a .pth file, or add --to-released to write one of a model")
    if not source.is_file():
        raise InputError(f"{source}: there is no such file; the authors' repository links to their .pth files")
    if clip is None:
        raise InputError(
            "--clip is missing: the file holds neither CLIP's text encoder nor its tokenizer; name the CLIP that it "
            f"was trained with, a folder or a hub id, for the authors' files --clip {_USUAL_CLIP}"
        )
    if out.is_file():
        raise InputError(f"{out}: this is a file; name the folder that the model shall go to")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise InputError(f"{out}: the folder is not empty; name another one, or add --overwrite to replace it")

    preset = _preset(preset_name)
    with _users_errors(), no_progress_bars():
        checkpoint = read_checkpoint(source)
        tokenizer, text_encoder, clip_vision = load_clip(clip)
        model = from_released(checkpoint, clip_vision, preset)
        moments = optimizers.from_released(checkpoint) if with_optimizers else None
        record = _record(source, clip, preset, checkpoint, model)
        parts = {"tokenizer": tokenizer, "text_encoder": text_encoder}
        with atomic_folder(out) as folder:
            pipeline = GALIPPipeline(**parts, vision_encoder=model.vision, generator=model.generator)
            pipeline.save_pretrained(folder, graphs=graphs)
            _save(folder, model, checkpoint.rest, record)
            if moments is not None:
                optimizers.save_moments(moments, folder / optimizers.FILE)
    return f"{out}: {record['file']}, CLIP-ViT {record['vision']}, {_epoch(record)}; preset {preset.name}"


def _save(folder: Path, model: ReleasedModel, rest: dict[str, Any], record: dict[str, Any]) -> None:
    """Write what stands in the model folder beside the pipeline."""
    model.discriminator.save_pretrained(folder / "discriminator")
    torch.save(rest, folder / REST)
    write_json(folder / RECORD, record)
    card = _CARD.format(
        title=Path(record["file"]).stem,
        version=__version__,
        epoch="not recorded" if record["epoch"] is None else record["epoch"],
        record=RECORD,
        rest=REST,
        **{key: record[key] for key in ("file", "sha256", "clip", "vision", "preset")},
    )
    write_text(folder / "README.md", card)


def _record(
    source: Path, clip: str, preset: Preset, checkpoint: ReleasedCheckpoint, model: ReleasedModel
) -> dict[str, Any]:
    """What `released.json` holds: provenance, and what writing the file again takes."""
    dtypes = sorted({str(t.dtype).removeprefix("torch.") for t in model.vision.vision_model.encoder.parameters()})
    vision = "of mixed precision, " + " and ".join(dtypes) if len(dtypes) > 1 else f"in {dtypes[0]}"
    epoch = checkpoint.rest.get("epoch")
    return {
        "file": source.name,
        "sha256": sha256(source),
        "epoch": epoch if isinstance(epoch, int) else None,
        "clip": clip,
        "preset": preset.name,
        "vision": vision + (", not equal to this CLIP's" if model.difference else ", equal to this CLIP's"),
        "difference": asdict(model.difference) if model.difference else None,
        "prefixes": checkpoint.prefixes,
        "galip": __version__,
    }


# ---- model folder -> .pth


def write_released(
    source: str, out: Path, preset_name: str | None, overwrite: bool, with_optimizers: bool = False
) -> str:
    """Write a model as a .pth file in the authors' layout.

    Args:
        source: a model folder or a bundled model's name.
        out: the file.
        preset_name, overwrite: as for `write_model`.
        with_optimizers: write the moments that the folder keeps, where its `.pth` had none.

    Returns:
        A line about what was written.

    Raises:
        GalipError: it cannot be done; nothing is written then.
    """
    folder = resolve(source)
    if not isinstance(folder, Path):
        raise InputError(f"model {source!r}: download it first, with its discriminator/, and name the folder")
    if out.is_dir():
        raise InputError(f"{out}: this is a folder; name the .pth file to write")
    if out.exists() and not overwrite:
        raise InputError(f"{out}: the file is there already; name another one, or add --overwrite to replace it")
    check_model_folder(folder)
    if not (folder / "discriminator" / "config.json").is_file():
        raise GalipError(f"{folder}: there is no discriminator/, but the authors' layout holds one; nothing is written")
    encoder = read_index(folder)["text_encoder"][1]
    if encoder != "CLIPTextModelWithProjection":
        raise GalipError(
            f"{folder}: its text encoder is {encoder or 'missing'}, but whoever reads a .pth of the authors' layout "
            "takes CLIP's vectors; nothing is written"
        )
    record, rest = _read_record(folder)

    preset = _preset(preset_name or record.get("preset"))
    model = _load_exactly(folder)
    with _users_errors(folder):
        checkpoint = to_released(*model, prefixes=record.get("prefixes"), rest=rest, preset=preset)
    if with_optimizers and "optimizers" not in rest:
        moments = optimizers.load_moments(folder)
        checkpoint.rest["optimizers"] = optimizers.to_released(moments, checkpoint.tensors)
    if model[0].config.clip_input != preset.generator["clip_input"]:
        _LOG.info(
            f"the file cannot tell that clip_input is {model[0].config.clip_input!r} here: images stay the same, but "
            f"a reader of the file will map them to CLIP's input as {preset.generator['clip_input']!r}"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(checkpoint, out)
    beside = ", ".join(checkpoint.rest) or "no optimisers, no epoch"
    return f"{out}: {len(checkpoint.tensors)} tensors, {beside}; {preset.name}"


def _load_exactly(folder: Path) -> tuple[Any, Any, Any]:
    """Generator, discriminator and CLIP-ViT, every tensor in its stored dtype: a pipeline would load all in one."""
    networks = []
    for kind, part in (
        (MateGenerator, "generator"),
        (MateDiscriminator, "discriminator"),
        (CLIPVisionModelWithProjection, "vision_encoder"),
    ):
        try:
            with torch.device("meta"):
                if part == "vision_encoder":
                    network: Any = kind(CLIPVisionConfig.from_pretrained(folder / part))
                else:
                    network = kind.from_config(kind.load_config(folder / part))
            tensors = {
                k: t for file in sorted((folder / part).glob("*.safetensors")) for k, t in load_file(file).items()
            }
            network.load_state_dict(tensors, assign=True)
        except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            raise GalipError(f"{folder / part}: it cannot be loaded: {error}") from error
        networks.append(network)
    return networks[0], networks[1], networks[2]


def _read_record(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """`released.json` and the content of `released_rest.pt`; both empty for a model that was trained here."""
    if not (folder / RECORD).is_file():
        return {}, {}
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        rest = torch.load(folder / REST, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(record["prefixes"], dict) or not isinstance(record["preset"], str):
            raise TypeError("prefixes or preset")
    except Exception as error:  # a damaged file fails in many ways
        raise GalipError(
            f"{folder}: {RECORD} and {REST}, which the conversion wrote, cannot be read ({type(error).__name__}: "
            f"{error}); convert the checkpoint again, or remove both to write weights only"
        ) from error
    return record, rest


# ---- both


def _preset(name: str | None) -> Preset:
    if name is not None and name not in PRESETS:
        raise InputError(f"preset {name!r}: there is no such preset, use one of {', '.join(PRESETS)}")
    return PRESETS[name or RELEASED]


@contextmanager
def _users_errors(source: Path | None = None) -> Iterator[None]:
    """What is wrong with a checkpoint is the user's to put right."""
    try:
        yield
    except CheckpointError as error:
        raise GalipError(f"{source}: {error}" if source else str(error)) from error


def _epoch(record: dict[str, Any]) -> str:
    return "no epoch recorded" if record["epoch"] is None else f"epoch {record['epoch']}"
