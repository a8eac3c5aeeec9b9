"""What must hold between a protocol and what is given, told before anything expensive starts."""

from __future__ import annotations

from galip.errors import InputError
from galip.evaluation.metrics.registry import METRICS, OWN_SPACES
from galip.evaluation.protocols.schema import Protocol
from galip.evaluation.references import References
from galip.evaluation.statistics import Statistics

_MEMORY_SPACES = ("judge", "dinov2", "clip", "inception", "inception-torchvision", "own", "released")
"""The better a space is for finding copies, the earlier it stands."""


def check_given(protocol: Protocol, references: References) -> None:
    """Make sure that a protocol gets what it needs, and nothing that it does not use.

    Raises:
        InputError: it does not; the message says what to give or leave out.
    """
    name, has_bundle = protocol.name, protocol.reference == "bundle"
    if has_bundle and (references.data or references.reference):
        raise InputError(f"protocol {name} brings its own reference; leave --data and --reference out")
    if has_bundle and not protocol.bundle:
        raise InputError(f"protocol {name}: reference is bundle, but no bundle is named; set bundle")
    if protocol.reference == "statistics" and references.reference is None:
        raise InputError(f"protocol {name} compares with statistics: give --reference FILE.npz (arrays mu and sigma)")
    if not has_bundle and not references.data and protocol.captions in ("choose", "passes"):
        split = protocol.split or "any, or --prompts alone"
        raise InputError(f"protocol {name} needs captioned images: give --data ({split})")
    if protocol.captions == "none":
        _check_images(protocol, references)
    if protocol.reference == "none":
        for metric in protocol.metrics:
            if METRICS[metric].family.compares:
                raise InputError(f"metric {metric} compares with real images: give --data, or leave it out")
    if references.reference is not None and protocol.reference != "statistics":
        raise InputError(f"protocol {name} computes its reference from --data; leave --reference out")
    if has_bundle and (foreign := set(protocol.compared_spaces) - {"judge"}):
        metrics = [metric for metric in protocol.metrics if METRICS[metric].space in foreign]
        raise InputError(f"protocol {name} has its judge's features of real images only; leave {metrics[0]} out")
    if not has_bundle and "judge" in protocol.spaces:
        metrics = [metric for metric in protocol.metrics if METRICS[metric].space == "judge"]
        raise InputError(f"the judge belongs to protocol emoji64; leave its metrics out ({', '.join(metrics)})")
    opened = [space for space in protocol.spaces if space not in (*OWN_SPACES, "judge")]
    if unknown := sorted(set(references.weights or ()) - set(opened)):
        raise InputError(
            f"--weights {unknown[0]}=...: no metric of this evaluation opens that network; "
            f"it opens {', '.join(opened) or 'none'}"
        )
    if protocol.reference == "statistics" and len(protocol.compared_spaces) > 1:
        raise InputError(
            f"--reference {references.reference}: statistics are of one network's features, but metrics of "
            f"{', '.join(sorted(protocol.compared_spaces))} are asked for; choose with --metrics"
        )


def _check_images(protocol: Protocol, references: References) -> None:
    name = protocol.name
    if protocol.reference == "all" and not references.data:
        raise InputError(f"protocol {name} compares with real images: give their folder, galip evaluate GENERATED REAL")
    if foreign := [metric for metric in protocol.metrics if METRICS[metric].space != "inception"]:
        raise InputError(
            f"metric {foreign[0]}: images without captions are compared in Inception's features (fid, kid, "
            "prdc_inception); for others give captioned images, by protocol custom"
        )


def check_statistics(protocol: Protocol, references: References, statistics: Statistics) -> None:
    """Make sure that statistics of the reference are enough for every metric.

    Raises:
        InputError: one of them needs the real images.
    """
    for name in protocol.metrics:
        family = METRICS[name].family
        if family.compares and not family.statistics_suffice and statistics.features is None:
            raise InputError(
                f"metric {name} needs the real images, and {references.reference} holds statistics only; leave it out, "
                "or --reference"
            )


def memory_space(protocol: Protocol, has_real_images: bool, statistics: Statistics | None) -> str | None:
    """Where generated, real and training images are compared: in the best space that knows real ones.

    Args:
        protocol: the rules.
        has_real_images: whether the reference is a set of images that every network looks at.
        statistics: of the reference, where it is known by them.
    """
    if has_real_images:
        known = set(protocol.spaces)
    elif protocol.reference == "bundle":
        known = {"judge"} & set(protocol.spaces)
    elif statistics is not None and statistics.features is not None:
        known = set(protocol.compared_spaces)
    else:
        known = set()
    return next((space for space in _MEMORY_SPACES if space in known), None)
