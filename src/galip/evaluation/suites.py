"""Prompt suites: captions by category, so that a score says at what a model is good and at what it is not.

Two come with the package (`suites/*.yaml`); a file of one's own does as well.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from galip.errors import GalipError, InputError
from galip.generation.prompts import clean_caption
from galip.utils.untrusted import parse_json

UNSORTED = "prompts"
"""The category of prompts whose file names none."""

_BUNDLED = Path(__file__).with_name("suites")


@dataclass(frozen=True)
class Prompt:
    """What is to be generated, cleaned as captions are, and the category under which its score is reported."""

    text: str
    category: str


@dataclass(frozen=True)
class Suite:
    """Prompts by category, each text once.

    Attributes:
        name: a bundled suite's name, or the name of the user's file.
        version: raised with every change of a bundled suite's prompts; 1 where a file says nothing.
        prompts: in the file's order.
    """

    name: str
    version: int
    prompts: tuple[Prompt, ...]

    @property
    def categories(self) -> tuple[str, ...]:
        """Each category once, in the file's order."""
        return tuple(dict.fromkeys(prompt.category for prompt in self.prompts))

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of prompts and categories, in order, whatever the file's form."""
        rows = [[prompt.category, prompt.text] for prompt in self.prompts]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def suite_names() -> tuple[str, ...]:
    """The bundled suites, by name."""
    return tuple(sorted(path.stem for path in _BUNDLED.glob("*.yaml")))


def read_suite(name_or_file: str | Path) -> Suite:
    """Read a bundled suite, or a file of one's own.

    The forms of a file, by its suffix: `.txt`, one prompt a line; `.yaml`, `.yml` or `.json`, a mapping of categories
    to lists of prompts, with or without a number `version`; `.jsonl`, one row {"prompt": ..., "category": ...} a line,
    whose other fields are left alone. Blank lines do not count. Prompts without a category get the category "prompts".

    Args:
        name_or_file: one of `suite_names()`, or the path of a file.

    Raises:
        InputError: there is no such suite, or the file's suffix is none of these.
        GalipError: the file cannot be read, or a prompt in it is empty, no text, or there twice; the message names the
            file and the place.
    """
    name = str(name_or_file)
    if name in suite_names():
        return _read(_BUNDLED / f"{name}.yaml", name)
    path = Path(name_or_file)
    if not path.suffix and not path.exists():
        near = difflib.get_close_matches(name, suite_names(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(
            f"prompts {name!r}: {hint}name a bundled suite ({', '.join(suite_names())}) "
            f"or a file ({', '.join(_READERS)})"
        )
    if path.suffix.lower() not in _READERS:
        raise InputError(
            f"{path}: prompts are read from files that end with {', '.join(_READERS)}; rename or convert it"
        )
    return _read(path, path.name)


# Where it stands ("line 7"), its category, the prompt as written.
_Row = tuple[str, str, str]


@dataclass
class _File:
    """A file's text, and its version, which the reader of its form finds."""

    path: Path
    text: str
    version: int = 1

    def error(self, where: str, problem: str) -> GalipError:
        return GalipError(f"{self.path}{', ' if where else ''}{where}: {problem}")


def _read(path: Path, name: str) -> Suite:
    try:
        file = _File(path, path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise GalipError(f"{path}: cannot be read ({error.strerror or error}); name a file of prompts") from error
    except UnicodeDecodeError as error:
        raise GalipError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    prompts = []
    first_at: dict[str, str] = {}
    for where, category, written in _READERS[path.suffix.lower()](file):
        try:
            prompt = Prompt(clean_caption(written), clean_caption(category))
        except InputError as error:
            raise file.error(where, str(error)) from None
        # Twice the same would weigh twice, and could never be told from itself.
        if prompt.text in first_at:
            raise file.error(where, f"{prompt.text!r} is there already, {first_at[prompt.text]}; leave one of them out")
        first_at[prompt.text] = where
        prompts.append(prompt)
    if not prompts:
        raise file.error("", "it holds no prompts; see docs/evaluation.md for the forms of a file")
    return Suite(name, file.version, tuple(prompts))


def _lines(file: _File) -> Iterator[tuple[str, str]]:
    # Not splitlines(), which also breaks at characters that editors count as part of a line.
    for number, line in enumerate(file.text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", line


def _from_txt(file: _File) -> Iterator[_Row]:
    for where, line in _lines(file):
        yield where, UNSORTED, line


def _from_jsonl(file: _File) -> Iterator[_Row]:
    for where, line in _lines(file):
        try:
            row = parse_json(line)
        except ValueError as error:
            raise file.error(where, f"not JSON ({error})") from error
        if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
            raise file.error(where, 'not a row {"prompt": ..., "category": ...}; the prompt must be a string')
        category = row.get("category", UNSORTED)
        if not isinstance(category, str):
            raise file.error(where, f"the category is {category!r}; give a string, or leave it out")
        yield where, category, row["prompt"]


def _from_json(file: _File) -> Iterator[_Row]:
    def no_key_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise file.error("", f"{twice[0]!r} is there twice; put its prompts into one list")
        return dict(pairs)

    try:
        tree = json.loads(file.text, object_pairs_hook=no_key_twice)
    except json.JSONDecodeError as error:
        raise file.error(f"line {error.lineno}", f"not JSON ({error.msg}, column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise file.error("", f"not JSON ({error or 'nested too deep'})") from error
    if not isinstance(tree, dict):
        raise file.error("", 'not a mapping of categories to lists of prompts, as in {"colours": ["a red cup"]}')
    for category, values in tree.items():
        if category == "version" and type(values) is int:
            file.version = values
            continue
        if not isinstance(values, list) or not values:
            raise file.error(f"category {category!r}", "not a list of prompts; give it some, or leave it out")
        for number, value in enumerate(values, start=1):
            where = f"category {category!r}, prompt {number}"
            if not isinstance(value, str):
                raise file.error(where, f"{value!r} is no string; put it in quotes")
            yield where, category, value


def _from_yaml(file: _File) -> Iterator[_Row]:
    # Nodes instead of values: they know their lines, and a prompt such as "no" or "12" stays the text that it is.
    try:
        root = yaml.compose(file.text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise file.error(where, f"not YAML ({error.problem})") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise file.error("", f"not YAML ({' '.join(str(error).split())})") from error
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        raise file.error(
            _line(root), "not a mapping of categories to lists of prompts (`colours:`, then `- a red cup`)"
        )
    first_at: dict[str, str] = {}
    for key, values in root.value:
        if not isinstance(key, yaml.ScalarNode):
            raise file.error(_line(key), "not a category's name")
        category = key.value
        if category in first_at:
            raise file.error(_line(key), f"{category!r} is there already, {first_at[category]}; make it one list")
        first_at[category] = _line(key)
        if category == "version" and values.tag == "tag:yaml.org,2002:int" and values.value.isdecimal():
            file.version = int(values.value)
            continue
        if not isinstance(values, yaml.SequenceNode) or not values.value:
            raise file.error(_line(key), f"{category!r} is not a list of prompts; give it some, or leave it out")
        for value in values.value:
            if not isinstance(value, yaml.ScalarNode):
                raise file.error(
                    _line(value), "not a prompt but something with a structure of its own; put it in quotes"
                )
            yield _line(value), category, value.value


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


_READERS: dict[str, Callable[[_File], Iterator[_Row]]] = {
    ".txt": _from_txt,
    ".yaml": _from_yaml,
    ".yml": _from_yaml,
    ".json": _from_json,
    ".jsonl": _from_jsonl,
}
