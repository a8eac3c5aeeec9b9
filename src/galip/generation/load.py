"""`galip.load`: a bundled name, a folder or a hub id -> a `TextToImage` that generates.

torch is imported only where it is asked for, or where a model's graphs have to be exported first.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from galip._deprecated import renamed
from galip.errors import GalipError
from galip.generation.inputs import check_threads
from galip.generation.pipeline import TextToImage
from galip.generation.select import AUTO, check_fits, engine_for, require_torch
from galip.model_repo.cache import cached
from galip.model_repo.export_folder import is_export
from galip.model_repo.graphs import copy_graphs, has_graphs, has_links
from galip.model_repo.index import check_model_folder
from galip.model_repo.resolve import DEFAULT_MODEL, ModelName, fetch

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
    revision: str | None = None,
    token: str | None = None,
    threads: int | None = None,
) -> GALIPPipeline: ...
@overload
def load(
    model: ModelName = DEFAULT_MODEL,
    *,
    engine: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    token: str | None = None,
    threads: int | None = None,
) -> TextToImage: ...
def load(
    model: ModelName = DEFAULT_MODEL,
    *,
    engine: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    token: str | None = None,
    threads: int | None = None,
) -> TextToImage:
    """Load a model, ready to generate.

    Args:
        model: a bundled model's name, a model folder, or the hub id of one ("owner/name"), looked for in this order. A
            folder from `galip export` is loaded by the engine that it was made for.
        engine: what runs the model. "onnxruntime" and "openvino" run its graphs on the CPU, without torch; a model
            without graphs is exported the first time, by torch, and the graphs are kept in the user's cache. "torch"
            and "compile" (torch.compile, with CUDA graphs on a GPU) give a `GALIPPipeline`. "auto": the fastest that is
            installed and fits the device. None: "torch" where `device` or `dtype` ask for what only torch has, else
            "onnxruntime".
        device: where to generate, "cuda", "cpu", ...; None: with torch a GPU if there is one, else the CPU.
        dtype: type of the weights, for example "bfloat16"; None: fp32 on a CPU, elsewhere as they are stored.
        revision: of a model on the hub: branch, tag or commit.
        token: for a private model on the hub; None: the one that `hf auth login` has stored.
        threads: CPU threads; None: the engine's own choice. torch's are those of the whole process.

    Raises:
        InputError: there is no such engine, device or dtype, or they do not fit each other or the model.
        GalipError: there is no such model, or it is not whole, or the engine is not installed; the message says what to
            do.
    """
    asked, count = engine, None if threads is None else check_threads(threads)
    folder = fetch(model, revision, token)
    if not is_export(folder):
        check_model_folder(folder)
    engine = engine_for(folder, engine, device, dtype)
    if engine not in ("torch", "compile"):
        check_fits(folder, engine, device, dtype)
        try:
            return _load_graphs(folder, str(model), engine, count)
        except GalipError as error:
            if asked != AUTO or is_export(folder):
                raise
            logger.warning("%s cannot be used, generating with torch instead: %s", engine, error)
    check_fits(folder, engine)
    require_torch(f"engine {engine}")
    from galip.torch_backend.loading import load_pipeline

    return load_pipeline(folder, device, dtype, count, compiled=engine == "compile")


def _load_graphs(folder: Path, name: str, engine: str, threads: int | None) -> TextToImage:
    from galip.generation.onnx_backend import ONNXBackend

    return TextToImage(ONNXBackend(graphs_folder(folder, name, engine), engine, threads))


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
