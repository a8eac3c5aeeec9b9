"""The protocols by name."""

from __future__ import annotations

from galip.errors import InputError
from galip.evaluation.protocols.schema import Protocol, checked

PROTOCOLS: dict[str, Protocol] = {}
"""The registered protocols by name."""


def register(protocol: Protocol) -> Protocol:
    """Give a protocol its name, for `get_protocol` and `--protocol`.

    Raises:
        InputError: the name is taken, or the protocol asks for an unknown metric.
    """
    if protocol.name in PROTOCOLS:
        raise InputError(f"protocol {protocol.name}: there is one of this name already")
    PROTOCOLS[protocol.name] = checked(protocol.model_dump())
    return PROTOCOLS[protocol.name]


def get_protocol(name: str) -> Protocol:
    """A registered protocol.

    Raises:
        InputError: there is none of this name.
    """
    if name not in PROTOCOLS:
        raise InputError(f"protocol {name!r}: there is no such protocol; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
