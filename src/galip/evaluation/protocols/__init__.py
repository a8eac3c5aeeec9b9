"""Named protocols: everything about an evaluation that changes its numbers, fixed under a name.

`schema.py` says what a protocol can fix, `registry.py` knows them by name, the other files hold those that come with
the package. Another one is a `Protocol` in one of these files, or `register(Protocol(...))` anywhere.
"""

from __future__ import annotations

from typing import Any

from galip import _deprecated
from galip.evaluation.protocols.emoji import EMOJI
from galip.evaluation.protocols.registry import PROTOCOLS, get_protocol, register
from galip.evaluation.protocols.released import RELEASED
from galip.evaluation.protocols.schema import Protocol
from galip.evaluation.protocols.standard import CUSTOM, IMAGES, STANDARD

__all__ = ["PROTOCOLS", "Protocol", "get_protocol", "register"]

for _protocol in (*STANDARD, *RELEASED, *EMOJI, IMAGES, CUSTOM):
    register(_protocol)


def __getattr__(name: str) -> Any:
    return _deprecated.renamed(__name__, name)
