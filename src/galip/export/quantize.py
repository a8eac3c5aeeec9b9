"""int8: ranges of the generator's activations from real captions, and what it costs in likeness."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from galip.errors import InputError
from galip.generation.noise import noise
from galip.generation.pipeline import TextToImage
from galip.generation.telemetry import without_telemetry
from galip.torch_backend.pipeline import GALIPPipeline
from galip.utils.arrays import FloatArray
from galip.utils.extras import require

FEWEST_CAPTIONS = 16
"""Captions that an int8 export needs at least; some hundred are better."""

_MOST_CALIBRATING = 300  # more do not change the ranges


def split_captions(captions: Sequence[str]) -> tuple[list[str], list[str]]:
    """Captions to calibrate with and captions to measure with: every fourth of the distinct ones measures.

    Raises:
        InputError: there are fewer than `FEWEST_CAPTIONS` distinct ones.
    """
    distinct = list(dict.fromkeys(captions))
    if len(distinct) < FEWEST_CAPTIONS:
        raise InputError(
            f"precision int8 is calibrated with captions like those to be asked for: at least {FEWEST_CAPTIONS} "
            f"different ones are needed, some hundred are better, and there are {len(distinct)}"
        )
    calibrating = [caption for i, caption in enumerate(distinct) if i % 4 != 3]
    return calibrating[:_MOST_CALIBRATING], distinct[3::4][:_MOST_CALIBRATING]


def quantize_for_openvino(file: Path, pipeline: GALIPPipeline, captions: Sequence[str]) -> None:
    """Replace a generator's OpenVINO graph by one that computes in int8.

    Args:
        file: the .xml file, in fp32.
        pipeline: encodes the captions.
        captions: calibrate; the i-th with the noise of seed i.

    Raises:
        GalipError: NNCF is not installed.
    """
    require("precision int8", "export", ["openvino", "nncf"])
    with without_telemetry():
        import nncf
        import openvino
    feeds = _feeds(pipeline, captions)
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # the files are about to be replaced
    with _silence():
        graph = nncf.quantize(
            core.read_model(str(file)),
            nncf.Dataset(feeds),
            subset_size=len(feeds),
            preset=nncf.QuantizationPreset.MIXED,
            # The transformer and the affine MLPs stay in floating point: they are the smaller part of the work, and in
            # int8 they cost 4 dB.
            ignored_scope=nncf.IgnoredScope(types=["MatMul"]),
        )
    openvino.save_model(graph, str(file), compress_to_fp16=True)


def quantize_for_onnxruntime(file: Path, pipeline: GALIPPipeline, captions: Sequence[str]) -> None:
    """Replace a generator's ONNX graph by one whose convolutions compute in int8.

    Args:
        file: the .onnx file, in fp32.
        pipeline, captions: as for `quantize_for_openvino`.

    Raises:
        GalipError: a package is missing.
    """
    require("precision int8", "export", ["onnxruntime", "onnx"])
    with without_telemetry():
        import onnxruntime
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        feeds = iter(_feeds(pipeline, captions))

        def get_next(self) -> Any:
            return next(self.feeds, None)

    with TemporaryDirectory(dir=file.parent) as between:
        # Weights that are computed from stored ones become constants, without which no convolution is quantised.
        folded, done = Path(between) / "folded.onnx", Path(between) / "done.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        with _silence():
            quantize_static(
                folded,
                done,
                Reader(),
                op_types_to_quantize=["Conv"],
                per_channel=True,
                # Without VNNI sums of two products of 8-bit numbers are cut off at 16 bits.
                reduce_range=True,
                weight_type=QuantType.QInt8,
            )
        done.replace(file)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the quantisers' bars off standard output, where a command's own lines go, and their advice to themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _feeds(pipeline: GALIPPipeline, captions: Sequence[str]) -> list[dict[str, FloatArray]]:
    """What the generator's graph is given for captions, the i-th with the noise of seed i."""
    sizes = pipeline.sizes
    return [
        {"z": noise([seed], sizes.z_dim), "e": np.repeat(vector[None, None], sizes.num_stages, axis=1)}
        for seed, vector in enumerate(pipeline.embed(list(captions)))
    ]


def measure(engine: TextToImage, pipeline: GALIPPipeline, captions: Sequence[str]) -> dict[str, Any]:
    """How near an exported model's images are to the pipeline's own.

    Returns:
        `psnr_mean` and `psnr_lowest`, decibels over images in [0, 1] (higher is nearer; above about 40 nobody sees a
        difference), `largest_difference` of any number of an image, and `captions`, how many were generated, with
        seed 0.
    """
    psnr, largest = [], 0.0
    streams = [pipe.stream(list(captions), seed=0, output_type="np") for pipe in (pipeline, engine)]
    for expected, drawn in zip(*streams, strict=True):
        difference = np.abs(expected.images - drawn.images).astype(np.float64)
        largest = max(largest, float(difference.max()))
        error = np.maximum((difference**2).mean(axis=(1, 2, 3)), 1e-12)
        psnr += (-10 * np.log10(error)).tolist()
    return {
        "psnr_mean": round(float(np.mean(psnr)), 2),
        "psnr_lowest": round(min(psnr), 2),
        "largest_difference": round(largest, 5),
        "captions": len(captions),
    }
