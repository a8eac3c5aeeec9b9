"""Words that no caption contains: `synonyms.tsv`, its check, and the real pictures behind each word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from emoji_common import HERE, STYLES, Pictures

FILE = HERE / "synonyms.tsv"


def plain_words(text: str) -> str:
    """Lower case, without punctuation, a space around every word: "Flip-flop" -> " flip flop "."""
    return " " + " ".join(re.findall(r"\w+", text.lower())) + " "


def read_synonyms(path: Path = FILE) -> list[tuple[str, str]]:
    """(synonym, label) of each line; the label is an emojibase English one."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [tuple(line.split("\t")) for line in lines]
    wrong = [number for number, pair in enumerate(pairs, 1) if len(pair) != 2 or not all(map(str.strip, pair))]
    if wrong:
        raise SystemExit(f"{path}: line {wrong[0]} is not a synonym, a tab and a label")
    return pairs  # type: ignore[return-value]


def check_synonyms(pairs: Sequence[tuple[str, str]], rows: Iterable[dict[str, object]]) -> None:
    """Make sure that the pairs can measure what they are for.

    Args:
        pairs: (synonym, label).
        rows: the metadata of every picture, trained on or held out.

    Raises:
        SystemExit: a label is no row's, a synonym or a label comes twice (it could be taken for another), or a caption
            or tag of any row contains a synonym as a whole word or phrase. All such pairs are named.
    """
    rows = list(rows)
    labels = {str(row["label"]) for row in rows}
    said = {plain_words(text) for row in rows for text in (*row["captions"], *row["tags"])}  # type: ignore[misc]
    everything = "\n".join(sorted(said))
    synonyms, meant = Counter(plain_words(synonym) for synonym, _ in pairs), Counter(label for _, label in pairs)
    wrong = []
    for synonym, label in pairs:
        if label not in labels:
            wrong.append(f"{synonym!r}: no picture has the label {label!r}")
        elif plain_words(synonym) in everything:
            text = next(text for text in sorted(said) if plain_words(synonym) in text)
            wrong.append(f"{synonym!r}: a caption or tag contains it ({text.strip()!r})")
        elif synonyms[plain_words(synonym)] > 1 or meant[label] > 1:
            wrong.append(f"{synonym!r}: it or its label {label!r} comes twice")
    if wrong:
        raise SystemExit("synonyms.tsv: replace or remove these lines\n  " + "\n  ".join(wrong))


def synonym_pictures(pairs: Sequence[tuple[str, str]], parts: Sequence[Pictures]) -> Pictures:
    """One real picture of each pair's label, with the single caption "{style} emoji of {synonym}".

    The styles take turns; where the label has no picture in the style whose turn it is, the next one serves.

    Args:
        pairs: (synonym, label), checked.
        parts: where the pictures are looked for.
    """
    places = {
        (str(row["label"]), str(row["style"])): (part, number)
        for part in reversed(parts)
        for number, row in enumerate(part.rows)
    }
    images, rows = [], []
    for turn, (synonym, label) in enumerate(pairs):
        styles = [STYLES[(turn + offset) % len(STYLES)] for offset in range(len(STYLES))]
        style = next(style for style in styles if (label, style) in places)
        part, number = places[label, style]
        images.append(part.images[number])
        rows.append(part.rows[number] | {"captions": [f"{style} emoji of {synonym}"]})
    return Pictures(torch.stack(images), rows)
