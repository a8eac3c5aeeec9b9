"""Which settings do something, given the others: one that does nothing is a misunderstanding, and is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from galip.errors import InputError
from galip.evaluation.metrics.registry import METRICS, OWN_SPACES, UNQUANTISED_SPACES
from galip.evaluation.protocols.schema import Protocol

_FLOAT_SPACES = {*OWN_SPACES, *UNQUANTISED_SPACES}
_Needs = tuple[Callable[[Protocol], bool], str]


def _metrics_of(family: str) -> _Needs:
    names = [name for name, metric in METRICS.items() if metric.family.name == family]
    return lambda protocol: family in protocol.families, f"a metric that uses it ({', '.join(names)})"


def _from_data(protocol: Protocol) -> bool:
    return protocol.captions in ("choose", "passes")


def _from_bundle(protocol: Protocol) -> bool:
    return protocol.captions == "listed" or protocol.reference == "bundle"


def _unquantised(protocol: Protocol) -> bool:
    by_inception = "inception" in protocol.spaces and protocol.inception_resize != "tensorflow"
    return by_inception or not _FLOAT_SPACES.isdisjoint(protocol.spaces)


_NEEDS: dict[str, _Needs] = {
    "records": (_from_data, "captions choose or passes"),
    "images": (lambda protocol: protocol.captions == "choose", "captions=choose"),
    "passes": (lambda protocol: protocol.captions == "passes", "captions=passes"),
    "whole_batches_of": (_from_data, "captions choose or passes"),
    "expected_images": (_from_data, "captions choose or passes"),
    "bundle": (_from_bundle, "captions=listed or reference=bundle"),
    "quantise": (_unquantised, "a metric whose network takes unquantised images"),
    "inception_resize": (lambda protocol: "inception" in protocol.spaces, "a metric of Inception (fid, kid)"),
    "kid_subsets": _metrics_of("kernel"),
    "kid_subset_size": _metrics_of("kernel"),
    "manifold_images": _metrics_of("manifold"),
    "neighbours": _metrics_of("manifold"),
    "coverage_neighbours": _metrics_of("manifold"),
    "among": _metrics_of("r_precision"),
    "diversity_captions": _metrics_of("diversity"),
    "diversity_seeds": _metrics_of("diversity"),
}


def check_effects(protocol: Protocol, changed: Iterable[str]) -> None:
    """Make sure that every setting a user has chosen does something.

    Args:
        protocol: with the settings.
        changed: the fields that were chosen.

    Raises:
        InputError: one of them changes no number; the message says what it needs.
    """
    for name in changed:
        if name in _NEEDS and not _NEEDS[name][0](protocol):
            value = getattr(protocol, name)
            raise InputError(f"{name}={value} does nothing here: it needs {_NEEDS[name][1]}; set that too, or leave it")
