"""What one evaluation found: the numbers, and everything that says what they are numbers of.

A result is `NAME.json`. Beside it a folder `NAME.files/` holds what is looked at rather than compared: a few images
from best to worst (`samples.jsonl`), generated images beside their nearest training images (`nearest.jsonl`), and the
scores of every single image (`per_picture.jsonl.gz`). A result stays valid without that folder.
"""

from __future__ import annotations

import gzip
import json
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from galip.errors import GalipError
from galip.utils.atomic import write_bytes
from galip.utils.terminal import printable
from galip.utils.untrusted import parse_json, read_json_object

FORMAT = 1
SAMPLES = "samples.jsonl"
NEAREST = "nearest.jsonl"
PER_IMAGE = "per_picture.jsonl.gz"


LARGEST = 1e30
"""No metric is larger; what is cannot be plotted, and says that a file is damaged."""

_MAX_BYTES = 1 << 28
"""Of a file that is read, uncompressed: 40,000 rows of scores have a fiftieth of it."""

Finite = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Count = Annotated[int, Field(ge=0, le=10**15)]


class _Record(BaseModel):
    # Infinity and NaN are no JSON; a number that could not be computed is left out and gets a flag.
    # Without protected names, `model_digest` may be called what it is.
    # An alias is the name in files, which do not change with the code's words.
    model_config = ConfigDict(
        extra="forbid", allow_inf_nan=False, protected_namespaces=(), populate_by_name=True, serialize_by_alias=True
    )


class Number(_Record):
    """One number with what is known of its error."""

    value: Finite
    low: Finite | None = Field(None, description="lower end of the interval")
    high: Finite | None = Field(None, description="upper end of the interval")
    interval: str = Field("", description='how the interval was made: "bootstrap over images, 95 %"')
    count: Count | None = Field(None, description="images that it is over")

    @model_validator(mode="after")
    def _ordered(self) -> Number:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"the interval ends at {self.high:g}, before it begins at {self.low:g}")
        return self


class Flag(_Record):
    """Something that a reader of the numbers must know."""

    level: Literal["note", "warning", "invalid"]
    about: str = Field("", description="name of the metric; empty: all of them")
    text: str


class ExtractorUsed(_Record):
    """The network that made the features."""

    weights: str = Field(description="file, folder or hub id, as the user gave it")
    digest: str = Field(description="sha256 of the weights' values, first 16 digits")


class Result(_Record):
    """One evaluation. `metrics`, `real_baseline` and `groups` use the same names of metrics."""

    format: int = FORMAT
    protocol: str = Field(description="registered name")
    protocol_digest: str = Field(description="of everything that fixes the numbers, but not of the model")
    settings: dict[str, Any] = Field(description="the resolved protocol, as JSON values")
    model: str
    model_digest: str
    images_seen: Count | None = Field(None, description="in training, where the model says so")
    data: str
    data_digest: str
    n_generated: Count = Field(alias="n_drawn", description="N: images that are compared")
    n_reference: Count | None = None
    metrics: dict[str, Number] = Field(default_factory=dict)
    real_baseline: dict[str, Number] = Field(
        default_factory=dict, alias="floors", description="real images measured against real ones"
    )
    groups: dict[str, dict[str, Number]] = Field(default_factory=dict, description="by category of the captions")
    group_real_baseline: dict[str, dict[str, Number]] = Field(
        default_factory=dict, alias="group_floors", description="the same of the captions' real images"
    )
    extractors: dict[str, ExtractorUsed] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    machine: dict[str, str | int | float] = Field(default_factory=dict)
    seed: int
    seconds: Finite = Field(ge=0)
    flags: list[Flag] = Field(default_factory=list)

    @field_validator("settings", mode="before")
    @classmethod
    def _plain(cls, settings: Any) -> Any:
        """What the file will hold: a tuple is a list there, and results are compared as they are read."""
        try:
            return json.loads(json.dumps(settings, allow_nan=False))
        except TypeError as error:  # pydantic knows ValueError alone
            raise ValueError(str(error)) from error

    @property
    def n_drawn(self) -> int:
        """Deprecated: `n_generated`."""
        return _renamed("n_drawn", "n_generated", self.n_generated)

    @property
    def floors(self) -> dict[str, Number]:
        """Deprecated: `real_baseline`."""
        return _renamed("floors", "real_baseline", self.real_baseline)

    @property
    def group_floors(self) -> dict[str, dict[str, Number]]:
        """Deprecated: `group_real_baseline`."""
        return _renamed("group_floors", "group_real_baseline", self.group_real_baseline)


