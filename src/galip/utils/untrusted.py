"""JSON and YAML that somebody else has written, read within bounds: size, depth, and what a text unfolds to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from galip.errors import GalipError

MAX_JSON_BYTES = 64 * 2**20
MAX_YAML_BYTES = 2**20
MAX_DEPTH = 100
MAX_YAML_NODES = 100_000
"""Values of a YAML text with every alias written out: a few lines of aliases of aliases can stand for billions."""


def read_json_object(file: Path, remedy: str) -> dict[str, Any]:
    """The object that a JSON file holds.

    Args:
        file: the file.
        remedy: what to do where it cannot be read, for the end of the message.

    Raises:
        GalipError: it is missing, too large or too deep, is not JSON, or holds something else.
    """
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"it is larger than {MAX_JSON_BYTES >> 20} MB")
        content = parse_json(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise GalipError(f"{file}: it is missing; {remedy}") from None
    except (OSError, ValueError) as error:
        raise GalipError(f"{file}: it cannot be read ({error}); {remedy}") from error
    if not isinstance(content, dict):
        raise GalipError(f"{file}: it does not hold a JSON object; {remedy}")
    return content


def parse_json(text: str) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: it is not JSON, or nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its values are nested too deep") from None


def parse_yaml(text: str) -> Any:
    """What a YAML text says, with plain types only.

    Raises:
        ValueError: it is not YAML, or too long, too deep, or its aliases unfold to too much. The message is one line.
    """
    if len(text) > MAX_YAML_BYTES:
        raise ValueError(f"it is longer than {MAX_YAML_BYTES >> 20} MB")
    try:
        _check_unfolded(text)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def _check_unfolded(text: str) -> None:
    """Count depth and values before anything is built of the text."""
    sizes: dict[str, int] = {}  # of what anchors stand for
    open_nodes: list[tuple[str | None, int]] = []  # anchor and size so far of the collections around the present place
    whole = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
            if len(open_nodes) > MAX_DEPTH:
                raise ValueError(f"its values are nested more than {MAX_DEPTH} deep")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias {event.anchor!r} stands for nothing, or for a value that holds itself")
            anchor, size = None, sizes[event.anchor]
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        if open_nodes:
            around, so_far = open_nodes[-1]
            size += so_far
            open_nodes[-1] = (around, size)
        whole = max(whole, size)
        if whole > MAX_YAML_NODES:
            raise ValueError(f"it unfolds to more than {MAX_YAML_NODES:,} values")
