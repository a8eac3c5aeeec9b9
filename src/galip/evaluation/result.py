"""What one evaluation found: the numbers, and everything that says what they are numbers of.

A result is `NAME.json`. Beside it a folder `NAME.files/` holds what is looked at rather than compared: a few pictures
from best to worst (`samples.jsonl`), drawn pictures beside their nearest training pictures (`nearest.jsonl`), and the
scores of every single picture (`per_picture.jsonl.gz`). A result stays valid without that folder.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from galip.errors import GalipError
from galip.utils.atomic import write_text

FORMAT = 1
SAMPLES = "samples.jsonl"
NEAREST = "nearest.jsonl"
PER_PICTURE = "per_picture.jsonl.gz"


class _Record(BaseModel):
    # Infinity and NaN are no JSON; a number that could not be computed is left out and gets a flag.
    # Without protected names, `model_digest` may be called what it is.
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())


class Number(_Record):
    """One number with what is known of its error."""

    value: float
    low: float | None = Field(None, description="lower end of the interval")
    high: float | None = Field(None, description="upper end of the interval")
    interval: str = Field("", description='how the interval was made: "bootstrap over pictures, 95 %"')
    count: int | None = Field(None, ge=0, description="pictures that it is over")


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
    """One evaluation. `metrics`, `floors` and `groups` use the same names of metrics."""

    format: int = FORMAT
    protocol: str = Field(description="registered name")
    protocol_digest: str = Field(description="of everything that fixes the numbers, but not of the model")
    settings: dict[str, Any] = Field(description="the resolved protocol, as JSON values")
    model: str
    model_digest: str
    images_seen: int | None = Field(None, ge=0, description="in training, where the model says so")
    data: str
    data_digest: str
    n_drawn: int = Field(ge=0)
    n_reference: int | None = Field(None, ge=0)
    metrics: dict[str, Number] = Field(default_factory=dict)
    floors: dict[str, Number] = Field(default_factory=dict, description="real pictures measured against real ones")
    groups: dict[str, dict[str, Number]] = Field(default_factory=dict, description="by category of the captions")
    group_floors: dict[str, dict[str, Number]] = Field(
        default_factory=dict, description="the same of the captions' real pictures"
    )
    extractors: dict[str, ExtractorUsed] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    machine: dict[str, str | int | float] = Field(default_factory=dict)
    seed: int
    seconds: float = Field(ge=0)
    flags: list[Flag] = Field(default_factory=list)

    @field_validator("settings", mode="before")
    @classmethod
    def _plain(cls, settings: Any) -> Any:
        """What the file will hold: a tuple is a list there, and results are compared as they are read."""
        try:
            return json.loads(json.dumps(settings, allow_nan=False))
        except TypeError as error:  # pydantic knows ValueError alone
            raise ValueError(str(error)) from error


class Sample(_Record):
    """A row of `samples.jsonl`: a picture that is shown. Paths are relative to the folder."""

    number: int = Field(ge=0, description="of the asked picture")
    caption: str
    seed: int
    group: str = Field("", description="category of the caption")
    score: float = Field(description="the CLIP score that the pictures are ordered by")
    rank: Literal["best", "middle", "worst"]
    picture: str
    real: str | None = Field(None, description="the real picture of the caption")


class Neighbour(_Record):
    """A training picture near a drawn one."""

    picture: str
    distance: float
    name: str = Field("", description="its name in the training data")


class NearestRow(_Record):
    """A row of `nearest.jsonl`: a drawn picture and its nearest training pictures, the nearest first."""

    picture: str
    caption: str
    seed: int
    distance: float
    neighbours: list[Neighbour]


class PictureScores(_Record):
    """A row of `per_picture.jsonl.gz`."""

    number: int = Field(ge=0)
    caption: str
    seed: int
    scores: dict[str, float]


Row = TypeVar("Row", Sample, NearestRow, PictureScores)


def files_of(path: Path) -> Path:
    """The folder beside a result: `out/result.json` has `out/result.files`."""
    return path.with_suffix(".files")


def write_result(path: Path, result: Result) -> None:
    """Write a result so that `path` holds either all of it or what was there before.

    Equal results give equal bytes. The folder of `path` is made where it is missing.

    Raises:
        GalipError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(result.model_dump(mode="json"), ensure_ascii=False, indent=1) + "\n")
    except OSError as error:
        raise GalipError(f"{path}: cannot be written ({error.strerror}); name another file") from error


def read_result(path: Path) -> Result:
    """Read a result.

    Raises:
        GalipError: there is no such file, it is damaged or no result, or another version of its format.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise GalipError(f"{path}: there is no such file; name a result that galip evaluate wrote") from error
    except OSError as error:
        raise GalipError(f"{path}: cannot be read ({error.strerror}); name a file written by galip evaluate") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise GalipError(f"{path}: not whole, or no JSON ({_in_one_line(error)}); evaluate the model again") from error
    if not isinstance(tree, dict) or "format" not in tree or "protocol" not in tree:
        raise GalipError(f"{path}: no result of galip evaluate (it has no format and protocol); name one that is")
    if tree["format"] != FORMAT:
        raise GalipError(
            f"{path}: its format is {tree['format']!r}, but this version of galip reads {FORMAT}; "
            "evaluate the model again, or read it with the version that wrote it"
        )
    return _validated(Result, tree, str(path))


def write_rows(path: Path, rows: Iterable[Sample | NearestRow | PictureScores]) -> None:
    """Write rows as JSON lines, one a line, all of them or nothing; compressed if the name ends in `.gz`.

    Raises:
        GalipError: the file cannot be written.
    """
    lines = "".join(json.dumps(row.model_dump(mode="json"), ensure_ascii=False) + "\n" for row in rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".gz":
            _write_compressed(path, lines)
        else:
            write_text(path, lines)
    except OSError as error:
        raise GalipError(f"{path}: cannot be written ({error.strerror}); name another file") from error


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """Read what `write_rows` wrote; a file that is not there has no rows.

    Args:
        path: the file.
        kind: what a row is: `Sample`, `NearestRow` or `PictureScores`.

    Raises:
        GalipError: the file is damaged; the message names the line.
    """
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except FileNotFoundError:
        return []
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise GalipError(f"{path}: cannot be read ({_in_one_line(error)}); evaluate the model again") from error
    rows = []
    # Not splitlines(): a caption may hold a line separator that JSON leaves as it is.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise GalipError(f"{path}, line {number}: no JSON; evaluate the model again") from error
        rows.append(_validated(kind, row, f"{path}, line {number}"))
    return rows


_Kind = TypeVar("_Kind", bound=BaseModel)


def _validated(kind: type[_Kind], tree: Any, where: str) -> _Kind:
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(str(part) for part in problem["loc"]) or "the whole"
        raise GalipError(f"{where}: damaged, {name}: {problem['msg']}; evaluate the model again") from error


def _write_compressed(path: Path, text: str) -> None:
    # mtime 0: equal rows give equal bytes.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
