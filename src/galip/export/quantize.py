"""int8: ranges of the generator's activations from real captions, and what it costs in likeness."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from galip.errors import GalipError, InputError
from galip.generation.noise import noise
from galip.generation.onnx_backend import EnginePipeline
from galip.torch_backend.pipeline import GALIPPipeline

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
            f"precision int8 is calibrated with captions like those to be drawn: at least {FEWEST_CAPTIONS} different "
            f"ones are needed, some hundred are better, and there are {len(distinct)}"
        )
    calibrating = [caption for i, caption in enumerate(distinct) if i % 4 != 3]
    return calibrating[:_MOST_CALIBRATING], distinct[3::4][:_MOST_CALIBRATING]


def quantize(file: Path, pipeline: GALIPPipeline, captions: Sequence[str]) -> None:
    """Replace a generator's OpenVINO graph by one that computes in int8.

    Args:
        file: the .xml file, in fp32.
        pipeline: encodes the captions.
        captions: calibrate; the i-th with the noise of seed i.

    Raises:
        GalipError: NNCF is not installed.
    """
    import openvino

    with _nothing_sent():
        try:
            import nncf
        except ImportError as error:
            raise GalipError("the package nncf is missing, which int8 needs: pip install 'galip[export]'") from error
        stages, z_dim = pipeline.generator.num_stages, pipeline.generator.z_dim
        feeds = [
            {"z": noise([seed], z_dim), "e": np.repeat(vector[None, None], stages, axis=1)}
            for seed, vector in enumerate(pipeline.encode_prompt(list(captions)).cpu().numpy())
        ]
        core = openvino.Core()
        core.set_property({"ENABLE_MMAP": False})  # the files are about to be replaced
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


def measure(engine: EnginePipeline, pipeline: GALIPPipeline, captions: Sequence[str]) -> dict[str, Any]:
    """How near an exported model's pictures are to the pipeline's own.

    Returns:
        `psnr_mean` and `psnr_lowest`, decibels over pictures in [0, 1] (higher is nearer; above about 40 nobody sees a
        difference), `largest_difference` of any number of a picture, and `captions`, how many were drawn, with seed 0.
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


@contextmanager
def _nothing_sent() -> Iterator[None]:
    """NNCF reports its use to its makers unless it believes to run in a test."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before
