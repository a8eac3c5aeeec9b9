"""A model's papers: its card, with licence and data in the front matter, and what else goes along when it is saved."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from galip.model_repo.format import CARD, DISCRIMINATOR, OPTIMIZERS, TRAINING
from galip.utils.atomic import write_text
from galip.utils.untrusted import MAX_YAML_BYTES, parse_yaml

HOW_TO_USE = """\
```python
import galip

pipe = galip.load("owner/name")  # this model's hub id, or its folder
pipe("{prompt}", seed=0).images[0].save("image.png")
```

Without galip, on torch, transformers and diffusers alone (this runs the model's `pipeline.py`, so read it first):

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("owner/name", custom_pipeline="pipeline", trust_remote_code=True)
pipe("{prompt}", seed=0).images[0].save("image.png")
```
"""
"""How a model is used, for its card; `prompt` is to be filled in."""

_DATASET_ID = re.compile(r"(?:hf://datasets/)?([A-Za-z0-9][\w.-]*/[\w.-]+)")

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


def about(file: Path) -> str:
    """The first sentence of a model card's text: what the model generates; empty where there is none."""
    if not file.is_file():
        return ""
    with file.open("rb") as opened:
        text = opened.read(MAX_YAML_BYTES).decode("utf-8-sig", errors="replace").replace("\r\n", "\n")
    if text.startswith("---\n"):
        text = text[4:].partition("\n---")[2].partition("\n")[2]
    blocks = (block.strip() for block in text.split("\n\n"))
    prose = (re.sub(r"^#[^\n]*\n+", "", block) for block in blocks)
    first = next((block for block in prose if block and block[0].isalnum()), "")
    sentence = re.split(r"(?<=[.!?])\s", " ".join(first.split()))[0]
    return sentence if len(sentence) <= _MAX_CHARACTERS else ""


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


def front_matter(licence: str = "", source: str = "", prompts: Sequence[str] = ()) -> str:
    """The front matter of a card, as the hub reads it.

    Args:
        licence: of the weights; empty where nobody has said.
        source: what the model was trained on. Only a data set of the hub ("hf://datasets/owner/name/...") is named.
        prompts: examples.
    """
    facts: dict[str, Any] = {"library_name": "galip", "pipeline_tag": "text-to-image"}
    if licence:
        facts["license"] = licence
    if source.startswith("hf://datasets/") and (found := _DATASET_ID.match(source)):
        facts["datasets"] = [found.group(1)]
    facts["tags"] = ["galip", "gan"]
    if prompts:
        facts["widget"] = [{"text": prompt} for prompt in prompts[:3]]
    return f"---\n{yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)}---\n"


def source_name(source: str) -> str:
    """What a card calls the data: an address as it is, of a path on somebody's machine the last part alone."""
    return source if "://" in source else Path(source).name or source


def write_missing_card(folder: Path) -> None:
    """Give a model folder a card that says how the model is used, if it has none."""
    if not (folder / CARD).is_file():
        text = f"{front_matter()}# A GALIP model\n\nIt generates images of prompts in one forward pass.\n\n"
        write_text(folder / CARD, text + HOW_TO_USE.format(prompt="a prompt"))


def copy_papers(source: Path, folder: Path, discriminator: bool = True) -> None:
    """Copy what lies beside a model's parts: card, licence, training.json, pictures of the card.

    Args:
        source: the model.
        folder: its copy.
        discriminator: copy what training goes on from, too.
    """
    beside = (f"{DISCRIMINATOR}/config.json", f"{DISCRIMINATOR}/*.safetensors", OPTIMIZERS) if discriminator else ()
    for pattern in (CARD, TRAINING, "LICENSE*", "*.png", *beside):
        for file in source.glob(pattern):
            goal = folder / file.relative_to(source)
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, goal)


def _names(value: Any) -> tuple[str, ...]:
    """Names of a list or a single one. What is neither text nor number is left out: nothing is unfolded for it."""
    values = value if isinstance(value, list) else [value]
    names = [one for one in values[:_MAX_NAMES] if isinstance(one, str | int | float) and one]
    return tuple(str(name)[:_MAX_CHARACTERS] for name in names)
