"""Names of many files in one: "shards/{00000..00099}.tar"."""

from __future__ import annotations

from galip.errors import GalipError
from galip.utils.extras import remedy


def expand(pattern: str) -> list[str]:
    """The names that a pattern with braces stands for: "a{0..2}" is a0, a1, a2.

    Raises:
        GalipError: the braces do not match, or the package that knows them is missing.
    """
    if "{" not in pattern:
        return [pattern]
    try:
        from braceexpand import braceexpand
    except ImportError as error:
        raise GalipError(f"{pattern}: braces need the package braceexpand; {remedy('train')}") from error
    try:
        return list(braceexpand(pattern))
    except ValueError as error:
        raise GalipError(f"{pattern}: its braces do not match; write e.g. shards/{{00000..00099}}.tar") from error
