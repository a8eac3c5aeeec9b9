"""What a protocol fixes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from galip.errors import InputError
from galip.evaluation.metrics.registry import METRICS
from galip.evaluation.metrics.settings import InceptionResize, MetricSettings

FREE_SETTINGS = frozenset({"name", "about", "split", "metrics", "spaces"})
"""Settings that change no number: texts, and which metrics are asked for."""

_ADDED = ("bundle", "expected_images", "whole_batches_of", "inception_resize")
"""Fields that version 0.1 did not have. At their defaults they are left out of results, whose digests stay equal."""


class Protocol(MetricSettings):
    """What is generated, what it is compared with, and how. Equal protocols give comparable numbers.

    An image's seed is `seed` plus its number, and images and captions are chosen by hashes of `seed` and the record's
    number, so neither batch size nor processes nor library versions change them.
    """

    name: str
    about: str = Field("", description="one or two sentences for people")
    split: str = Field("", description="the data that it is for, in words")
    records: int = Field(0, ge=0, description="records that this data has; 0: any number")
    captions: Literal["choose", "passes", "listed", "prompts", "none"] = Field(
        "choose",
        description="choose: `images` records, one caption of each; passes: all records, `passes` times, one caption "
        "each time; listed: the bundle's captions; prompts: the prompt suites alone; none: given images without "
        "captions",
    )
    # The alias is the name in result files, which do not change with the code's words.
    images: int = Field(0, ge=0, alias="pictures", description="records that are chosen; 0: all of them")
    passes: int = Field(1, ge=1, description="times that every record is used, each time with a caption chosen anew")
    whole_batches_of: int = Field(
        0,
        ge=0,
        description="each pass takes the records in batches of so many and leaves an incomplete last one out; 0: every "
        "record is used",
    )
    expected_images: int = Field(0, ge=0, description="N: exactly so many images are compared; 0: as many as there are")
    resolution: int = Field(0, ge=0, description="side in pixels at which both are compared; 0: the model's own")
    quantise: bool = Field(True, description="whether generated images become 8-bit, as saved images do")
    inception_resize: InceptionResize = Field(
        "tensorflow",
        description="how images reach Inception's 299 px: as in the original FID code, as in pytorch-fid, or by "
        "antialiased bicubic as in clean-fid",
    )
    reference: Literal["asked", "all", "statistics", "bundle", "none"] = Field(
        "asked",
        description="asked: the real images of the chosen captions; all: every image of the data; statistics: an "
        ".npz file; bundle: features that come with the package; none: no real images, so no distances to them",
    )
    bundle: str = Field("", description="the package's files for `captions: listed` and `reference: bundle`")
    metrics: tuple[str, ...] = Field(description="names of metrics")
    truncation: float = Field(1.0, gt=0, description="multiplies the noise")
    seed: int = Field(0, ge=0)
    diversity_captions: int = Field(100, ge=1)
    diversity_seeds: int = Field(4, ge=2)
    suites: tuple[str, ...] = Field((), description="prompt suites that are generated as well, scored by category")

    @property
    def resize(self) -> InceptionResize | None:
        """How images reach Inception's size, where it is not as the network's library does by itself."""
        by_library = self.inception_resize == "tensorflow" and self.captions != "none"
        return None if by_library else self.inception_resize

    @property
    def native(self) -> InceptionResize | None:
        """How images of any size reach Inception's; None where they are brought to `resolution` first."""
        return self.inception_resize if self.captions == "none" else None

    @property
    def spaces(self) -> tuple[str, ...]:
        """The feature spaces that its metrics need, in the order of their first use."""
        return tuple(dict.fromkeys(METRICS[name].space for name in self.metrics))

    @property
    def compared_spaces(self) -> tuple[str, ...]:
        """Those in which generated and real images are compared."""
        metrics = (METRICS[name] for name in self.metrics)
        return tuple(dict.fromkeys(metric.space for metric in metrics if metric.family.compares))

    @property
    def families(self) -> frozenset[str]:
        """Names of the formulas that its metrics use."""
        return frozenset(METRICS[name].family.name for name in self.metrics)

    def settings(self) -> dict[str, Any]:
        """Its values as results hold them: JSON values under the names of result files."""
        values = self.model_dump(mode="json", by_alias=True)
        unchanged = {name for name in _ADDED if values[name] == Protocol.model_fields[name].default}
        return {name: value for name, value in values.items() if name not in unchanged}

    @property
    def digest(self) -> str:
        """Of everything but the name, the texts and which metrics were asked for: 16 hexadecimal digits."""
        return digest_of_settings(self.settings())

    def changed(self, **changes: Any) -> Protocol:
        """A copy with other values, checked.

        Raises:
            InputError: no such field, a value out of range, an unknown metric.
        """
        return checked(self.model_dump() | by_field_name(changes))


def digest_of_settings(settings: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of what changes numbers in settings."""
    fixed = {name: value for name, value in settings.items() if name not in FREE_SETTINGS}
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:16]


def by_field_name(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values under the fields' own names, where they may be under those of result files."""
    names = {field.alias: name for name, field in Protocol.model_fields.items() if field.alias}
    return {names.get(name, name): value for name, value in values.items()}


def checked(values: Mapping[str, Any]) -> Protocol:
    """A protocol of these values.

    Raises:
        InputError: no such field, a value out of range, no or an unknown metric.
    """
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
