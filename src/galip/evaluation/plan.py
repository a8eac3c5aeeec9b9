"""What an evaluation looks at: which images, of which captions and seeds, and which real ones go with them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class PlannedSample:
    """An image that is evaluated.

    Attributes:
        number: its place in the plan; the seed follows from it.
        caption: what it is generated from; empty for images that have no captions.
        seed: of its noise.
        compared: whether it takes part in the comparison with the reference. Images of prompt suites, and the ones
            that only measure diversity, do not.
        record: the real image of the caption; None where there is none.
        groups: categories that it counts for, beside the whole.
        family: images of one family differ in their seeds only, and measure diversity; -1: none.
        earlier: the record of an image that was generated earlier; -1: it is generated now.
    """

    number: int
    caption: str
    seed: int
    compared: bool = True
    record: int | None = None
    groups: tuple[str, ...] = ()
    family: int = -1
    earlier: int = -1


@dataclass(frozen=True)
class ListedCaption:
    """A caption of a protocol's own list."""

    caption: str
    compared: bool
    groups: tuple[str, ...] = ()


@dataclass
class Plan:
    """All images of an evaluation, and the real ones that they are compared with.

    Attributes:
        samples: the evaluated images in order.
        reference: records of the reference set, in an order of their own; empty where features or statistics are given.
        deviations: where the data is not what the protocol expects; for the result's flags.
    """

    samples: list[PlannedSample]
    reference: list[int] = field(default_factory=list)
    deviations: list[str] = field(default_factory=list)

    @property
    def compared(self) -> list[PlannedSample]:
        """The images that are compared with the reference."""
        return [sample for sample in self.samples if sample.compared]

    @property
    def digest(self) -> str:
        """Of every sample, 16 hexadecimal digits."""
        rows = [[asdict(sample) for sample in self.samples], self.reference]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
