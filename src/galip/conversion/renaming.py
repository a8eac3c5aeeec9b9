"""Two-way tables of state-dict keys, for checkpoints that name the same weights differently."""

import re
from collections.abc import Sequence

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_LEAF = r"(?P<leaf>\.weight|\.bias)?"


class KeyTable:
    """Pairs of key patterns, theirs and ours.

    A placeholder such as `{i}` stands for one dotted part of a key, the same one on both sides. A pattern names a
    layer, whose `.weight` and `.bias` keep their names, or a tensor of its own.

    Args:
        pairs: (theirs, ours). No key may fit two patterns of one side.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._to_ours = [(_compile(theirs), ours) for theirs, ours in pairs]
        self._to_theirs = [(_compile(ours), theirs) for theirs, ours in pairs]

    def ours(self, key: str) -> str | None:
        """Our name of one of their keys; None where the table does not know it."""
        return _translate(self._to_ours, key)

    def theirs(self, key: str) -> str | None:
        """Their name of one of our keys; None where the table does not know it."""
        return _translate(self._to_theirs, key)


def _compile(pattern: str) -> re.Pattern[str]:
    literal_and_name = _PLACEHOLDER.split(pattern)  # literals at even places, names of placeholders at odd ones
    parts = [rf"(?P<{part}>[^.]+)" if i % 2 else re.escape(part) for i, part in enumerate(literal_and_name)]
    return re.compile("".join(parts) + _LEAF)


def _translate(table: list[tuple[re.Pattern[str], str]], key: str) -> str | None:
    for pattern, other in table:
        if match := pattern.fullmatch(key):
            parts = match.groupdict(default="")
            return other.format(**parts) + parts["leaf"]
    return None
