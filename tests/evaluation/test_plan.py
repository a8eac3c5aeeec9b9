"""Exactly the asked images, chosen the same way for ever."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
from evaluation import small
from evaluation.small import rules

from galip.data.folder import CaptionedFolder
from galip.errors import InputError
from galip.evaluation.plan import ListedCaption, Plan
from galip.evaluation.planning import make_plan, plan_of_images
from galip.evaluation.protocols import get_protocol
from galip.evaluation.suites import Prompt, Suite

SUITE = Suite(
    "mine", 1, (Prompt("a red cup", "colours"), Prompt("two cups", "counts"), Prompt("a blue cup", "colours"))
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> CaptionedFolder:
    return CaptionedFolder(small.images(tmp_path_factory.mktemp("plan") / "data", 20, captions=5))


def check(plan: Plan, seed: int = 0) -> None:
    """What holds for every plan."""
    assert [row.number for row in plan.samples] == list(range(len(plan.samples)))
    assert [row.seed for row in plan.samples] == [seed + row.number for row in plan.samples]


def test_every_record_once_unless_told_otherwise(source: CaptionedFolder) -> None:
    plan = make_plan(rules("fid"), source)
    check(plan)
    assert len(plan.compared) == len(plan.samples) == 20
    assert sorted(row.record for row in plan.samples if row.record is not None) == list(range(20))
    assert sorted(plan.reference) == list(range(20))
    assert all(row.caption in source.captions_at(row.record) for row in plan.samples if row.record is not None)
    assert plan.deviations == []


def test_chosen_are_exactly_n_different_ones_and_their_images_are_the_reference(source: CaptionedFolder) -> None:
    plan = make_plan(rules("fid", images=7), source)
    records = [row.record for row in plan.samples]
    assert len(plan.samples) == len(set(records)) == 7
    assert sorted(plan.reference) == sorted(records)  # type: ignore[type-var]
    every = make_plan(rules("fid", images=7, reference="all"), source)
    assert every.samples == plan.samples and sorted(every.reference) == list(range(20))
    for reference in ("statistics", "none"):
        assert make_plan(rules("fid", reference=reference), source).reference == []


def test_choices_are_pinned(source: CaptionedFolder) -> None:
    """Were one of these numbers to change, so would every published one."""
    plan = make_plan(rules("fid", images=6), source)
    chosen = [(row.record, source.captions_at(row.record or 0).index(row.caption)) for row in plan.samples]
    assert chosen == PINNED
    assert plan.reference == PINNED_REFERENCE
    other = make_plan(rules("fid", images=6, seed=1), source)
    check(other, seed=1)
    assert [row.record for row in other.samples] == PINNED_OTHER


PINNED = [(6, 2), (13, 0), (7, 0), (11, 2), (3, 3), (10, 3)]
PINNED_REFERENCE = [6, 13, 11, 10, 3, 7]
PINNED_OTHER = [3, 18, 1, 15, 16, 10]


def test_a_larger_choice_holds_the_smaller_one(source: CaptionedFolder) -> None:
    few, more = (make_plan(rules("fid", images=count), source).samples for count in (6, 15))
    assert more[:6] == few
    assert few == make_plan(rules("fid"), source).samples[:6]


def test_the_order_has_nothing_to_do_with_the_datas(source: CaptionedFolder) -> None:
    """Halves of the reference and the first rows of both sets are taken for samples of them."""
    plan = make_plan(rules("fid"), source)
    order = [row.record for row in plan.samples]
    assert order != sorted(order) and plan.reference != sorted(plan.reference)  # type: ignore[type-var]
    assert order != plan.reference


def test_passes_generate_every_record_each_time_with_a_caption_chosen_anew(source: CaptionedFolder) -> None:
    plan = make_plan(get_protocol("cub").changed(metrics=("fid",)), source)
    check(plan)
    assert len(plan.compared) == 12 * 20
    for one in range(12):
        part = plan.samples[20 * one : 20 * (one + 1)]
        assert sorted(row.record for row in part if row.record is not None) == list(range(20))
    assert set(Counter(row.record for row in plan.samples).values()) == {12}
    assert sorted(plan.reference) == list(range(20))
    captions = {row.caption for row in plan.samples if row.record == 3}
    assert 3 <= len(captions) <= 5  # of five, twelve times


def test_captions_are_generated_evenly(source: CaptionedFolder) -> None:
    plan = make_plan(rules("fid", captions="passes", passes=50), source)
    places = Counter(source.captions_at(row.record or 0).index(row.caption) for row in plan.samples)
    assert sorted(places) == [0, 1, 2, 3, 4]
    assert all(150 < count < 250 for count in places.values())  # 200 +- 4 standard deviations


def test_too_few_records_are_refused_and_other_data_is_told(source: CaptionedFolder) -> None:
    with pytest.raises(InputError, match="fid30k_coco256 generates 30000 images.*the data has 20"):
        make_plan(get_protocol("fid30k_coco256"), source)
    with pytest.raises(InputError, match="custom generates 21 images"):
        make_plan(rules("fid", images=21), source)
    assert len(make_plan(rules("fid", images=20), source).samples) == 20
    (told,) = make_plan(get_protocol("cub"), source).deviations
    assert "2933 images" in told and "has 20" in told and "CUB-200-2011" in told
    assert make_plan(get_protocol("cub").changed(records=20), source).deviations == []


def test_listed_captions_are_generated_in_their_order() -> None:
    listed = [ListedCaption("a cat", True, ("seen",)), ListedCaption("a dog", False, ("held out",))]
    plan = make_plan(get_protocol("emoji64").changed(metrics=("fd_judge",)), None, listed)
    check(plan)
    assert [(row.caption, row.compared, row.groups) for row in plan.samples] == [
        ("a cat", True, ("seen",)),
        ("a dog", False, ("held out",)),
    ]
    assert plan.reference == [] and all(row.record is None for row in plan.samples)
    with pytest.raises(InputError, match="none are given"):
        make_plan(get_protocol("emoji64"))


def test_suites_are_generated_as_well_and_change_nothing_else(source: CaptionedFolder) -> None:
    without = make_plan(rules("clip_score"), source)
    plan = make_plan(rules("clip_score"), source, suites=[SUITE])
    check(plan)
    assert plan.samples[:20] == without.samples and plan.reference == without.reference
    assert [(row.caption, row.compared, row.groups) for row in plan.samples[20:]] == [
        ("a red cup", False, ("colours",)),
        ("two cups", False, ("counts",)),
        ("a blue cup", False, ("colours",)),
    ]
    two = make_plan(rules("clip_score"), source, suites=[SUITE, dataclasses.replace(SUITE, name="other")])
    assert [row.groups[0] for row in two.samples[22:24]] == ["mine/colours", "other/colours"]


def test_prompts_alone_are_the_whole() -> None:
    plan = make_plan(rules("clip_score", captions="prompts", reference="none"), suites=[SUITE])
    check(plan)
    assert len(plan.compared) == 3 and plan.reference == []
    with pytest.raises(InputError, match="name --data or --prompts"):
        make_plan(rules("clip_score", captions="prompts", reference="none"))


def test_families_differ_in_seeds_only_and_are_not_compared(source: CaptionedFolder) -> None:
    without = make_plan(rules("clip_score", captions="passes", passes=2), source, suites=[SUITE])
    protocol = rules("clip_score", "diversity", captions="passes", passes=2, diversity_captions=5, diversity_seeds=3)
    plan = make_plan(protocol, source, suites=[SUITE])
    check(plan)
    assert plan.samples[: len(without.samples)] == without.samples
    families = plan.samples[len(without.samples) :]
    assert [row.family for row in families] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert not any(row.compared or row.groups or row.record is not None for row in families)
    captions = [families[3 * family].caption for family in range(5)]
    assert len(set(captions)) == 5
    assert all(row.caption == captions[row.family] for row in families)
    assert len({row.seed for row in plan.samples}) == len(plan.samples)
    few = make_plan(rules("diversity", diversity_captions=1000), source)
    assert max(row.family for row in few.samples) + 1 == len({row.caption for row in few.compared})


def test_data_is_asked_for() -> None:
    with pytest.raises(InputError, match="cub needs captioned images: give --data .*CUB-200-2011"):
        make_plan(get_protocol("cub"))


def test_the_digest_is_of_every_row(source: CaptionedFolder) -> None:
    plan = make_plan(rules("fid"), source)
    digests = {
        plan.digest,
        Plan(plan.samples[:-1], plan.reference).digest,
        Plan(plan.samples, plan.reference[1:]).digest,
    }
    for change in ({"caption": "x"}, {"seed": 99}, {"compared": False}, {"groups": ("g",)}, {"family": 0}):
        digests.add(Plan([dataclasses.replace(plan.samples[0], **change), *plan.samples[1:]], plan.reference).digest)  # type: ignore[arg-type]
    assert len(digests) == 8
    assert make_plan(rules("fid"), source).digest == plan.digest


def test_images_generated_earlier_must_be_exactly_n(source: CaptionedFolder, tmp_path: Path) -> None:
    generated = CaptionedFolder(small.images(tmp_path / "generated", 7, seed=1))
    named = rules("fid", name="mine", images=8)
    with pytest.raises(InputError, match="mine needs exactly 8 generated images; there are 7"):
        plan_of_images(named, generated, source)
    plan = plan_of_images(named.changed(images=7), generated, source)
    assert [row.caption for row in plan.compared] == [generated.captions_at(row.earlier)[0] for row in plan.compared]
    assert sorted(row.earlier for row in plan.compared) == list(range(7))
    assert len(plan.reference) == 7 and all(row.record is None for row in plan.samples)
    assert len(plan_of_images(rules("fid", images=8), generated, source).compared) == 7  # custom
    with pytest.raises(InputError, match="emoji64 asks for captions of its own"):
        plan_of_images(get_protocol("emoji64"), generated)