class Sample(_Record):
    """A row of `samples.jsonl`: an image that is shown. Paths are relative to the folder."""

    number: int = Field(ge=0, description="of the planned sample")
    caption: str
    seed: int
    group: str = Field("", description="category of the caption")
    score: Finite = Field(description="the CLIP score that the images are ordered by")
    rank: Literal["best", "middle", "worst"]
    image: str = Field(alias="picture")
    real: str | None = Field(None, description="the real image of the caption")


class Neighbour(_Record):
    """A training image near a generated one."""

    image: str = Field(alias="picture")
    distance: Finite
    name: str = Field("", description="its name in the training data")


class NearestRow(_Record):
    """A row of `nearest.jsonl`: a generated image and its nearest training images, the nearest first."""

    image: str = Field(alias="picture")
    caption: str
    seed: int
    distance: Finite
    neighbours: list[Neighbour]


class ImageScores(_Record):
    """A row of `per_picture.jsonl.gz`."""

    number: int = Field(ge=0)
    caption: str
    seed: int
    scores: dict[str, Finite]


Row = TypeVar("Row", Sample, NearestRow, ImageScores)


def files_of(path: Path) -> Path:
    """The folder beside a result: `out/result.json` has `out/result.files`."""
    return path.with_suffix(".files")


_Value = TypeVar("_Value")


def _renamed(old: str, new: str, value: _Value) -> _Value:
    warnings.warn(f"Result.{old} is now Result.{new}; the old name goes with the next release", DeprecationWarning, 3)
    return value


def write_result(path: Path, result: Result) -> None:
    """Write a result so that `path` holds either all of it or what was there before.

    Equal results give equal bytes. The folder of `path` is made where it is missing.

    Raises:
        GalipError: the file cannot be written.
    """
    _write(path, _json(result.model_dump(mode="json"), indent=1))


def read_result(path: Path) -> Result:
    """Read a result.

    Raises:
        GalipError: there is no such file, it is damaged or no result, or another version of its format.
    """
    tree = read_json_object(path, "name a result that galip evaluate wrote, or evaluate the model again")
    if "format" not in tree or "protocol" not in tree:
        raise GalipError(f"{path}: no result of galip evaluate (it has no format and protocol); name one that is")
    if tree["format"] != FORMAT:
        raise GalipError(
            f"{path}: its format is {_short(tree['format'])}, but this version of galip reads {FORMAT}; "
            "evaluate the model again, or read it with the version that wrote it"
        )
    return _validated(Result, tree, str(path))


def write_rows(path: Path, rows: Iterable[Sample | NearestRow | ImageScores]) -> None:
    """Write rows as JSON lines, one a line, all of them or nothing; compressed if the name ends in `.gz`.

    Raises:
        GalipError: the file cannot be written.
    """
    _write(path, b"".join(_json(row.model_dump(mode="json")) for row in rows))


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """Read what `write_rows` wrote; a file that is not there has no rows.

    Args:
        path: the file.
        kind: what a row is: `Sample`, `NearestRow` or `ImageScores`.

    Raises:
        GalipError: the file is damaged; the message names the line.
    """
    try:
        with path.open("rb") as file:
            content = (gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file).read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ValueError(f"it holds more than {_MAX_BYTES >> 20} MB")
        text = content.decode("utf-8")
    except FileNotFoundError:
        return []
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise GalipError(
            f"{path}: cannot be read ({' '.join(str(error).split())}); evaluate the model again"
        ) from error
    rows = []
    # Not splitlines(): a caption may hold a line separator that JSON leaves as it is.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise GalipError(f"{path}, line {number}: no JSON; evaluate the model again") from error
        rows.append(_validated(kind, row, f"{path}, line {number}"))
    return rows


_Kind = TypeVar("_Kind", bound=BaseModel)


def _validated(kind: type[_Kind], tree: Any, where: str) -> _Kind:
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        problem = error.errors()[0]
        name = _short(".".join(str(part) for part in problem["loc"])) or "the whole"
        raise GalipError(f"{where}: damaged, {name}: {problem['msg']}; evaluate the model again") from error


def _short(value: Any) -> str:
    text = printable(str(value))
    return text if len(text) <= 80 else text[:77] + "..."


def _json(value: Any, indent: int | None = None) -> bytes:
    """A value and a line break. File names that are not UTF-8 hold halves of characters, which only escapes can say."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent).encode("utf-8") + b"\n"
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent).encode("ascii") + b"\n"


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # mtime 0: equal rows give equal bytes.
        write_bytes(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    except OSError as error:
        raise GalipError(f"{path}: cannot be written ({error.strerror or error}); name another file") from error
