"""What is made of a run in the end: its best checkpoint as a model folder, with contact sheet and card."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from galip.data.protocol import BrokenRecordError, ImageSource, spread
from galip.errors import GalipError
from galip.generation.load import load
from galip.training.checkpoint import best_checkpoint, images_of, list_checkpoints, read_info
from galip.training.config import StageConfig
from galip.training.export import export_checkpoint
from galip.training.loop import Trainer
from galip.utils.atomic import atomic_file, write_text
from galip.utils.contact_sheet import SHEET_NAME, contact_sheet

logger = logging.getLogger(__name__)

_ON_SHEET = 32

_CARD = """
## How it was made and chosen

{stages}. The weights are those after {images:,} of {total:,} images, where {metric} was best.

{scores}

The eye is a small convolutional network that learnt to tell the real images apart; no loss has seen it.
`eye_recognised` is the share of captions whose generated image it takes for theirs, `eye_distance` the Frechet distance
of its features of generated and real images, `eye_score` the distance divided by the share: less is better.

![Real images, and beside each what the model generates for its caption]({sheet})
"""


def finish(trainer: Trainer, model: Path) -> Path:
    """Make the model folder of a finished run whole.

    Args:
        trainer: of the run.
        model: its model folder, which is written anew from the best checkpoint.

    Returns:
        `model`.

    Raises:
        GalipError: it cannot be written or exported.
    """
    config, checkpoints = trainer.config, trainer.folder.checkpoints
    best = best_checkpoint(checkpoints)
    chosen = best.checkpoint if best is not None else list_checkpoints(checkpoints)[-1]
    if images_of(chosen) != trainer.state.seen:
        export_checkpoint(chosen, model)
    _write_sheet(model, trainer.data.sized())
    scores = read_info(chosen).scores
    card = _CARD.format(
        stages=_sentence(config.stages),
        images=images_of(chosen),
        total=config.schedule.images,
        metric=best.metric if best is not None else "nothing",
        scores="\n".join(f"- `{name}`: {value:.3f}" for name, value in scores.items()),
        sheet=SHEET_NAME,
    )
    readme = model / "README.md"
    write_text(readme, readme.read_text(encoding="utf-8") + card)
    told = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
    logger.info("chosen: the weights after %s images (%s)", f"{images_of(chosen):,}", told)
    return model


def _sentence(stages: tuple[StageConfig, ...]) -> str:
    names = ", then ".join(f"{stage.name}, {stage.schedule['images']:,} images" for stage in stages)
    return f"Trained by `galip train --recipe small`: {names}"


def _write_sheet(model: Path, source: ImageSource) -> None:
    """Real images, and beside each what the model generates for its caption."""
    shown: dict[str, Image.Image] = {}
    for number in spread(4 * _ON_SHEET, len(source)):
        with suppress(BrokenRecordError):
            image, captions = source.read(number)
            shown.setdefault(captions[0], image)
    shown = dict(list(shown.items())[:: -(-len(shown) // _ON_SHEET) or 1])
    if not shown:
        raise GalipError("no image of the data can be read any more; the contact sheet cannot be made")
    generated: Any = load(str(model))(list(shown), seed=0)
    cells = []
    for (caption, real), made in zip(shown.items(), generated.images, strict=True):
        cells += [(real, caption, "real"), (made, caption, "generated")]
    with atomic_file(model / SHEET_NAME, suffix=".png") as unfinished:
        contact_sheet(cells, per_row=2).save(unfinished)
