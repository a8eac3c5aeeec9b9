"""The model of a process that works on a large job: loaded once, when the first block is generated."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from functools import lru_cache

from galip.errors import GalipError
from galip.serving.model_worker import ModelSpec, ModelWorker
from galip.serving.pool import EncodedImage, ImageRequest

log = logging.getLogger("galip.bulk")

_warned = False


def generate(spec: ModelSpec, requests: Sequence[ImageRequest]) -> list[EncodedImage | GalipError]:
    """Generate a batch by this process's model; see `ModelWorker.generate`.

    A warning, of a prompt that is too long for the model, is shown once; of a million prompts many may be.

    Raises:
        GalipError: the model cannot be loaded.
    """
    global _warned
    worker = _worker(spec)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        results = worker.generate(requests)
    if caught and not _warned:
        _warned = True
        log.warning("%s; further warnings are not shown", caught[0].message)
    return results


@lru_cache(maxsize=1)
def _worker(spec: ModelSpec) -> ModelWorker:
    return ModelWorker(spec)
