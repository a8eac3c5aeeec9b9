"""A model folder as a `GALIPPipeline` on a device."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from galip.errors import GalipError, InputError
from galip.model_repo.format import NETWORKS
from galip.model_repo.weights import read_tensors, stored_dtype
from galip.torch_backend.dtypes import as_dtype
from galip.torch_backend.pipeline import GALIPPipeline

logger = logging.getLogger(__name__)

_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


def load_pipeline(
    folder: Path,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    threads: int | None = None,
    compiled: bool = False,
    precision: str | None = None,
    variant: str | None = None,
) -> GALIPPipeline:
    """Load a model folder.

    Args:
        folder: the model.
        device, dtype, threads: as for `galip.load`. Threads are those of the whole process.
        compiled: generate through `torch.compile`.
        precision: "fp32", "bf16" or "fp16": what the generator and its transformer compute in, while prompts are
            encoded in fp32. None: `dtype` says.
        variant: of the files of weights, as diffusers has it: "fp16" for `*.fp16.safetensors`.

    Raises:
        InputError: there is no such device or dtype, or the device does not have this precision.
        GalipError: the model is not whole, or does not fit the device.
    """
    place = _device(device)
    kind = _dtype(dtype, folder, on_cpu=place.type == "cpu") if precision is None else torch.float32
    if precision is not None:
        _check_precision(precision, place)
    if threads is not None:
        torch.set_num_threads(threads)
    pipeline = _load(folder, kind, variant)
    try:
        pipeline.to(place)
    except RuntimeError as error:
        raise GalipError(f"{folder} cannot be moved to {place}: {error}") from error
    if precision is not None:
        for network in (pipeline.generator, pipeline.vision_encoder):
            torch.nn.Module.to(network, _PRECISIONS[precision])  # the libraries' own `to` has more to say
    if compiled:
        from galip.torch_backend.compiled import compile_pipeline

        compile_pipeline(pipeline)
    return pipeline


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep the libraries' bars away: a model of this size is there before they are shown."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    shown = [log for log in (diffusers_logging, transformers_logging) if log.is_progress_bar_enabled()]
    for log in shown:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in shown:
            log.enable_progress_bar()


def _load(folder: Path, dtype: torch.dtype, variant: str | None) -> GALIPPipeline:
    try:
        with no_progress_bars():
            pipeline = GALIPPipeline.from_pretrained(folder, dtype=dtype, variant=variant)
    except GalipError as error:
        message = str(error)
        raise GalipError(message if message.startswith(str(folder)) else f"{folder}: {message}") from error
    except Exception as error:  # the libraries raise anything at configurations and weights that do not fit
        raise GalipError(f"{folder}: the model cannot be loaded: {error}") from error
    for name in NETWORKS:
        if getattr(pipeline, name) is not None:
            _check_complete(getattr(pipeline, name), folder / name)
    return pipeline


def _check_complete(network: torch.nn.Module, part: Path) -> None:
    """The libraries only log a warning where weights are missing, and generate with random ones."""
    stored = read_tensors(part)
    names: dict[int, list[str]] = {}
    for name, weight in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(weight), []).append(name)  # tied weights are stored under one of their names
    missing = [group[0] for group in names.values() if not any(name in stored for name in group)]
    if missing:
        raise GalipError(
            f"{part}: {len(missing)} weights are missing ({', '.join(missing[:3])}{', ...' if missing[3:] else ''}); "
            "the model is not whole, save or fetch it again"
        )


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError):
        raise InputError(f"device {device!r}: there is no such device, use cpu, cuda, cuda:1, mps, ...") from None
    if place.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {str(device)!r}: torch finds no CUDA device on this machine, use cpu")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {str(device)!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    try:
        if place.type == "meta":
            raise RuntimeError
        torch.zeros(1, device=place).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        raise InputError(f"device {str(device)!r}: torch cannot compute there on this machine, use cpu") from None
    return place


def _check_precision(precision: str, place: torch.device) -> None:
    """Refuse what a GPU cannot compute; say what a CPU only emulates."""
    if place.type == "cuda" and precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InputError(f"precision bf16: {torch.cuda.get_device_name(place)} has no bf16; use fp16 or fp32")
    if place.type == "cpu" and not has_on_cpu(precision):
        logger.warning("precision %s: this processor only emulates it, fp32 is faster", precision)


def has_on_cpu(precision: str) -> bool:
    """Whether this processor has instructions for a precision, as far as torch uses them."""
    if precision == "fp32":
        return True
    supported = getattr(torch.ops.mkldnn, f"_is_mkldnn_{precision}_supported", None)
    return supported is not None and bool(supported())


def _dtype(dtype: str | torch.dtype | None, folder: Path, on_cpu: bool) -> torch.dtype:
    if dtype is not None:
        return as_dtype(dtype)
    return torch.float32 if on_cpu else as_dtype(_DTYPES.get(stored_dtype(folder), "float32"))
