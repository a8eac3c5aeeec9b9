"""What a reader must know before believing a number: broken images, small samples, copies, a biased judge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from galip.evaluation.memorisation import Memorisation
from galip.evaluation.metrics.registry import METRICS, UNQUANTISED_SPACES
from galip.evaluation.metrics.task import FeatureSet, Measured
from galip.evaluation.pixel_facts import DEVIATION, SATURATED, hashes_of
from galip.evaluation.plan import Plan
from galip.evaluation.protocols.schema import Protocol
from galip.evaluation.result import Flag
from galip.evaluation.vectors import Vectors, tiles

FLAT = 0.01
"""Standard deviation of a channel's values, in [0, 1], below which there is nothing to see in an image."""

SATURATION = 0.25
"""So much larger a share of values at the ends of the range than in real images is suspicious."""

TOO_NEAR = 0.15
"""The baseline is taken from half as many images, so a perfect model gets about half of it. What gets less than this
share of it is made of the reference."""

SAME = 0.02
"""Mean distance between the images of one caption, by that between images of different ones: below, seeds do
nothing."""


def quality_flags(
    protocol: Protocol,
    plan: Plan,
    generated_facts: NDArray[np.float32],
    real_facts: NDArray[np.float32] | None,
    features: Mapping[str, FeatureSet],
    measured: Measured,
    own: set[str],
    memorised: Memorisation | None,
) -> list[Flag]:
    """Flags of an evaluation, the gravest first.

    Args:
        protocol: the rules.
        plan: what was generated.
        generated_facts: `PixelFacts` of all generated images, [N, 4].
        real_facts: of the reference images, [M, 4], if they are known.
        features: what each network saw.
        measured: the numbers.
        own: spaces whose network is the CLIP that the generator looks through.
        memorised: distances to the training images, if they are known.
    """
    flags = [Flag(level="warning", text=text) for text in plan.deviations]
    compared = [row.number for row in plan.compared]
    flags += _of_pixels(generated_facts[compared], real_facts)
    flags += _of_sizes(protocol, len(compared), features)
    flags += _of_captions(protocol, plan, own, features, measured)
    flags += _of_distances(measured, features)
    if memorised is not None:
        flags += _of_memory(memorised)
    flags += [
        Flag(level="invalid", about=name, text=f"could not be computed: {why}") for name, why in measured.failed.items()
    ]
    return sorted(flags, key=lambda flag: ("invalid", "warning", "note").index(flag.level))


def export_flags(clips: Iterable[str]) -> list[Flag]:
    """What cannot be told of an exported model: whether one of `clips`, spaces of the metrics, is the one inside it."""
    text = "an exported model does not tell which CLIP it looks through; if it is {}'s, these scores flatter it"
    return [Flag(level="note", text=text.format(space)) for space in clips]


def _level(grave: bool) -> Literal["invalid", "warning"]:
    return "invalid" if grave else "warning"


def _of_pixels(generated: NDArray[np.float32], real: NDArray[np.float32] | None) -> list[Flag]:
    flags = []
    count, hashes = len(generated), hashes_of(generated)
    different = len(np.unique(hashes))
    if different == 1 and count > 1:
        flags.append(Flag(level="invalid", text=f"all {count} generated images are the same: the generator is dead"))
    elif different < 0.98 * count:
        text = f"only {different} of {count} generated images are different: the generator has collapsed, or repeats"
        flags.append(Flag(level="warning", text=text))
    if flat := int((generated[:, DEVIATION] < FLAT).sum()):
        level = _level(2 * flat > count)
        flags.append(Flag(level=level, text=f"{flat} of {count} generated images are of one colour"))
    saturated, usual = float(generated[:, SATURATED].mean()), 0.0 if real is None else float(real[:, SATURATED].mean())
    if saturated > usual + SATURATION:
        beside = "" if real is None else f", {usual:.0%} in real ones"
        text = f"{saturated:.0%} of the generated images' values are at the end of the range{beside}: saturated"
        flags.append(Flag(level="warning", text=text))
    copies = 0 if real is None else int(np.isin(hashes, hashes_of(real)).sum())
    by_chance = 0.0 if real is None else count * len(real) / 2**32  # two images of one hash
    if copies > 10 * by_chance:
        level = _level(20 * copies > count)
        text = f"{copies} of {count} generated images are images of the reference, to the last bit"
        flags.append(Flag(level=level, text=text))
    return flags


