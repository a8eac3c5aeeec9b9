"""precision="auto": the fastest precision that changes no image visibly, measured once for each model and machine."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from galip.errors import GalipError
from galip.generation.pipeline import TextToImage
from galip.generation.precision import AUTO, MAX_LEVELS, images_to_compare, levels_apart, noise_and_sentences
from galip.model_repo.cache import cache_folder
from galip.utils.atomic import write_json
from galip.utils.provenance import processor, versions
from galip.utils.untrusted import read_json_object

logger = logging.getLogger(__name__)

_RUNS = 9
_WORTH = 0.95
"""A precision must take less than this share of fp32's time to be worth any difference."""


def fastest_precision(
    digest: str,
    machine: dict[str, Any],
    candidates: Sequence[str],
    open_at: Callable[[str], TextToImage],
) -> str:
    """The precision that `auto` means; measured now if it has not been, which takes some seconds.

    Processes that ask at the same time wait for the first one. Where the cache cannot be written, each measures.

    Args:
        digest: of all that the model's images depend on.
        machine: what decides besides, as JSON values: engine, device, threads.
        candidates: precisions that can be had; the first is fp32.
        open_at: loads the model in one of them.

    Raises:
        GalipError: it cannot be loaded in fp32.
    """
    machine = machine | {"processor": processor(), "versions": versions(("openvino", "onnxruntime", "torch"))}
    key = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()[:16]
    file = _folder() / f"{digest}-{key}.json"
    if (known := _of(candidates, file)) is not None:
        return str(known[AUTO])
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(f".{file.name}.lock")):
            if (known := _of(candidates, file)) is None:
                known = machine | _measure(candidates, open_at)
                write_json(file, known)
    except OSError:
        known = machine | _measure(candidates, open_at)
    return str(known[AUTO])


def measured_precisions(digest: str) -> list[dict[str, Any]]:
    """What has been measured of a model on this processor; each as `fastest_precision` has written it.

    Returns:
        Objects with `engine`, `device`, `threads`, `auto` (what was chosen) and `measured`: for each precision `ms`, an
        image at a time, and `levels`, the largest difference from fp32 in levels of 255.
    """
    found = (_read(file) for file in sorted(_folder().glob(f"{digest}-*.json")))
    return [known for known in found if known is not None and known.get("processor") == processor()]


def _folder() -> Path:
    return cache_folder() / "precision"


def _read(file: Path) -> dict[str, Any] | None:
    try:
        known = read_json_object(file, "")
    except GalipError:
        return None
    return known if isinstance(known.get(AUTO), str) and isinstance(known.get("measured"), dict) else None


def _of(candidates: Sequence[str], file: Path) -> dict[str, Any] | None:
    """What a file says, if these are the precisions that it compares."""
    known = _read(file)
    return known if known is not None and set(known["measured"]) == set(candidates) else None


def _measure(candidates: Sequence[str], open_at: Callable[[str], TextToImage]) -> dict[str, Any]:
    if len(candidates) > 1:
        logger.warning("measuring which of %s is the fastest here; this is done once", ", ".join(candidates))
    measured: dict[str, dict[str, float]] = {}
    expected = None
    for precision in candidates:
        pipe = open_at(precision)
        images = images_to_compare(pipe)
        expected = images if expected is None else expected
        measured[precision] = {"ms": _milliseconds(pipe), "levels": round(levels_apart(images, expected), 2)}
        del pipe  # one of them at a time is in memory
    reference = candidates[0]
    near = [name for name in candidates if measured[name]["levels"] <= MAX_LEVELS]
    best = min(near, key=lambda name: measured[name]["ms"])
    worth = measured[best]["ms"] < _WORTH * measured[reference]["ms"]
    return {AUTO: best if worth else reference, "measured": measured}


def _milliseconds(pipe: TextToImage) -> float:
    """What an image takes at the least: other work on the machine only adds to it."""
    z, e = noise_and_sentences(pipe, 1)
    times = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        pipe.generate(z, e, output_type="np")
        times.append(time.perf_counter() - started)
    return round(1000 * min(times), 3)
