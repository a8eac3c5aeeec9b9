"""`galip.load`: a bundled name, a folder or a hub id -> a `TextToImage` that generates.

torch is imported only where it is asked for, or where a model's graphs have to be exported first.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from galip._deprecated import renamed
from galip.errors import GalipError, InputError
from galip.generation.fastest import fastest_precision
from galip.generation.inputs import check_threads
from galip.generation.pipeline import TextToImage
from galip.generation.precision import AUTO as ANY
from galip.generation.precision import PROMPTS, check_precision, lacking, precision_of_export
from galip.generation.select import AUTO, check_fits, engine_for, require_torch
from galip.model_repo.cache import cache_folder, cached, made_once
from galip.model_repo.export_folder import FORMAT, GENERATOR, is_export, read_manifest
from galip.model_repo.fingerprint import source_digest
from galip.model_repo.graphs import copy_graphs, has_graphs, has_links
from galip.model_repo.index import check_model_folder
from galip.model_repo.resolve import DEFAULT_MODEL, ModelName, fetch
from galip.utils.extras import require

if TYPE_CHECKING:
    import torch

    from galip.torch_backend.pipeline import GALIPPipeline

logger = logging.getLogger(__name__)


@overload
def load(
    model: ModelName = DEFAULT_MODEL,
    *,
    engine: Literal["torch", "compile"],
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    precision: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    threads: int | None = None,
    variant: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> GALIPPipeline: ...
@overload
def load(
    model: ModelName = DEFAULT_MODEL,
    *,
    engine: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    precision: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    threads: int | None = None,
    variant: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> TextToImage: ...
def load(
    model: ModelName = DEFAULT_MODEL,
    *,
    engine: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    precision: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    threads: int | None = None,
    variant: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> TextToImage:
    """Load a model, ready to generate.

    Args:
        model: a bundled model's name, a model folder, or the hub id of one ("owner/name"), looked for in this order. A
            folder from `galip export` is loaded by the engine that it was made for.
        engine: what runs the model. "onnxruntime" and "openvino" run its graphs on the CPU, without torch; a model
            without graphs is exported the first time, by torch, and the graphs are kept in the user's cache. "torch"
            and "compile" (torch.compile, with CUDA graphs on a GPU) give a `GALIPPipeline`. "auto": the fastest that is
            installed and fits the device. None: "torch" where `device` or `dtype` ask for what only torch has,
            "auto" where a precision other than fp32 is asked for, else "onnxruntime".
        device: where to generate, "cuda", "cpu", ...; None: with torch a GPU if there is one, else the CPU.
        dtype: type of all weights in torch, for example "bfloat16"; None: fp32 on a CPU, elsewhere as they are stored.
        precision: what the generator computes in, on any engine: "fp32", "bf16", "fp16", "int8" (openvino and
            onnxruntime; a model is quantised the first time, by `galip[export]`), or "auto", the fastest that changes
            no number of an image by more than two levels of 255, measured the first time. Prompts are encoded in fp32.
            None: fp32, or as `dtype` says.
        revision: of a model on the hub: branch, tag or commit.
        token: for a private model on the hub; None: the one that `hf auth login` has stored.
        threads: CPU threads; None: the engine's own choice. torch's are those of the whole process.
        variant: of the files of weights, "fp16" for `*.fp16.safetensors`; torch reads them.
        cache_dir: where models of the hub are kept; None: where HF_HUB_CACHE says.

    Raises:
        InputError: there is no such engine, device, dtype or precision, or they do not fit each other, the model or
            this machine.
        GalipError: there is no such model, or it is not whole, or the engine is not installed; the message says what to
            do.
    """
    asked, count = engine, None if threads is None else check_threads(threads)
    check_precision(precision)
    if precision is not None and dtype is not None:
        raise InputError("precision and dtype are given: dtype is for torch's weights, give one of them")
    if variant is not None:
        if engine not in (None, "torch", "compile"):
            raise InputError(f"variant {variant!r}: only the engines torch and compile read one")
        engine = engine or "torch"
    folder = fetch(model, revision, token, cache_dir=cache_dir)
    if not is_export(folder):
        check_model_folder(folder)
    engine = engine_for(folder, engine, device, dtype, precision)
    if engine not in ("torch", "compile"):
        check_fits(folder, engine, device, dtype)
        try:
            return _load_graphs(folder, str(model), engine, count, precision)
        except GalipError as error:
            if asked != AUTO or precision not in (None, "fp32") or is_export(folder):
                raise
            logger.warning("%s cannot be used, generating with torch instead: %s", engine, error)
    check_fits(folder, engine)
    require_torch(f"engine {engine}")
    from galip.torch_backend.loading import has_on_cpu, load_pipeline

    def open_at(chosen: str | None) -> TextToImage:
        return load_pipeline(folder, device, dtype, count, engine == "compile", chosen, variant)

    if precision == ANY:
        kind = open_at("fp32").backend.device
        candidates = [name for name in ("fp32", "bf16", "fp16") if kind != "cpu" or has_on_cpu(name)]
        machine = {"engine": engine, "device": kind, "threads": count}
        precision = fastest_precision(source_digest(folder), machine, candidates, open_at)
    elif precision is not None and (reason := lacking(engine, precision)):
        raise InputError(reason)
    return open_at(precision)


def _load_graphs(folder: Path, name: str, engine: str, threads: int | None, precision: str | None) -> TextToImage:
    from galip.generation.onnx_backend import ONNXBackend

    exported = is_export(folder)
    if exported:
        precision = precision_of_export(read_manifest(folder), precision)
    if precision not in (None, ANY) and (reason := lacking(engine, precision)):
        raise InputError(reason)
    graphs = graphs_folder(folder, name, engine)

    def open_at(chosen: str) -> TextToImage:
        quantised = quantised_generator(folder, name, engine) if chosen == "int8" and not exported else None
        return TextToImage(ONNXBackend(graphs, engine, threads, chosen, quantised))

    if precision == ANY:
        digest = digest_of(folder)
        candidates = [one for one in ("fp32", "bf16", "fp16") if lacking(engine, one) is None]
        candidates += ["int8"] if not exported and _int8_folder(folder, engine).is_dir() else []
        machine = {"engine": engine, "device": "cpu", "threads": threads, "exported": exported}
        precision = fastest_precision(digest, machine, candidates, open_at)
    return open_at(precision or "fp32")


def digest_of(folder: Path) -> str:
    """One hash over all of a model, exported or not, that its images depend on."""
    return read_manifest(folder).source["digest"] if is_export(folder) else source_digest(folder)


def quantised_generator(folder: Path, name: str, engine: str) -> Path:
    """The generator of a model in int8, from the user's cache; quantised now if it is not there yet.

    Args:
        folder: a model.
        name: what the user calls it.
        engine: "onnxruntime" or "openvino".

    Raises:
        GalipError: a package is missing, or the cache cannot be written.
    """
    place = _int8_folder(folder, engine)

    def write() -> None:
        require(f"{name} in int8, and quantising it", "export")
        from galip.export import write_int8

        logger.warning("quantising %s to int8; this is done once and kept in %s", name, place.parent)
        write_int8(folder, name, place, engine, PROMPTS)

    made_once(place, is_export, write)
    return place / read_manifest(place).graphs[GENERATOR]


def _int8_folder(folder: Path, engine: str) -> Path:
    return cache_folder() / "int8" / f"{source_digest(folder)}-{engine}-{FORMAT}"


def graphs_folder(folder: Path, name: str, engine: str) -> Path:
    """The folder whose graphs run a model: its own, or a copy in the user's cache, made now if need be.

    Args:
        folder: a model or an exported one.
        name: what the user calls it.
        engine: "onnxruntime" or "openvino".

    Raises:
        GalipError: the model has no graphs, and torch, which exports them, is not installed; or the export fails.
    """
    there = is_export(folder) or has_graphs(folder)
    if there and not (engine == "openvino" and has_links(folder)):
        return folder

    def add_graphs(copy: Path) -> None:
        if there:
            copy_graphs(folder, copy)
            return
        require_torch(f"{name} has no graphs for {engine}, and exporting them")
        from galip.export import write_graphs

        logger.warning("exporting graphs of %s; this is done once and kept in %s", name, copy.parent)
        write_graphs(copy)

    return cached(folder, add_graphs)


def __getattr__(name: str) -> Any:
    return renamed(__name__, name)