def _of_sizes(protocol: Protocol, generated: int, features: Mapping[str, FeatureSet]) -> list[Flag]:
    flags = []
    for name in protocol.metrics:
        metric, here = METRICS[name], features[METRICS[name].space]
        if protocol.quantise and metric.space in UNQUANTISED_SPACES:
            text = "the release measured it on images that were never 8-bit nor resized; protocol released_coco does"
            flags.append(Flag(level="warning", about=name, text=text))
        if not metric.family.compares:
            continue
        reference = len(here.reference) if here.reference is not None else None
        if reference is None and here.statistics is not None:
            reference = here.statistics.count
        if metric.family.name == "frechet":
            dim, fewest = here.generated.shape[1], min(generated, reference or generated)
            if fewest <= dim:
                text = f"{fewest} images for features of {dim} numbers: the covariance is singular and the number too"
                flags.append(Flag(level="invalid", about=name, text=f"{text} large by an unknown amount; use more"))
            elif fewest < 2 * dim:
                text = f"{fewest} images for features of {dim} numbers: the number is too large by its sample's size"
                flags.append(Flag(level="warning", about=name, text=text))
        if reference is None:
            text = "how many images the reference's statistics are of is not known"
            flags.append(Flag(level="note", about=name, text=text))
        elif reference != generated and metric.family.name == "frechet":
            text = f"{generated} generated images are compared with {reference} real ones: its bias depends on both"
            flags.append(Flag(level="note" if protocol.reference == "all" else "warning", about=name, text=text))
        if here.reference is None:
            text = "no real-against-real baseline: of the reference there are statistics only"
            flags.append(Flag(level="note", about=name, text=text))
    return flags


def _of_captions(
    protocol: Protocol, plan: Plan, own: set[str], features: Mapping[str, FeatureSet], measured: Measured
) -> list[Flag]:
    flags = []
    for name in protocol.metrics:
        metric = METRICS[name]
        if metric.space in own and metric.family.name != "diversity":
            text = "by the CLIP that the generator looks through and was trained with: it flatters"
            flags.append(Flag(level="warning", about=name, text=text))
        if metric.family.name == "r_precision" and name in measured.metrics:
            small = [part for part, captions in _captions_of(plan).items() if 2 <= captions < protocol.among]
            if small:
                where = ", ".join(small)
                text = f"among all captions where there are fewer than {protocol.among}: {where}"
                flags.append(Flag(level="note", about=name, text=text))
        if metric.family.name == "diversity" and name in measured.metrics:
            generated = features[metric.space].generated
            usual = _spread(generated)
            if measured.metrics[name].value < SAME * usual:
                text = "images of one caption hardly differ from seed to seed: the noise has no effect"
                flags.append(Flag(level="warning", about=name, text=text))
    return flags


def _captions_of(plan: Plan) -> dict[str, int]:
    """How many different captions there are, in the whole and by category."""
    captions = {"the whole": {row.caption for row in plan.compared}}
    for row in plan.samples:
        for group in row.groups:
            captions.setdefault(group, set()).add(row.caption)
    return {part: len(different) for part, different in captions.items()}


def _spread(vectors: Vectors) -> float:
    """Root mean square distance between two of the unit vectors."""
    total = np.zeros(vectors.shape[1])
    for _, tile in tiles(vectors, "generated images"):
        total += (tile / np.linalg.norm(tile, axis=1, keepdims=True).clip(min=1e-12)).sum(0)
    return float(np.sqrt(2 * max(0.0, 1 - np.square(total / len(vectors)).sum())))


def _of_distances(measured: Measured, features: Mapping[str, FeatureSet]) -> list[Flag]:
    flags = []
    for name, number in measured.metrics.items():
        metric = METRICS.get(name)
        baseline = measured.real_baseline.get(name)
        if metric is None or metric.family.name != "frechet" or baseline is None:
            continue
        dim = features[metric.space].generated.shape[1]
        if baseline.count is not None and baseline.count <= dim:
            text = (
                f"the baseline is of {baseline.count} images a side, for features of {dim} numbers: it is far too large"
            )
            flags.append(Flag(level="note", about=name, text=text))
        elif number.value < TOO_NEAR * baseline.value:
            text = "far nearer to the reference than real images are to each other: these are its own images"
            flags.append(Flag(level="invalid", about=name, text=text))
    return flags


def _of_memory(memorised: Memorisation) -> list[Flag]:
    flags = []
    copies, usual = memorised.copies.value, memorised.held_out_copies.value
    near = memorised.near_copies
    if usual > 0.5:
        text = f"{usual:.1%} of the reference are training images: the memorisation check cannot tell copies from it"
        flags.append(Flag(level="warning", text=text))
    if copies > usual + 0.01:
        level = _level(copies > 0.5)
        text = f"{copies:.1%} of the generated images are training images ({usual:.1%} of real held-out ones are)"
        flags.append(Flag(level=level, text=text))
    elif near.low is not None and near.low > 0.02:
        text = f"{near.value:.1%} of the generated images are nearer to a training image than 99 % of real ones are"
        flags.append(Flag(level="warning", text=text))
    return flags
