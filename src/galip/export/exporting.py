"""A pipeline as a folder that an engine generates from without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_ir as ir

from galip.export.card import export_card
from galip.export.graphs import Networks, tokenizer_json
from galip.export.quantize import measure, quantize_for_onnxruntime, quantize_for_openvino, split_captions
from galip.export.weights import embed
from galip.generation.onnx_backend import ONNXBackend
from galip.generation.pipeline import TextToImage
from galip.generation.telemetry import without_telemetry
from galip.model_repo.export_folder import (
    GENERATOR,
    IMAGE_ENCODER,
    MANIFEST,
    TOKENIZER,
    Kind,
    Manifest,
    Precision,
    write_manifest,
    written_whole,
)
from galip.model_repo.fingerprint import fingerprint, source_digest
from galip.model_repo.format import CARD
from galip.model_repo.graphs import has_graphs, read_graphs
from galip.torch_backend.loading import load_pipeline
from galip.torch_backend.pipeline import GALIPPipeline
from galip.utils.atomic import write_text
from galip.utils.extras import require
from galip.utils.progress import Progress, no_progress

Judge = Callable[[GALIPPipeline, TextToImage, Sequence[str]], dict[str, Any]]
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
    progress: Progress = no_progress,
    judge: Judge | None = None,
) -> Manifest:
    """Write an exported model; a folder that is there is replaced when the new one is whole.

    Args:
        pipeline: the model, in fp32 on the CPU.
        source: where it comes from.
        out: the folder to write.
        kind: "onnx" or "openvino".
        precision: "fp32"; "fp16" stores the weights in half, computation stays in fp32; "int8" computes the generator's
            convolutions in 8-bit integers, with ranges taken from the images of captions.
        captions: like those that will be asked for, needed for int8: three quarters of them calibrate, the others
            measure how near the images are to those in fp32. With fp16 all measure, if there are any.
        progress: told what is being done.
        judge: measures the exported model further, beside the original: called with the pipeline, the exported one and
            the captions that measure. What it finds is stored with the rest.

    Returns:
        What `export.json` says.

    Raises:
        InputError: too few captions for int8.
        GalipError: a package is missing, a part cannot be exported, or the folder cannot be written.
    """
    calibrating, measuring = split_captions(captions) if precision == "int8" else ([], list(captions))
    if kind == "openvino":
        require("exporting for openvino", "openvino")
    half = precision != "fp32"
    with written_whole(out) as unfinished:
        networks = Networks(pipeline.generator, pipeline.vision, pipeline.backend.sentence_encoder)
        manifest = _write_graphs(networks, source.folder, unfinished, kind, precision, progress)
        origin = {
            "name": source.name,
            "weights": fingerprint(source.folder),
            "digest": source_digest(source.folder),
        }
        manifest = replace(manifest, kind=kind, precision=precision, image_encoder=False, source=origin)
        if precision == "int8":
            progress("calibrate", 0, len(calibrating))
            quantize = quantize_for_openvino if kind == "openvino" else quantize_for_onnxruntime
            quantize(unfinished / manifest.graphs[GENERATOR], pipeline, calibrating)
        files = [path for path in unfinished.iterdir() if path.is_file()]
        manifest = write_manifest(unfinished / MANIFEST, manifest, files)
        if half and measuring:
            progress("measure", 0, len(measuring))
            engine = TextToImage(ONNXBackend(unfinished))
            quality = measure(engine, pipeline, measuring)
            if judge is not None:
                quality |= judge(pipeline, engine, measuring)
            del engine  # it holds the files open
            manifest = write_manifest(unfinished / MANIFEST, replace(manifest, quality=quality), files)
        write_text(unfinished / CARD, export_card(manifest, source.folder))
    return manifest


def write_int8(folder: Path, name: str, out: Path, engine: str, prompts: Sequence[str]) -> Manifest:
    """Export a model folder in int8, as `export` does, for an engine.

    Args:
        folder: the model.
        name: what its card calls it.
        out: the folder to write.
        engine: "openvino" or "onnxruntime".
        prompts: calibrate and measure.

    Raises:
        GalipError: as `export`.
    """
    pipeline = load_pipeline(folder, "cpu", "float32")
    kind: Kind = "openvino" if engine == "openvino" else "onnx"
    return export(pipeline, Source(name, folder), out, kind, "int8", prompts)


def _write_graphs(
    networks: Networks, source: Path, out: Path, kind: Kind, precision: Precision, progress: Progress
) -> Manifest:
    """Write what generating needs, with its weights, in the precision that it is stored in.

    Args:
        networks: of the model.
        source: its folder; its graphs are taken where it has them.
        out: the folder to write.
        kind, precision, progress: as for `export`.

    Returns:
        The manifest of the graphs, `files` not filled in.
    """
    made = read_graphs(source) if has_graphs(source) else None
    wanted = {name: graph for name, graph in networks.graphs().items() if name != IMAGE_ENCODER}
    for done, (name, graph) in enumerate(wanted.items()):
        progress(f"export {name}", done, len(wanted))
        model = graph.trace() if made is None else ir.load(source / made.graphs[name])
        embed(model, half=precision == "fp16" and kind == "onnx")
        if kind == "onnx":
            _save(model, out / f"{name}.onnx")
        else:
            # In an int8 export all but the generator, a small part of the work, is halved only.
            _save_for_openvino(
                model, out / f"{name}.xml", precision == "fp16" or (precision == "int8" and name != GENERATOR)
            )
    progress("export", len(wanted), len(wanted))
    if networks.text is not None:
        write_text(out / TOKENIZER, tokenizer_json(networks.text))
    return networks.manifest(TOKENIZER)


def _save(model: ir.Model, file: Path) -> None:
    """Write a graph; weights beyond protobuf's limit go to a file beside."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    ir.save(model, file, external_data=f"{file.name}.data" if size > _ONE_FILE else None)


def _save_for_openvino(model: ir.Model, file: Path, half: bool) -> None:
    """Write a graph for OpenVINO, with everything computed that depends on weights alone."""
    with without_telemetry():
        import openvino
        from openvino.passes import ConstantFolding, Manager
    with TemporaryDirectory(dir=file.parent) as between:
        _save(model, Path(between) / "graph.onnx")
        core = openvino.Core()
        core.set_property({"ENABLE_MMAP": False})  # the file is about to be removed
        converted = core.read_model(str(Path(between) / "graph.onnx"))
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(converted)
    openvino.save_model(converted, str(file), compress_to_fp16=half)
