"""A setting that does nothing is an error, and every setting that a named protocol fixes can be reached by custom."""

from __future__ import annotations

from typing import Any

import pytest

from galip.errors import InputError
from galip.evaluation.protocols import PROTOCOLS, get_protocol
from galip.evaluation.protocols.schema import FREE_SETTINGS
from galip.evaluation.references import References
from galip.evaluation.runner import resolved


def wish(metrics: tuple[str, ...] = (), **changes: Any) -> Any:
    return resolved(get_protocol("custom"), References(data="x"), changes, metrics)


@pytest.mark.parametrize(
    ("changes", "metrics", "complaint"),
    [
        ({"passes": 3}, (), "passes=3 does nothing here: it needs captions=passes"),
        ({"images": 5, "captions": "passes"}, (), "images=5 does nothing here: it needs captions=choose"),
        ({"pictures": 5, "captions": "passes"}, (), "images=5 does nothing"),  # the name of version 0.1
        ({"bundle": "emoji64"}, (), "bundle=emoji64 does nothing here: it needs captions=listed or reference=bundle"),
        ({"whole_batches_of": 64, "captions": "listed", "bundle": "emoji64"}, (), "whole_batches_of=64 does nothing"),
        (
            {"quantise": False},
            ("fid", "clip_score"),
            "quantise=False does nothing here: it needs a metric whose network",
        ),
        ({"kid_subsets": 5}, ("fid",), "kid_subsets=5 does nothing here: it needs a metric that uses it .kid."),
        ({"kid_subset_size": 5}, ("fid",), "kid_subset_size=5 does nothing"),
        ({"neighbours": 5}, (), "neighbours=5 does nothing here: it needs .*prdc_inception"),
        ({"among": 5}, ("fid",), "among=5 does nothing here: it needs .*r_precision"),
        ({"diversity_seeds": 5}, ("fid",), "diversity_seeds=5 does nothing here: it needs .*diversity"),
        ({"inception_resize": "clean"}, ("fd_clip",), "inception_resize=clean does nothing here: .*fid, kid"),
    ],
)
def test_a_setting_that_does_nothing_is_an_error(
    changes: dict[str, Any], metrics: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        wish(metrics, **changes)


def test_with_what_it_needs_it_does_something() -> None:
    assert wish(passes=3, captions="passes").passes == 3
    assert wish(("clip_score_released",), quantise=False).quantise is False
    assert wish(("fid",), quantise=False, inception_resize="clean").inception_resize == "clean"
    assert wish(("prdc_clip",), neighbours=5).neighbours == 5


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name != "custom"])
def test_custom_reaches_everything_that_a_named_protocol_fixes(name: str) -> None:
    named, custom = get_protocol(name), get_protocol("custom")
    values = named.model_dump()
    changes = {
        field: value
        for field, value in values.items()
        if field not in FREE_SETTINGS and value != custom.model_dump()[field]
    }
    assert resolved(custom, References(), changes, named.metrics).digest == named.digest
