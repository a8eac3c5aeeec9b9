"""The artist of a process that works on a large job: loaded once, when the first block is drawn."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from functools import lru_cache

from galip.errors import GalipError
from galip.serving.backend import EncodedImage, Picture
from galip.serving.model_worker import Artist, Order

_warned = False


def draw(order: Order, pictures: Sequence[Picture]) -> list[EncodedImage | GalipError]:
    """Draw a batch by this process's artist; see `Artist.draw`.

    A warning, of a caption that is too long for the model, is shown once; of a million captions many may be.

    Raises:
        GalipError: the model cannot be loaded.
    """
    global _warned
    artist = _artist(order)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        results = artist.draw(pictures)
    if caught and not _warned:
        _warned = True
        print(f"Warning: {caught[0].message}; further warnings are not shown", file=sys.stderr, flush=True)
    return results


@lru_cache(maxsize=1)
def _artist(order: Order) -> Artist:
    return Artist(order, lambda line: print(line, file=sys.stderr, flush=True))
