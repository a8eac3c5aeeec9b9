"""Plans by the rules of a protocol: exactly N images, each with its caption and its seed, whatever the hardware."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from galip.errors import InputError
from galip.evaluation.image_sets import ImageSet
from galip.evaluation.plan import ListedCaption, Plan, PlannedSample
from galip.evaluation.protocols.schema import Protocol
from galip.evaluation.suites import Suite


def make_plan(
    protocol: Protocol,
    source: ImageSet | None = None,
    listed: Sequence[ListedCaption] = (),
    suites: Sequence[Suite] = (),
) -> Plan:
    """Lay out an evaluation.

    Args:
        protocol: the rules.
        source: the captioned real images; None where the protocol's captions are listed.
        listed: a bundle's captions, for a protocol that asks for them.
        suites: prompt suites; their categories become groups, "suite/category" where there are several suites. Their
            images count for the whole only where there are no others.

    Raises:
        InputError: the protocol needs data that is not given, or another number of images than there are.
    """
    plan = Plan([])

    def add(caption: str, **more: Any) -> None:
        number = len(plan.samples)
        plan.samples.append(PlannedSample(number, caption, protocol.seed + number, **more))

    prompts_alone = protocol.captions == "prompts"
    if prompts_alone:
        if not suites:
            raise InputError(f"protocol {protocol.name}: neither data nor prompts are given; name --data or --prompts")
    elif protocol.captions == "listed":
        if not listed:
            raise InputError(f"protocol {protocol.name} generates listed captions, but none are given; set bundle")
        for entry in listed:
            add(entry.caption, compared=entry.compared, groups=entry.groups)
    else:
        if source is None:
            raise InputError(f"protocol {protocol.name} needs captioned images: give --data ({protocol.split})")
        if protocol.records and len(source) != protocol.records:
            plan.deviations.append(
                f"the protocol is for {protocol.split}, {protocol.records} images; this data has {len(source)}"
            )
        for record, occasion in _chosen(protocol, len(source)):
            captions = source.captions_at(record)
            add(captions[_hashed(protocol.seed, "caption", record, occasion) % len(captions)], record=record)
        _check_count(protocol, len(plan.samples))
        plan.reference = _reference(protocol, len(source), plan)
    for suite in suites:
        for prompt in suite.prompts:
            group = prompt.category if len(suites) == 1 else f"{suite.name}/{prompt.category}"
            add(prompt.text, compared=prompts_alone, groups=(group,))
    if "diversity" in protocol.families:
        of_the_whole = list(dict.fromkeys(sample.caption for sample in plan.compared))
        for family, caption in enumerate(of_the_whole[: protocol.diversity_captions]):
            for _ in range(protocol.diversity_seeds):
                add(caption, compared=False, family=family)
    return plan


def plan_of_images(protocol: Protocol, generated: ImageSet, source: ImageSet | None = None) -> Plan:
    """The plan where somebody else's generated images are evaluated: all of them, under their first captions.

    Args:
        protocol: the rules; N must be as it says.
        generated: the images that were generated earlier.
        source: the real images, of which as many are chosen as the protocol says.

    Raises:
        InputError: the protocol needs another number of images, or data that is not given.
    """
    order = _shuffled(protocol.seed, "drawn", range(len(generated)))
    if protocol.captions == "none":
        total = 0 if source is None else len(source)
        plan = Plan([PlannedSample(number, "", 0, earlier=record) for number, record in enumerate(order)])
        plan.reference = _reference(protocol, total, plan)
        return plan
    if protocol.captions not in ("choose", "passes"):
        raise InputError(
            f"protocol {protocol.name} asks for captions of its own, which images generated earlier do not have; name "
            "a model"
        )
    plan = make_plan(protocol, source)
    wanted = len(plan.compared)
    if len(generated) != wanted and protocol.name != "custom":
        raise InputError(
            f"protocol {protocol.name} needs exactly {wanted} generated images; there are {len(generated)}"
        )
    wanted_captions = Counter(sample.caption for sample in plan.compared)
    plan.samples = [
        PlannedSample(number, generated.captions_at(record)[0], 0, earlier=record)
        for number, record in enumerate(order)
    ]
    if protocol.name != "custom":
        if wanted_captions != Counter(sample.caption for sample in plan.samples):
            plan.deviations.append("the captions of the given images are not those that the protocol chooses")
        if not protocol.quantise:
            plan.deviations.append("the protocol compares images that were never 8-bit; images in files are")
    return plan


def _chosen(protocol: Protocol, total: int) -> list[tuple[int, int]]:
    """(record, occasion) of each compared image."""
    order = _shuffled(protocol.seed, "record", range(total))
    if protocol.captions == "passes":
        passes = range(protocol.passes)
        if not protocol.whole_batches_of:
            return [(record, occasion) for occasion in passes for record in order]
        # As by a loader that shuffles for each pass: what is left out is not always the same.
        orders = [_shuffled(protocol.seed, f"record of pass {occasion}", range(total)) for occasion in passes]
        return [(record, occasion) for occasion in passes for record in _whole_batches(protocol, orders[occasion])]
    count = protocol.images or total
    if count > total:
        raise InputError(
            f"protocol {protocol.name} generates {count} images, one for each of as many real ones; the data has "
            f"{total}"
        )
    return [(record, 0) for record in _whole_batches(protocol, order[:count])]


def _whole_batches(protocol: Protocol, records: list[int]) -> list[int]:
    """Records without an incomplete last batch."""
    batch = protocol.whole_batches_of or 1
    kept = records[: len(records) // batch * batch]
    if not kept:
        raise InputError(f"protocol {protocol.name} takes whole batches of {batch}; there are {len(records)} images")
    return kept


def _check_count(protocol: Protocol, found: int) -> None:
    if protocol.expected_images and found != protocol.expected_images:
        raise InputError(
            f"protocol {protocol.name} is of exactly {protocol.expected_images:,} images, but this data gives "
            f"{found:,}; give --data {protocol.split or 'as it needs it'}"
        )


def _reference(protocol: Protocol, total: int, plan: Plan) -> list[int]:
    """Records of the reference set."""
    if protocol.reference == "all":
        return _shuffled(protocol.seed, "reference", range(total))
    if protocol.reference == "asked":
        records = {sample.record for sample in plan.samples if sample.record is not None}
        return _shuffled(protocol.seed, "reference", records)
    return []


def _shuffled(seed: int, what: str, numbers: Iterable[int]) -> list[int]:
    """In an order that has nothing to do with the data's, so that every part of it is a sample of the whole.

    By hash and not by a library's random numbers, whose order a new version may change.
    """
    return sorted(numbers, key=lambda number: (_hashed(seed, what, number), number))


def _hashed(seed: int, *what: object) -> int:
    text = json.dumps(["galip", seed, *what])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
