"""Which pictures an evaluation draws: exactly N of them, each with its caption and its seed, whatever the hardware."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from galip.data.protocol import ImageSource
from galip.errors import InputError
from galip.evaluation.protocols import Protocol
from galip.evaluation.suites import Suite


@dataclass(frozen=True)
class Asked:
    """A picture that is drawn.

    Attributes:
        number: its place in the plan; the seed follows from it.
        caption: what is drawn.
        seed: of its noise.
        compared: whether it takes part in the comparison with the reference. Pictures of prompt suites, and the ones
            that only measure diversity, do not.
        record: the real picture of the caption; None where there is none.
        groups: categories that it counts for, beside the whole.
        earlier: the record of a picture that was drawn earlier; -1: it is drawn now.
        family: pictures of one family differ in their seeds only, and measure diversity; -1: none.
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
class Listed:
    """A caption that a bundle asks for."""

    caption: str
    compared: bool
    groups: tuple[str, ...] = ()


@dataclass
class Plan:
    """What is drawn, and the real pictures that go with it.

    Attributes:
        asked: the drawn pictures in order.
        reference: records of the reference set, in an order of their own; empty where features or statistics are given.
        unlike: where the data is not what the protocol expects; for the result's flags.
    """

    asked: list[Asked]
    reference: list[int] = field(default_factory=list)
    unlike: list[str] = field(default_factory=list)

    @property
    def compared(self) -> list[Asked]:
        """The pictures that are compared with the reference."""
        return [row for row in self.asked if row.compared]

    @property
    def digest(self) -> str:
        """Of every row, 16 hexadecimal digits."""
        rows = [[asdict(row) for row in self.asked], self.reference]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def make_plan(
    protocol: Protocol,
    source: ImageSource | None = None,
    listed: Sequence[Listed] = (),
    suites: Sequence[Suite] = (),
) -> Plan:
    """Lay out an evaluation.

    Args:
        protocol: the rules.
        source: the captioned real pictures; None where the protocol's captions are listed.
        listed: a bundle's captions, for a protocol that asks for them.
        suites: prompt suites; their categories become groups, "suite/category" where there are several suites. Their
            pictures count for the whole only where there are no others.

    Raises:
        InputError: the protocol needs data that is not given, or more pictures than there are.
    """
    rows: list[Asked] = []
    plan = Plan(rows)

    def ask(caption: str, **more: object) -> None:
        number = len(rows)
        rows.append(Asked(number, caption, protocol.seed + number, **more))  # type: ignore[arg-type]

    alone = protocol.captions == "prompts"
    if alone:
        if not suites:
            raise InputError(f"protocol {protocol.name}: neither data nor prompts are given; name --data or --prompts")
    elif protocol.captions == "listed":
        if not listed:
            raise InputError(f"protocol {protocol.name} draws listed captions, but none are given")
        for entry in listed:
            ask(entry.caption, compared=entry.compared, groups=entry.groups)
    else:
        if source is None:
            raise InputError(f"protocol {protocol.name} needs captioned pictures: give --data ({protocol.split})")
        if protocol.records and len(source) != protocol.records:
            plan.unlike.append(
                f"the protocol is for {protocol.split}, {protocol.records} pictures; this data has {len(source)}"
            )
        for number, occasion in _chosen(protocol, len(source)):
            captions = source.captions_at(number)
            caption = captions[_hashed(protocol.seed, "caption", number, occasion) % len(captions)]
            ask(caption, record=number)
        if protocol.reference == "all":
            plan.reference = _shuffled(protocol.seed, "reference", range(len(source)))
        elif protocol.reference == "asked":
            asked = {row.record for row in rows if row.record is not None}
            plan.reference = _shuffled(protocol.seed, "reference", asked)
    for suite in suites:
        for prompt in suite.prompts:
            group = prompt.category if len(suites) == 1 else f"{suite.name}/{prompt.category}"
            ask(prompt.text, compared=alone, groups=(group,))
    if any(name.startswith("diversity") for name in protocol.metrics):
        of_the_whole = list(dict.fromkeys(row.caption for row in rows if row.compared))
        for family, caption in enumerate(of_the_whole[: protocol.diversity_captions]):
            for _ in range(protocol.diversity_seeds):
                ask(caption, compared=False, family=family)
    return plan


def plan_of_pictures(protocol: Protocol, drawn: ImageSource, source: ImageSource | None = None) -> Plan:
    """The plan where somebody else's drawn pictures are evaluated: all of them, under their first captions.

    Args:
        protocol: the rules; N must be as it says.
        drawn: the drawn pictures with their captions.
        source: the real pictures, of which as many are chosen as the protocol says.

    Raises:
        InputError: the protocol needs another number of pictures, or data that is not given.
    """
    if protocol.captions not in ("choose", "passes"):
        raise InputError(
            f"protocol {protocol.name} asks for captions of its own, which pictures drawn earlier do not have; name a "
            "model"
        )
    plan = make_plan(protocol, source)
    wanted = len(plan.compared)
    if len(drawn) != wanted and protocol.name != "custom":
        raise InputError(f"protocol {protocol.name} needs exactly {wanted} drawn pictures; there are {len(drawn)}")
    order = _shuffled(protocol.seed, "drawn", range(len(drawn)))
    plan.asked, asked = [], Counter(row.caption for row in plan.compared)
    for number, record in enumerate(order):
        plan.asked.append(Asked(number, drawn.captions_at(record)[0], 0, earlier=record))
    if protocol.name != "custom":
        if asked != Counter(row.caption for row in plan.asked):
            plan.unlike.append("the captions of the pictures drawn earlier are not those that the protocol chooses")
        if not protocol.quantise:
            plan.unlike.append("the protocol compares pictures that were never 8-bit; pictures in files are")
    return plan


def _chosen(protocol: Protocol, total: int) -> list[tuple[int, int]]:
    """(record, occasion) of each compared picture."""
    order = _shuffled(protocol.seed, "record", range(total))
    if protocol.captions == "passes":
        return [(number, occasion) for occasion in range(protocol.passes) for number in order]
    count = protocol.pictures or total
    if count > total:
        raise InputError(
            f"protocol {protocol.name} draws {count} pictures, one for each of as many real ones; the data has {total}"
        )
    return [(number, 0) for number in order[:count]]


def _shuffled(seed: int, what: str, numbers: Iterable[int]) -> list[int]:
    """In an order that has nothing to do with the data's, so that every part of it is a sample of the whole.

    By hash and not by a library's random numbers, whose order a new version may change.
    """
    return sorted(numbers, key=lambda number: (_hashed(seed, what, number), number))


def _hashed(seed: int, *what: object) -> int:
    text = json.dumps(["galip", seed, *what])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
