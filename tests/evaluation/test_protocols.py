"""A name stands for everything that fixes the numbers, and cannot be bent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from evaluation import small

from galip.errors import InputError
from galip.evaluation.metrics.registry import METRICS
from galip.evaluation.protocols import PROTOCOLS, Protocol, get_protocol, register
from galip.evaluation.references import References
from galip.evaluation.runner import resolved
from galip.evaluation.suites import suite_names

OTHER: dict[str, Any] = {
    "records": 7,
    "captions": "passes",
    "images": 3,
    "passes": 2,
    "resolution": 128,
    "quantise": False,
    "reference": "all",
    "truncation": 0.5,
    "seed": 1,
    "kid_subsets": 5,
    "kid_subset_size": 50,
    "manifold_images": 100,
    "neighbours": 4,
    "coverage_neighbours": 4,
    "among": 10,
    "diversity_captions": 5,
    "diversity_seeds": 3,
    "bundle": "emoji64",
    "expected_images": 3,
    "whole_batches_of": 2,
    "inception_resize": "clean",
    "suites": ("general",),
}


def test_the_named_protocols_are_what_was_published() -> None:
    coco, cub, released, emoji = (get_protocol(n) for n in ("fid30k_coco256", "cub", "released_coco", "emoji64"))
    assert (coco.records, coco.captions, coco.images, coco.resolution) == (40504, "choose", 30000, 256)
    assert coco.quantise and coco.reference == "asked" and METRICS["fid"].space == "inception"
    assert (cub.records, cub.captions, cub.passes, cub.resolution, cub.reference) == (2933, "passes", 12, 256, "all")
    assert "35,196" in cub.about and 12 * 2933 == 35196
    assert released.spaces == ("inception-torchvision", "released")
    assert (emoji.captions, emoji.resolution, emoji.reference, emoji.suites) == ("listed", 64, "bundle", ("emoji",))
    assert set(PROTOCOLS) >= {"fid30k_coco256", "cub", "released_coco", "emoji64", "custom"}
    for protocol in PROTOCOLS.values():
        assert protocol.about and set(protocol.metrics) <= METRICS.keys() and set(protocol.suites) <= set(suite_names())


def test_what_version_0_1_measured_is_still_the_same() -> None:
    """Results of then can be compared with results of now."""
    digests = {"fid30k_coco256": "5c5cf67568b3b5f3", "cub": "09094b5aedd64cf8", "custom": "41f59eea5aea40bd"}
    assert {name: get_protocol(name).digest for name in digests} == digests


def test_every_setting_that_changes_a_number_changes_the_digest() -> None:
    free = {"name", "about", "split", "metrics"}
    assert OTHER.keys() | free == Protocol.model_fields.keys()
    custom = get_protocol("custom")
    digests = {custom.changed(**{field: value}).digest for field, value in OTHER.items()}
    assert len(digests | {custom.digest}) == len(OTHER) + 1
    assert custom.changed(name="mine", about="x", split="y", metrics=("fid",)).digest == custom.digest


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"pictrues": 5}, r"custom, pictrues: .*known: .*images"),
        ({"images": -1}, r"custom, images: .*greater than or equal to 0"),
        ({"images": "many"}, r"custom, images: .*integer"),
        ({"truncation": 0}, "custom, truncation: .*greater than 0"),
        ({"among": 1}, "custom, among: "),
        ({"diversity_seeds": 1}, "custom, diversity_seeds: "),
        ({"captions": "some"}, "custom, captions: "),
        ({"metrics": ("fid", "fidd")}, "metric 'fidd': there is no such metric; known: fid, kid"),
        ({"metrics": ()}, "no metric is asked for"),
    ],
)
def test_bad_values_are_named(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        get_protocol("custom").changed(**changes)


def test_a_protocol_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        get_protocol("custom").seed = 3


def test_names_are_taken_once_and_known(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="'fid30k': there is no such protocol; known: fid30k_"):
        get_protocol("fid30k")
    with pytest.raises(InputError, match="protocol cub: there is one of this name already"):
        register(Protocol(name="cub", metrics=("fid",)))
    with pytest.raises(InputError, match="no such metric"):
        register(Protocol(name="birds", metrics=("beauty",)))
    assert "birds" not in PROTOCOLS
    register(Protocol(name="birds", metrics=("fid",)))
    monkeypatch.delitem(PROTOCOLS, "birds")


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name not in ("custom", "images")])
def test_a_named_protocol_refuses_other_settings_but_not_a_choice_of_metrics(name: str) -> None:
    protocol = get_protocol(name)
    with pytest.raises(InputError, match=rf"protocol {name} fixes images: .*--protocol custom"):
        resolved(protocol, References(data="x"), {"images": 5})
    chosen = resolved(protocol, References(data="x"), {}, protocol.metrics[-1:])
    assert chosen.metrics == protocol.metrics[-1:] and chosen.digest == protocol.digest
    assert resolved(protocol, References(data="x"), {}) == protocol


def test_custom_looks_at_what_it_is_given() -> None:
    custom = get_protocol("custom")
    assert resolved(custom, References(data="x"), {"images": 5}) == custom.changed(images=5)
    prompts = resolved(custom, References(prompts=("general",)), {})
    assert (prompts.captions, prompts.reference) == ("prompts", "none")
    assert prompts.metrics == ("clip_score", "r_precision", "diversity")
    both = resolved(custom, References(data="x", prompts=("general",)), {})
    assert (both.captions, both.reference) == ("choose", "asked")
    assert both.metrics == custom.metrics
    statistics = resolved(custom, References(data="x", reference=Path("s.npz")), {})
    assert (statistics.captions, statistics.reference) == ("choose", "statistics")
    assert statistics.metrics == ("fid", "clip_score", "r_precision", "diversity")
    alone = resolved(custom, References(prompts=("general",), reference=Path("s.npz")), {})
    assert (alone.captions, alone.reference, alone.metrics) == ("prompts", "statistics", statistics.metrics)


def test_spaces_are_those_of_the_metrics_in_order() -> None:
    assert small.rules("clip_score_own", "fd_clip", "clip_score", "fid").spaces == ("own", "clip", "inception")
