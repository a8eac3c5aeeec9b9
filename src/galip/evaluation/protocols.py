"""Named protocols: everything about an evaluation that changes its numbers, fixed under a name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from galip.errors import InputError

Kind = Literal["frechet", "kernel", "mmd", "manifold", "alignment", "r_precision", "diversity"]
"""What is computed: Frechet distance; KID's polynomial and CMMD's Gaussian kernel distance; precision, recall, density
and coverage; cosine of picture and caption; retrieval of the caption; distance between pictures of one caption."""


@dataclass(frozen=True)
class Metric:
    """A number by name: what is computed, and in whose features.

    Attributes:
        kind: what is computed.
        space: the extractor that looks; "own" is the model's CLIP with its own input mapping, "released" the same with
            the release's.
        lower_is_better: how two values are ordered.
    """

    kind: Kind
    space: str
    lower_is_better: bool = False


def _metrics() -> dict[str, Metric]:
    named = {"fid": Metric("frechet", "inception", True), "kid": Metric("kernel", "inception", True)}
    named["fid_released"] = Metric("frechet", "inception-torchvision", True)
    for space in ("clip", "dinov2", "judge"):
        named[f"fd_{space}"] = Metric("frechet", space, True)
        named[f"mmd_{space}"] = Metric("mmd", space, True)
    for space in ("inception", "clip", "dinov2", "judge"):
        named[f"prdc_{space}"] = Metric("manifold", space)
    for space, ending in (("clip", ""), ("judge", "_judge"), ("own", "_own"), ("released", "_released")):
        named[f"clip_score{ending}"] = Metric("alignment", space)
        if space != "released":
            named[f"r_precision{ending}"] = Metric("r_precision", space)
            named[f"diversity{ending}"] = Metric("diversity", space)
    return named


METRICS: dict[str, Metric] = _metrics()
"""Every metric. `prdc_SPACE` gives four numbers: precision, recall, density and coverage."""

MANIFOLD = ("precision", "recall", "density", "coverage")


def numbers_of(metrics: Sequence[str]) -> list[str]:
    """The names of the numbers that metrics give: their own, or four for `prdc_SPACE`."""
    return [
        number
        for name in metrics
        for number in ([f"{part}_{METRICS[name].space}" for part in MANIFOLD] if name.startswith("prdc_") else [name])
    ]


class Protocol(BaseModel):
    """What is drawn, what it is compared with, and how. Equal protocols give comparable numbers.

    A picture's seed is `seed` plus its number, and pictures and captions are chosen by hashes of `seed` and the
    record's number, so neither batch size nor processes nor library versions change them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    about: str = Field("", description="what it is, and how close to what was published")
    split: str = Field("", description="the data that it is for, told to the user")
    records: int = Field(0, ge=0, description="records that this data has; 0: any number")
    captions: Literal["choose", "passes", "listed", "prompts"] = Field(
        "choose",
        description="choose: `pictures` records, one caption of each; passes: all records, `passes` times, one caption "
        "each time; listed: the bundle's captions; prompts: the prompt suites alone",
    )
    pictures: int = Field(0, ge=0, description="records that are chosen; 0: all of them")
    passes: int = Field(1, ge=1)
    resolution: int = Field(0, ge=0, description="side in pixels at which both are compared; 0: the model's own")
    quantise: bool = Field(True, description="whether drawn pictures become 8-bit, as saved pictures do")
    reference: Literal["asked", "all", "statistics", "bundle", "none"] = Field(
        "asked",
        description="asked: the real pictures of the drawn captions; all: every picture of the data; statistics: an "
        ".npz file; bundle: features that come with the package; none: no real pictures, so no distances to them",
    )
    metrics: tuple[str, ...] = Field(description="names of `METRICS`")
    truncation: float = Field(1.0, gt=0, description="multiplies the noise")
    seed: int = Field(0, ge=0)
    kid_subsets: int = Field(100, ge=1)
    kid_subset_size: int = Field(1000, ge=2)
    manifold_pictures: int = Field(10000, ge=2, description="at most so many of each side, as in the literature")
    neighbours: int = Field(3, ge=1, description="k of precision and recall")
    coverage_neighbours: int = Field(5, ge=1, description="k of density and coverage")
    among: int = Field(100, ge=2, description="captions to choose from for R-precision")
    diversity_captions: int = Field(100, ge=1)
    diversity_seeds: int = Field(4, ge=2)
    suites: tuple[str, ...] = Field((), description="prompt suites that are drawn as well, scored by category")

    @property
    def digest(self) -> str:
        """Of everything but the name, the texts and which metrics were asked for: 16 hexadecimal digits."""
        fixed = self.model_dump(mode="json", exclude={"name", "about", "split", "metrics"})
        return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def spaces(self) -> tuple[str, ...]:
        """The feature spaces that its metrics need, in the order of their first use."""
        return tuple(dict.fromkeys(METRICS[name].space for name in self.metrics))

    def changed(self, **changes: Any) -> Protocol:
        """A copy with other values, checked.

        Raises:
            InputError: no such field, a value out of range, an unknown metric.
        """
        return _checked(self.model_dump() | changes)


