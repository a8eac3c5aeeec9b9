"""The text side of the recipe's CLIP: its tokenizer, what is said of an emoji, and what MiniLM knows of it.

A text is a style and a subject: "noto emoji of red heart" is ("noto", "red heart"). The teacher reads subjects alone,
so that one of its vectors serves every style and template; a style is a number, `NO_STYLE` where none is named.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from emoji_common import Teacher
from transformers import CLIPModel, CLIPTokenizer

from galip.data_prep.emoji import STYLES as ART
from galip.data_prep.emoji import plain_label

CONTEXT = 32
HINTS = 3
"""Tags of an emoji that captions may use in its label's place."""
STYLES = tuple(style.word for style in ART)
NO_STYLE = len(STYLES)
CANONICAL = "{style} emoji of {subject}"
STYLED = (
    CANONICAL,
    "{style} {subject}",
    "{subject}, {style} style",
    "{subject}, {style}",
    "a {style} picture of a {subject}",
    "{subject} in {style} style",
    "a {style} emoji of a {subject}",
)
PLAIN = ("{subject}", "emoji of {subject}", "a {subject}", "a picture of a {subject}")
COLOURS = "red orange yellow green blue purple brown black white pink grey crimson golden turquoise".split()


@dataclass(frozen=True)
class Text:
    """What is said: the words, the number of the subject, the number of the style."""

    words: str
    subject: int
    style: int


class Speaker:
    """Makes texts: what can be said of each image, and phrases of which no image exists.

    Args:
        rows: the records of the training images.
        words: single words that any text may contain.
        phrases: how many subjects beyond labels, tags and words are made up.
        seed: of those.

    Attributes:
        subjects: every subject; a number in a `Text` counts them.
        said_of: for each image the subjects of its label, as it is and as a person would say it.
        hinted_at: for each image subjects made with a tag.
    """

    def __init__(self, rows: list[dict[str, Any]], words: list[str], phrases: int, seed: int) -> None:
        self.subjects: list[str] = []
        self._numbers: dict[str, int] = {}
        self.said_of, self.hinted_at = [], []
        for row in rows:
            label = str(row["label"])
            plain, tone = plain_label(label), label.partition(": ")[2] if "skin tone" in label else ""
            tags = [tag for tag in row["tags"] if len(tag) > 2] or [plain]
            tags = random.Random(label).sample(tags, min(HINTS, len(tags)))
            self.said_of.append([self._number(label), self._number(plain)])
            hints = [f"{tag} with {tone}" if tone else tag for tag in tags] + [f"{plain}, {tags[0]}"]
            self.hinted_at.append([self._number(hint) for hint in hints])
        self.styles = [STYLES.index(row["style"]) for row in rows]
        self.imagined = [self._number(text) for text in words]
        names = sorted({str(row["label"]) for row in rows} | {tag for row in rows for tag in row["tags"]})
        rng = random.Random(seed)
        while len(self.imagined) < len(words) + phrases:
            noun = rng.choice(words if rng.random() < 0.6 else names)
            shapes = (f"{rng.choice(COLOURS)} {noun}", f"{rng.choice(words)} {noun}", f"{noun} and {rng.choice(names)}")
            self.imagined.append(self._number(rng.choice((*shapes, f"{noun} {rng.choice(words)}"))))

    def _number(self, subject: str) -> int:
        if subject not in self._numbers:
            self._numbers[subject] = len(self.subjects)
            self.subjects.append(subject)
        return self._numbers[subject]

    def canonical(self, image: int) -> Text:
        """The canonical caption of an image."""
        return self._text(CANONICAL, self.said_of[image][0], self.styles[image])

    def naming_style(self, image: int, rng: random.Random) -> Text:
        """A caption of an image that means it alone; every other one is the canonical one."""
        if rng.random() < 0.5:
            return self.canonical(image)
        return self._text(rng.choice(STYLED), rng.choice(self.said_of[image]), self.styles[image], rng)

    def any(self, image: int, rng: random.Random) -> Text:
        """Any caption of an image: one in eight names no style, one in ten its tags."""
        subject = rng.choice(self.hinted_at[image]) if rng.random() < 0.1 else rng.choice(self.said_of[image])
        if rng.random() < 0.125:
            return self._text(rng.choice(PLAIN), subject, NO_STYLE)
        if rng.random() < 0.5:
            return self._text(CANONICAL, subject, self.styles[image])
        return self._text(rng.choice(STYLED), subject, self.styles[image], rng)

    def phrase(self, rng: random.Random) -> Text:
        """A word or phrase that need not mean any image, in any style or none."""
        subject, style = rng.choice(self.imagined), rng.randrange(NO_STYLE + 1)
        return self._text(rng.choice(PLAIN if style == NO_STYLE else STYLED), subject, style, rng)

    def _text(self, template: str, subject: int, style: int, rng: random.Random | None = None) -> Text:
        """With `rng`, another word for the style may be said."""
        word = "" if style == NO_STYLE else STYLES[style]
        if rng and style != NO_STYLE and rng.random() < 0.15:
            word = rng.choice(ART[style].others or (word,))
        return Text(template.format(style=word, subject=self.subjects[subject]), subject, style)


def seed_token_embeddings(model: CLIPModel, tokenizer: CLIPTokenizer, teacher: Teacher) -> None:
    """Start each token's embedding at the teacher's vector of its spelling, reduced to the tower's width by PCA.

    Most words are one token, so that the tower begins with the teacher's notion of which words are near each other.
    """
    spellings = [""] * len(tokenizer)
    for token, index in tokenizer.get_vocab().items():
        spellings[index] = token.removesuffix("</w>") or "</w>"
    vectors = teacher.encode_once(spellings)
    centred = vectors - vectors.mean(0)
    weight = model.text_model.embeddings.token_embedding.weight
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    reduced = centred @ directions[: weight.shape[1]].T
    with torch.no_grad():
        weight.copy_(reduced / reduced.std() * 0.05)


def token_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Token rows [N, L], as long as the longest needs."""
    rows = tokenizer(texts, truncation=True, max_length=CONTEXT, padding=True, return_tensors="pt")
    ids: torch.Tensor = rows["input_ids"]
    return ids


def text_vectors(model: CLIPModel, ids: torch.Tensor) -> torch.Tensor:
    """Sentence vectors [B, D] of token rows padded with the end token; run in four groups of like length."""
    lengths = (ids != ids[:, -1:]).sum(1) + 1  # the start token to the first end token
    order = lengths.argsort()
    parts = []
    for group in order.chunk(4):
        rows = ids[group, : int(lengths[group].max())]
        parts.append(model.text_projection(model.text_model(input_ids=rows).pooler_output))
    return torch.cat(parts)[order.argsort()]
