"""What a metric's name in a result means to a reader: its title, which way is better, what it says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Better = Literal["lower", "higher", ""]
ARROWS: dict[Better, str] = {"lower": "↓", "higher": "↑", "": ""}


@dataclass(frozen=True)
class Meaning:
    """How a metric is shown.

    Attributes:
        title: for people.
        better: which way is better; empty where neither is.
        says: one sentence; empty where nothing is known.
    """

    title: str
    better: Better = ""
    says: str = ""

    @property
    def headed(self) -> str:
        """The title with an arrow that says which way is better."""
        return f"{self.title} {ARROWS[self.better]}".rstrip()


_MEANINGS = {
    "fid": Meaning("FID", "lower", "How far the distribution of drawn pictures is from real ones, as Inception sees."),
    "kid": Meaning("KID", "lower", "As FID, without its bias towards large samples."),
    "fd": Meaning("FD", "lower", "Fréchet distance to the real pictures in the features of another network."),
    "mmd": Meaning("MMD", "lower", "Distance to the real pictures that assumes no shape of their distribution."),
    "precision": Meaning("Precision", "higher", "Share of drawn pictures that lie among the real ones."),
    "recall": Meaning("Recall", "higher", "Share of real pictures that lie among the drawn ones."),
    "density": Meaning("Density", "higher", "How deep among the real pictures the drawn ones lie; 1 for real ones."),
    "coverage": Meaning("Coverage", "higher", "Share of real pictures with a drawn one near by."),
    "clip_score": Meaning("CLIP score", "higher", "How well pictures fit their captions, as a CLIP judges."),
    "r_precision": Meaning("R-precision", "higher", "How often the caption is the nearest of many to its picture."),
    "diversity": Meaning("Diversity", "", "How much pictures of one caption differ from seed to seed."),
}
_SPACES = {
    "clip": "CLIP",
    "dinov2": "DINOv2",
    "inception": "Inception",
    "own": "the loss's own CLIP",
    "released": "the release's way",
}


def meaning_of(name: str) -> Meaning:
    """How to show a metric, by its name: "fid", "fd_clip", "clip_score_released".

    What follows the longest known name, the network that looks, is added to its title. A name that is not known stands
    for itself.
    """
    for known in sorted(_MEANINGS, key=len, reverse=True):
        if name == known:
            return _MEANINGS[known]
        if name.startswith(known + "_"):
            rest = name.removeprefix(known + "_")
            meaning = _MEANINGS[known]
            return replace(meaning, title=f"{meaning.title} ({_SPACES.get(rest, rest.replace('_', ' '))})")
    words = name.replace("_", " ").strip()
    return Meaning(words[:1].upper() + words[1:])
