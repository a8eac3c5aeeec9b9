"""A file of prompts, however long, cut into blocks that are generated independently of each other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from galip.bulk.lines import Keys, PromptLine, read_line, read_lines
from galip.bulk.worker import generate
from galip.data.skips import Skipped
from galip.data_prep.base import Item, key_of
from galip.errors import GalipError, InputError
from galip.generation.noise import check_seed
from galip.generation.prompts import clean_caption
from galip.serving.model_worker import ModelSpec
from galip.serving.pool import DEFAULT_QUALITY, ImageFormat, ImageRequest, WeightedPrompt

SPLIT = "drawn"
"""The folder of the shards in OUT."""

NOT_GENERATED, NO_PROMPT = "cannot be generated", "no prompt"


@dataclass(frozen=True)
class GenerationOptions:
    """What is generated of each prompt, and by what.

    Attributes:
        spec: the model; images do not depend on its engine, device, threads and batch size, but on its precision.
        weights: fingerprint of the model's weights, as `galip.model_repo.fingerprint.fingerprint` gives it.
        number: images of each prompt.
        seed: of the first image of line 1; images count on from it, in the order of the lines.
        truncation: multiplies the noise.
        size: side in pixels; None: the model's own.
        format, quality: of the files.
    """

    spec: ModelSpec
    weights: str
    number: int = 1
    seed: int = 0
    truncation: float = 1.0
    size: int | None = None
    format: ImageFormat = "png"
    quality: int = DEFAULT_QUALITY

    def recorded(self) -> dict[str, Any]:
        """What the images depend on, as JSON."""
        return {
            "weights": self.weights,
            "number": self.number,
            "seed": self.seed,
            "truncation": self.truncation,
            "size": self.size,
            "picture_format": self.format,
        } | ({} if self.spec.precision in (None, "fp32") else {"precision": self.spec.precision})


@dataclass(frozen=True)
class PromptBlock:
    """Neighbouring lines of a file; a block of `galip.data_prep.base`.

    Attributes:
        path: the file.
        offset, size: where the lines stand in it, in bytes.
        line: number of the first one, from 1.
        rows: how many of them hold a prompt.
        digest: SHA-256 of the lines.
        options: what is generated of them.
    """

    path: Path
    offset: int
    size: int
    line: int
    rows: int
    digest: str
    options: GenerationOptions = field(repr=False)

    @property
    def expected(self) -> int | None:
        """The number of images."""
        return self.rows * self.options.number

    def identity(self) -> Any:
        """The lines, and their place in the file, on which seeds depend."""
        return [self.digest, self.line]

    def items(self) -> Iterator[Item | Skipped]:
        """Generate the images, a batch at a time.

        Raises:
            GalipError: the file has changed since it was listed, or the model cannot be loaded.
        """
        batch: list[tuple[Item, ImageRequest]] = []
        for found in self._requests():
            if isinstance(found, Skipped):
                yield found
                continue
            batch.append(found)
            if len(batch) == self.options.spec.batch_size:
                yield from self._generate(batch)
                batch = []
        if batch:
            yield from self._generate(batch)

    def _generate(self, batch: list[tuple[Item, ImageRequest]]) -> Iterator[Item | Skipped]:
        results = generate(self.options.spec, [request for _, request in batch])
        for (item, _), result in zip(batch, results, strict=True):
            if isinstance(result, GalipError):
                yield Skipped(NOT_GENERATED, f"{item.name}: {result}")
            else:
                yield Item(item.key, item.captions, item.split, result.data, item.name, extra=item.extra)

    def _requests(self) -> Iterator[tuple[Item, ImageRequest] | Skipped]:
        """Every image of the block: what its record will say, without the image, and what it is generated of."""
        options = self.options
        size = None if options.size is None else (options.size, options.size)
        for line in self._lines():
            try:
                prompt = clean_caption(line.prompt)
            except InputError as error:
                yield Skipped(NO_PROMPT, f"line {line.number}: {error}")
                continue
            first = first_seed(line, options)
            for number in range(options.number):
                seed = first + number
                extra = {**line.extra, "seed": seed, "truncation": options.truncation, "weights": options.weights}
                item = Item(
                    record_key(line, number, options), (prompt,), SPLIT, b"", f"line {line.number}", extra=extra
                )
                yield (
                    item,
                    ImageRequest(
                        (WeightedPrompt(prompt, seed),),
                        options.truncation,
                        size,
                        format=options.format,
                        quality=options.quality,
                    ),
                )

    def _lines(self) -> Iterator[PromptLine]:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise GalipError(f"{self.path}: it has changed since this command began; run it again with the file it was")
        for number, text in enumerate(content.split(b"\n"), self.line):
            if (line := read_line(text, number, self.path)) is not None:
                yield line


def list_blocks(path: Path, options: GenerationOptions, rows: int) -> list[PromptBlock]:
    """Read a file of prompts once, line by line, and cut it into blocks.

    Args:
        path: UTF-8 text with one prompt a line, or, named .jsonl, a JSON object a line.
        options: what is generated of each line.
        rows: prompts of a block.

    Raises:
        InputError: a line is not UTF-8 or not such a JSON object, has an invalid seed or one that is too large, or the
            key of another line; or there is no prompt at all. The message names the line.
        OSError: the file cannot be read.
    """
    blocks: list[PromptBlock] = []
    keys = Keys(path)
    with path.open("rb") as file:
        lines = read_lines(file, path)
        while taken := _take(lines, rows, path):
            for line in taken.lines:
                check_seeds(line, options, path)
                keys.add(line)
            offset = blocks[-1].offset + blocks[-1].size + 1 if blocks else 0
            blocks.append(PromptBlock(path, offset, taken.size, taken.first, len(taken.lines), taken.digest, options))
    keys.check()
    blocks = [block for block in blocks if block.rows]
    if not blocks:
        raise InputError(f"{path}: it holds no prompts; one a line is needed")
    return blocks


class _Taken(NamedTuple):
    lines: list[PromptLine]
    first: int
    size: int
    digest: str


def _take(lines: Iterator[tuple[int, bytes]], rows: int, path: Path) -> _Taken | None:
    """The next lines, with up to `rows` prompts; blank lines after the last prompt belong to the next block."""
    found: list[PromptLine] = []
    raw: list[bytes] = []
    first = 0
    for number, text in lines:
        first = first or number
        raw.append(text)
        if (line := read_line(text, number, path)) is not None:
            found.append(line)
            if len(found) == rows:
                break
    if not raw:
        return None
    content = b"\n".join(raw)
    return _Taken(found, first, len(content), hashlib.sha256(content).hexdigest())


def first_seed(line: PromptLine, options: GenerationOptions) -> int:
    """The seed of a line's first image."""
    return options.seed + (line.number - 1) * options.number if line.seed is None else line.seed


def check_seeds(line: PromptLine, options: GenerationOptions, path: Path) -> None:
    """Make sure that all images of a line have seeds.

    Raises:
        InputError: one would be too large.
    """
    try:
        check_seed(first_seed(line, options) + options.number - 1)
    except InputError as error:
        raise InputError(f"{path}, line {line.number}: {error}") from None


def record_key(line: PromptLine, number: int, options: GenerationOptions) -> str:
    """The key of a line's image in its shard: the line's own key or number, and the image's number if needed."""
    name = f"{line.number:09d}" if line.key is None else line.key
    return key_of(name if options.number == 1 else f"{name}-{number}")
