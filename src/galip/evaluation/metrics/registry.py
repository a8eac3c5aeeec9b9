"""Every metric by name: in whose features it is computed, by which function, and which way is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from galip.evaluation.metrics import families
from galip.evaluation.metrics.families import MANIFOLD, Family

Better = Literal["lower", "higher", ""]
ARROWS: dict[Better, str] = {"lower": "↓", "higher": "↑", "": ""}

OWN_SPACES = ("own", "released")
"""Spaces of the CLIP inside the evaluated model: with the model's own input mapping, and with the release's."""

UNQUANTISED_SPACES = ("inception-torchvision", "released")
"""Spaces that the release measured on images which were never 8-bit."""


@dataclass(frozen=True)
class Meaning:
    """What a number says to a reader.

    Attributes:
        title: its name for people.
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


@dataclass(frozen=True)
class Metric:
    """A registered metric.

    Attributes:
        space: the feature network that looks (`OWN_SPACES`, "judge", or a name of the extractors' registry).
        family: the formula, with its function and its needs.
        numbers: what it gives: the numbers' names in results, and what they mean.
    """

    space: str
    family: Family
    numbers: dict[str, Meaning]


METRICS: dict[str, Metric] = {}
"""Every metric by name."""

_DISTANCES = {
    "fd": (families.FRECHET, Meaning("FD", "lower", "Fréchet distance to the real images in a network's features.")),
    "mmd": (families.MMD, Meaning("MMD", "lower", "Distance to the real images, whatever their distribution is.")),
}
_MANIFOLD = {
    "precision": Meaning("Precision", "higher", "Share of generated images that lie among the real ones."),
    "recall": Meaning("Recall", "higher", "Share of real images that lie among the generated ones."),
    "density": Meaning("Density", "higher", "How deep among the real images the generated ones lie; 1 for real ones."),
    "coverage": Meaning("Coverage", "higher", "Share of real images with a generated one near by."),
}
_CAPTIONS = {
    "clip_score": (
        families.ALIGNMENT,
        Meaning("CLIP score", "higher", "How well images fit their captions, as a CLIP judges."),
    ),
    "r_precision": (
        families.R_PRECISION,
        Meaning("R-precision", "higher", "How often the caption is the nearest of many to its image."),
    ),
    "diversity": (
        families.DIVERSITY,
        Meaning("Diversity", "", "How much images of one caption differ from seed to seed."),
    ),
}
_FID = Meaning("FID", "lower", "How far the distribution of generated images is from real ones, as Inception sees.")
_KID = Meaning("KID", "lower", "As FID, without its bias towards large samples.")


def register_metric(name: str, space: str, family: Family, meaning: Meaning, by: str = "") -> None:
    """Give a metric its name.

    Args:
        name: in protocols, options and results.
        space: whose features it is computed in.
        family: the formula.
        meaning: of its number.
        by: what is added to the title in brackets; empty: nothing.
    """
    METRICS[name] = Metric(space, family, {name: _titled(meaning, by)})


def register_distances(space: str, by: str) -> None:
    """Register `fd_SPACE`, `mmd_SPACE` and `prdc_SPACE`.

    Args:
        space: the feature network.
        by: its name for people.
    """
    for start, (family, meaning) in _DISTANCES.items():
        register_metric(f"{start}_{space}", space, family, meaning, by)
    _register_manifold(space, by)


def numbers_of(metrics: Sequence[str]) -> list[str]:
    """The names of the numbers that metrics give: their own, or four for `prdc_SPACE`."""
    return [number for name in metrics for number in METRICS[name].numbers]


def meaning_of(number: str) -> Meaning:
    """What a number of a result means, by its name; a name that is not registered stands for itself."""
    for metric in METRICS.values():
        if number in metric.numbers:
            return metric.numbers[number]
    words = number.replace("_", " ").strip()
    return Meaning(words[:1].upper() + words[1:])


def _titled(meaning: Meaning, by: str) -> Meaning:
    return Meaning(f"{meaning.title} ({by})" if by else meaning.title, meaning.better, meaning.says)


def _register_manifold(space: str, by: str) -> None:
    numbers = {f"{name}_{space}": _titled(_MANIFOLD[name], by) for name in MANIFOLD}
    METRICS[f"prdc_{space}"] = Metric(space, families.PRDC, numbers)


register_metric("fid", "inception", families.FRECHET, _FID)
register_metric("kid", "inception", families.KERNEL, _KID)
register_metric("fid_released", "inception-torchvision", families.FRECHET, _FID, "the release's way")
_register_manifold("inception", "Inception")
for _space, _by in (("clip", "CLIP"), ("dinov2", "DINOv2"), ("judge", "judge")):
    register_distances(_space, _by)
for _start, (_family, _meaning) in _CAPTIONS.items():
    register_metric(_start, "clip", _family, _meaning)
    register_metric(f"{_start}_judge", "judge", _family, _meaning, "judge")
    register_metric(f"{_start}_own", "own", _family, _meaning, "the loss's own CLIP")
register_metric("clip_score_released", "released", *_CAPTIONS["clip_score"], "the release's way")
