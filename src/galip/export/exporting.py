"""A pipeline as a folder that an engine draws from without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import galip
from galip.errors import GalipError, InputError
from galip.export.card import export_card
from galip.export.folded_vision import fold_vision
from galip.export.folding import fold
from galip.export.generator_graph import generator_graph
from galip.export.onnx_graph import OPSET, import_onnx
from galip.export.quantize import measure, quantize, split_captions
from galip.export.text_graph import text_graph
from galip.generation.onnx_backend import EnginePipeline
from galip.model_repo.export_folder import (
    GENERATOR,
    SUFFIX,
    TEXT_ENCODER,
    TOKENIZER,
    Kind,
    Manifest,
    Precision,
    write_manifest,
    written_whole,
)
from galip.model_repo.fingerprint import fingerprint, source_digest
from galip.models.text import CLIPSentenceEncoder
from galip.torch_backend.pipeline import GALIPPipeline

Judge = Callable[[GALIPPipeline, EnginePipeline, Sequence[str]], dict[str, Any]]
"""Compares a pipeline and the model that was exported from it, over captions; gives JSON values."""

_ONE_FILE = 1_900_000_000  # bytes; a protobuf may not be larger than 2 GiB


@dataclass(frozen=True)
class Source:
    """The model that is exported.

    Attributes:
        name: what its card calls it.
        folder: where its files are: their hash and its card go into the export.
    """

    name: str
    folder: Path


def export(
    pipeline: GALIPPipeline,
    source: Source,
    out: Path,
    kind: Kind,
    precision: Precision = "fp32",
    captions: Sequence[str] = (),
    say: Callable[[str], None] = lambda _line: None,
    judge: Judge | None = None,
) -> Manifest:
    """Write an exported model; a folder that is there is replaced when the new one is whole.

    Args:
        pipeline: the model, in fp32 on the CPU.
        source: where it comes from.
        out: the folder to write.
        kind: "onnx" or "openvino".
        precision: "fp32"; "fp16" stores the weights in half, computation stays in fp32; "int8" (OpenVINO only) computes
            the generator's convolutions in 8-bit integers, with ranges taken from the pictures of captions.
        captions: like those that will be drawn, needed for int8: three quarters of them calibrate, the others measure
            how near the pictures are to those in fp32. With fp16 all measure, if there are any.
        say: is told what is being done.
        judge: measures the exported model further, beside the original: called with the pipeline, the exported one and
            the captions that measure. What it finds is stored with the rest.

    Returns:
        What `export.json` says.

    Raises:
        InputError: int8 for ONNX, or too few captions for it.
        GalipError: a package is missing, a part cannot be exported, or the folder cannot be written.
    """
    if precision == "int8" and kind != "openvino":
        raise InputError("precision int8 is there for openvino only: use it, or fp16")
    calibrating, measuring = split_captions(captions) if precision == "int8" else ([], list(captions))
    write = _write_openvino if kind == "openvino" else _write_onnx
    half = precision != "fp32"
    with written_whole(out) as unfinished:
        say("folding the generator and writing its graph")
        graph = generator_graph(fold(pipeline.generator), fold_vision(pipeline.vision), half and kind == "onnx")
        write(graph, unfinished / (GENERATOR + SUFFIX[kind]), half=precision == "fp16")
        del graph
        text = _write_text(pipeline, unfinished, kind, half, write)
        manifest = Manifest(
            kind=kind,
            precision=precision,
            z_dim=pipeline.generator.z_dim,
            cond_dim=pipeline.generator.cond_dim,
            num_stages=pipeline.generator.num_stages,
            image_size=pipeline.generator.image_size,
            **text,
            opset=OPSET,
            version=galip.__version__,
            source={
                "name": source.name,
                "weights": fingerprint(source.folder),
                "digest": source_digest(source.folder),
            },
        )
        if precision == "int8":
            say(f"calibrating with {len(calibrating)} captions")
            quantize(unfinished / (GENERATOR + SUFFIX[kind]), pipeline, calibrating)
        manifest = write_manifest(unfinished, manifest)
        if precision != "fp32" and measuring:
            say(f"measuring {precision} against fp32 with {len(measuring)} captions")
            engine = EnginePipeline(unfinished)
            quality = measure(engine, pipeline, measuring)
            if judge is not None:
                quality |= judge(pipeline, engine, measuring)
            del engine  # it holds the files open
            manifest = write_manifest(unfinished, replace(manifest, quality=quality))
        (unfinished / "README.md").write_text(export_card(manifest, source.folder), encoding="utf-8")
    return manifest


def _write_text(pipeline: GALIPPipeline, folder: Path, kind: Kind, half: bool, write: Any) -> dict[str, Any]:
    """Write text encoder and tokenizer, if the model has them; returns what the manifest says of them."""
    if pipeline.text_encoder is None or pipeline.tokenizer is None:
        return {"text_encoder": None, "max_tokens": 0}
    encoder = pipeline.sentence_encoder
    # In an int8 export the sentence, a small part of the work, is halved only.
    write(text_graph(encoder, half and kind == "onnx"), folder / (TEXT_ENCODER + SUFFIX[kind]), half=half)
    backend = getattr(pipeline.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise GalipError(
            f"the tokenizer is a {type(pipeline.tokenizer).__name__} without a fast form (tokenizer.json), which is "
            "what an exported model uses: save the model with the fast tokenizer of the same name"
        )
    (folder / TOKENIZER).write_text(backend.to_str(), encoding="utf-8")
    name = "clip" if isinstance(encoder, CLIPSentenceEncoder) else "t5"
    return {"text_encoder": name, "max_tokens": encoder.max_tokens}


def _write_onnx(graph: Any, file: Path, half: bool) -> None:
    """Write a graph whose weights are already in their precision; beyond protobuf's limit they go to a file beside."""
    del half
    onnx = import_onnx()
    size = sum(len(constant.raw_data) for constant in graph.graph.initializer)
    if size > _ONE_FILE:
        onnx.save_model(graph, str(file), save_as_external_data=True, location=f"{file.name}.data")
    else:
        onnx.save_model(graph, str(file))


def _write_openvino(graph: Any, file: Path, half: bool) -> None:
    try:
        import openvino
    except ImportError as error:
        raise GalipError("the package openvino is missing: pip install 'galip[export]'") from error
    between = file.with_suffix(".onnx")
    _write_onnx(graph, between, half=False)
    openvino.save_model(openvino.Core().read_model(str(between)), str(file), compress_to_fp16=half)
    for path in (between, between.with_name(f"{between.name}.data")):
        path.unlink(missing_ok=True)
