"""A model's card: what its front matter says of licence and data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from galip.utils.untrusted import MAX_YAML_BYTES, parse_yaml

_MAX_NAMES, _MAX_CHARACTERS = 100, 200


def read_card(file: Path) -> dict[str, Any]:
    """The front matter of a model card; empty where there is none or it cannot be read."""
    if not file.is_file():
        return {}
    with file.open("rb") as opened:
        text = opened.read(MAX_YAML_BYTES).decode("utf-8-sig", errors="replace").replace("\r\n", "\n")
    if not text.startswith("---\n") or "\n---" not in text[4:]:
        return {}
    try:
        card = parse_yaml(text[4:].split("\n---", 1)[0])
    except ValueError:
        return {}
    return card if isinstance(card, dict) else {}


def licence_of(card: Mapping[str, Any]) -> str | None:
    """The licence that a card names; None where it names none."""
    # The hub wants `license: other` with the true name beside it for anything that it does not know.
    named = card.get("license_name") if card.get("license") == "other" else None
    return ", ".join(_names(named or card.get("license"))) or None


def trained_on(card: Mapping[str, Any], training: Mapping[str, Any]) -> tuple[str, ...]:
    """The data sets that a card names, or else the source that a run's record names."""
    named = card.get("datasets")
    if not named:
        config = training.get("config")
        data = config.get("data") if isinstance(config, dict) else None
        named = data.get("source") if isinstance(data, dict) else None
    return _names(named)


def _names(value: Any) -> tuple[str, ...]:
    """Names of a list or a single one. What is neither text nor number is left out: nothing is unfolded for it."""
    values = value if isinstance(value, list) else [value]
    names = [one for one in values[:_MAX_NAMES] if isinstance(one, str | int | float) and one]
    return tuple(str(name)[:_MAX_CHARACTERS] for name in names)