def _checked(values: dict[str, Any]) -> Protocol:
    try:
        protocol = Protocol.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        known = "" if field in Protocol.model_fields else f" (known: {', '.join(Protocol.model_fields)})"
        raise InputError(f"protocol {values.get('name')}, {field}: {problem['msg']}{known}") from error
    unknown = [name for name in protocol.metrics if name not in METRICS]
    if unknown:
        raise InputError(f"metric {unknown[0]!r}: there is no such metric; known: {', '.join(METRICS)}")
    if not protocol.metrics:
        raise InputError(f"protocol {protocol.name}: no metric is asked for; known: {', '.join(METRICS)}")
    return protocol


PROTOCOLS: dict[str, Protocol] = {}
"""The registered protocols by name."""


def register(protocol: Protocol) -> Protocol:
    """Give a protocol its name, for `get_protocol` and `--protocol`.

    Raises:
        InputError: the name is taken, or the protocol asks for an unknown metric.
    """
    if protocol.name in PROTOCOLS:
        raise InputError(f"protocol {protocol.name}: there is one of this name already")
    PROTOCOLS[protocol.name] = _checked(protocol.model_dump())
    return PROTOCOLS[protocol.name]


def get_protocol(name: str) -> Protocol:
    """A registered protocol.

    Raises:
        InputError: there is none of this name.
    """
    if name not in PROTOCOLS:
        raise InputError(f"protocol {name!r}: there is no such protocol; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


_IN_CLIP = ("fd_clip", "mmd_clip", "clip_score", "r_precision", "diversity")

register(
    Protocol(
        name="fid30k_coco256",
        about="30,000 captions of COCO val2014, one for each of 30,000 chosen pictures, which are the reference too; "
        "256 px, 8-bit; Inception as in the original FID code. For zero-shot and in-domain models.",
        split="COCO val2014 (`galip data prepare coco`, part validation)",
        records=40504,
        pictures=30000,
        resolution=256,
        metrics=("fid", "kid", "prdc_inception", *_IN_CLIP),
    )
)
register(
    Protocol(
        name="cub",
        about="Twelve passes over CUB's test pictures, one caption drawn for each picture and pass. The release "
        "dropped the last incomplete batch of its run, so that its exact number of pictures is unknown; here it is "
        "35,196.",
        split="CUB-200-2011 by classes (`galip data prepare cub --split-lists`, part test)",
        records=2933,
        captions="passes",
        passes=12,
        resolution=256,
        reference="all",
        metrics=("fid", "kid", *_IN_CLIP),
    )
)
register(
    Protocol(
        name="released_coco",
        about="The way the released code measured COCO: ImageNet Inception of torchvision, pictures of 224 px not "
        "quantised and bilinear to 299 without antialiasing, statistics from an .npz file; the CLIP score by the "
        "loss's own CLIP with the release's input mapping. For comparison with published figures only.",
        split="COCO val2014 (`galip data prepare coco`, part validation)",
        records=40504,
        pictures=30000,
        resolution=224,
        quantise=False,
        reference="statistics",
        metrics=("fid_released", "clip_score_released"),
    )
)
register(
    Protocol(
        name="emoji64",
        about="The bundled model's: captions of emoji that it was trained on and of ones that it was not, scored by a "
        "judge that took part in no training. Reference features come with the package.",
        captions="listed",
        resolution=64,
        reference="bundle",
        suites=("emoji",),
        metrics=("fd_judge", "mmd_judge", "prdc_judge", "clip_score_judge", "r_precision_judge", "diversity_judge"),
    )
)
register(
    Protocol(
        name="custom",
        about="All by options: every record of the data once, at the model's own size, unless told otherwise.",
        metrics=("fid", "kid", *_IN_CLIP),
    )
)
