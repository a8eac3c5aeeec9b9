"""Training from Python: captioned images of anywhere, a configuration, a model folder."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from galip.data.captions import clean_captions
from galip.data.images import decode_image
from galip.data.protocol import BrokenRecordError, spread
from galip.data.skips import Skips
from galip.errors import InputError
from galip.training.config import TrainConfig
from galip.training.config_file import load_config, parse_config
from galip.training.defaults import default_config
from galip.training.run import open_run
from galip.utils.progress import Progress, no_progress

_IMAGES = ("image", "img", "images")
_CAPTIONS = ("caption", "text", "captions", "prompt", "label")
_NO_PATH = "dataset"
"""What `data.source` says where the images came from Python."""


def train(
    dataset: Any,
    config: TrainConfig | Mapping[str, Any] | str | Path | None = None,
    *,
    out: str | Path | None = None,
    start_from: str = "",
    resume: str | None = None,
    graphs: bool = True,
    progress: Progress = no_progress,
) -> Path:
    """Train a model.

    Args:
        dataset: a sequence of (image, caption), with a length and numbers: a list, a `datasets.Dataset` with a column
            of images and one of captions, a `torch.utils.data.Dataset`, or rows that are mappings with such names. An
            image is PIL's, uint8 [H, W, 3], a path, or a file's bytes; a caption is a text or a list of them. Or the
            name of a folder or of shards, as `data.source`.
        config: the run: a `TrainConfig`; sections and fields as a mapping ({"schedule": {"images": 100_000}}), over
            defaults that are chosen by the data and the machine; or a YAML file's or a named configuration's name.
            None: the defaults.
        out: the run folder; None: runs/NAME.
        start_from: a model that is trained on: a bundled name, a folder, or a hub id. Only without a whole `config`.
        resume: "latest", "best", or a checkpoint folder.
        graphs: write graphs into the model in the end, from which it runs without torch.
        progress: told ("training", images seen, images in all).

    Returns:
        The model folder.

    Raises:
        InputError: `dataset` holds something else.
        GalipError: as the command `galip train`.
    """
    source = None if isinstance(dataset, str | Path) else CaptionedSequence(dataset)
    name = str(dataset) if source is None else _NO_PATH
    if isinstance(config, TrainConfig):
        settings = config
    elif isinstance(config, str | Path):
        settings = load_config(config, [f'data.source="{name}"'])
    else:
        tree = default_config(name, start_from, opened=source).model_dump(mode="json")
        settings = parse_config(_over(tree, dict(config or {})), "config")
    trainer = open_run(settings, Path(out or Path("runs") / settings.name), resume, progress, source, graphs)
    return trainer.fit()


class CaptionedSequence:
    """A sequence of (image, caption) as the training reads it; see `galip.data.protocol.ImageSource`.

    Args:
        rows: see `train`.

    Raises:
        InputError: it has no length, is empty, or its first row is not an image with a caption.
    """

    def __init__(self, rows: Any) -> None:
        if not hasattr(rows, "__len__") or not hasattr(rows, "__getitem__"):
            raise InputError(f"dataset is a {type(rows).__name__}: give a sequence of (image, caption)")
        if len(rows) == 0:
            raise InputError("dataset is empty: give (image, caption) pairs")
        self.rows, self.skipped = rows, Skips()
        self.broken_shards: dict[str, str] = {}
        names = getattr(rows, "column_names", None)  # of datasets.Dataset: captions without decoding images
        self._column = _first(_CAPTIONS, names, "captions") if isinstance(names, list) else None
        try:
            self.read(0)
        except BrokenRecordError as error:
            raise InputError(str(error)) from error

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, number: int, needed: int = 0, channels: int = 3) -> tuple[Image.Image, tuple[str, ...]]:
        """Image and captions of a row."""
        image, caption = _pair(self.rows[number], self.name_of(number))
        return _as_image(image, self.name_of(number), needed, channels), _captions(caption, self.name_of(number))

    def captions_at(self, number: int) -> tuple[str, ...]:
        """Captions of a row."""
        if self._column is not None:
            return _captions(self.rows[self._column][number], self.name_of(number))
        return _captions(_pair(self.rows[number], self.name_of(number))[1], self.name_of(number))

    def name_of(self, number: int) -> str:
        """A row in messages."""
        return f"dataset[{number}]"

    def weights(self) -> NDArray[np.float64]:
        """All rows alike."""
        return np.ones(len(self))

    def distinct_captions(self, limit: int) -> list[str] | None:
        """Every distinct caption, sorted; None where there are more rows than `limit`."""
        return sorted(self._captions_of(range(len(self)))) if len(self) <= limit else None

    def some_captions(self, count: int) -> list[str]:
        """First captions of rows that are evenly spread."""
        return list(self._captions_of(spread(count, len(self)), first=True))

    def _captions_of(self, numbers: Sequence[int], first: bool = False) -> dict[str, None]:
        found: dict[str, None] = {}
        for number in numbers:
            try:
                captions = self.captions_at(number)
            except BrokenRecordError:
                continue  # counted when it is read
            found |= dict.fromkeys(captions[:1] if first else captions)
        return found

    @property
    def digest(self) -> str:
        """Hash of the number of rows and of some captions."""
        return hashlib.sha256(repr([len(self), self.some_captions(1000)]).encode()).hexdigest()

    @property
    def state(self) -> str:
        """`digest`: whether pixels changed cannot be seen."""
        return self.digest


def _over(tree: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`tree` with what is given laid over it, section by section."""
    for name, value in given.items():
        below = tree.get(name)
        tree[name] = _over(dict(below), value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return tree


def _first(known: Sequence[str], names: Sequence[str], what: str) -> str:
    for name in known:
        if name in names:
            return name
    raise InputError(f"dataset has the columns {', '.join(map(str, names))}: one of {', '.join(known)} is for {what}")


def _pair(row: Any, name: str) -> tuple[Any, Any]:
    """Image and caption of a row: a pair, or a mapping with such names."""
    if isinstance(row, Mapping):
        return row[_first(_IMAGES, list(row), "images")], row[_first(_CAPTIONS, list(row), "captions")]
    if isinstance(row, Sequence) and not isinstance(row, str | bytes) and len(row) == 2:
        return row[0], row[1]
    raise BrokenRecordError(name, f"a {type(row).__name__}, not an image with a caption")


def _captions(value: Any, name: str) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value if isinstance(value, Sequence) else []
    captions = clean_captions([text for text in texts if isinstance(text, str)])
    if not captions:
        raise BrokenRecordError(name, "no caption")
    return captions


def _as_image(value: Any, name: str, needed: int, channels: int) -> Image.Image:
    if isinstance(value, np.ndarray):
        if value.dtype != np.uint8 or value.ndim not in (2, 3):
            raise BrokenRecordError(name, f"an array of {value.dtype} {list(value.shape)}; uint8 [H, W, 3] is needed")
        value = Image.fromarray(value)
    if isinstance(value, Image.Image):
        file = io.BytesIO()  # as from a file: rotation, transparency, 16 bits are dealt with in one place
        try:
            value.save(file, "PNG", compress_level=0, exif=value.getexif())
        except (OSError, ValueError) as error:
            raise BrokenRecordError(name, str(error)) from error
        file.seek(0)
        return decode_image(file, name, needed, channels)
    if isinstance(value, bytes):
        return decode_image(io.BytesIO(value), name, needed, channels)
    if isinstance(value, str | Path):
        return decode_image(Path(value), str(value), needed, channels)
    raise BrokenRecordError(name, f"the image is a {type(value).__name__}: give PIL's, uint8, a path or a file's bytes")
