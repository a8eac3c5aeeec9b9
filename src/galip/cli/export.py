"""`galip export`: a model for another engine, or in another precision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from galip.cli.options import ModelArgument, OldOut, one_out
from galip.errors import InputError
from galip.generation.load import load
from galip.generation.prompts import read_captions
from galip.model_repo.export_folder import check_out, is_export, written_whole
from galip.model_repo.fingerprint import fingerprint
from galip.model_repo.index import check_model_folder
from galip.model_repo.resolve import fetch
from galip.utils.terminal import note, progress_bars, say

if TYPE_CHECKING:
    from galip.torch_backend.pipeline import GALIPPipeline

Format = Literal["openvino", "onnx", "torch"]
Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: dict[Format, tuple[Precision, ...]] = {
    "openvino": ("fp32", "fp16", "int8"),
    "onnx": ("fp32", "fp16", "int8"),
    "torch": ("fp32", "fp16"),
}


def export(
    model: ModelArgument,
    old_out: OldOut = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The folder to write.")] = None,
    kind: Annotated[
        Format,
        typer.Option(
            "--format", help="openvino, onnx (for ONNX Runtime), or torch: a model folder without the discriminator."
        ),
    ] = "openvino",
    precision: Annotated[
        Precision,
        typer.Option(
            help="fp32; fp16: half the size; int8 (openvino, onnx): convolutions in 8-bit integers, with --captions."
        ),
    ] = "fp32",
    captions: Annotated[
        Path | None,
        typer.Option(
            help="A UTF-8 file with one prompt a line, like those that will be used: calibrates int8, and measures "
            "how near the images are to those in fp32."
        ),
    ] = None,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Of a run's checkpoint: the generator's own weights instead of their average."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")] = False,
) -> None:
    """Write a model for an engine that generates without torch, or a run's checkpoint as a model folder.

    The folder holds text encoder, generator, tokenizer and a model card, and loads like any model: galip.load(OUT).
    """
    goal = one_out(out, old_out, "the folder to write")
    if precision not in PRECISIONS[kind]:
        raise InputError(f"--precision {precision}: for the format {kind} there are {', '.join(PRECISIONS[kind])}")
    if precision == "int8" and captions is None:
        raise InputError(
            "--precision int8 is calibrated with captions like those to be asked for: give --captions FILE"
        )
    lines = [] if captions is None else read_captions(captions.read_bytes(), str(captions))
    check_out(goal, overwrite)
    if _is_checkpoint(model):
        _export_checkpoint(Path(model).expanduser(), goal, kind, precision, raw)
        return
    if raw:
        raise InputError(f"--raw: {model} has one generator; give a checkpoint of a run, RUN/checkpoints/images-N")
    folder = fetch(model)
    if is_export(folder):
        raise InputError(f"{folder}: this model is exported already; give the model that it was made from")
    check_model_folder(folder)
    if kind == "torch":
        if captions is not None:
            raise InputError("--captions: they calibrate and measure what is exported for an engine, not for torch")
        _export_torch(folder, goal, precision)
    else:
        _export_engine(folder, Path(model).name, goal, kind, precision, lines)
    size = sum(path.stat().st_size for path in goal.rglob("*") if path.is_file())
    say(f"{goal}: {kind}, {precision}, {size / 1e6:.1f} MB")


def _is_checkpoint(model: str) -> bool:
    folder = Path(model).expanduser()
    return folder.name.startswith("images-") and (folder / "state.json").is_file()


def _export_checkpoint(checkpoint: Path, out: Path, kind: str, precision: str, raw: bool) -> None:
    if (kind, precision) != ("torch", "fp32"):
        raise InputError(
            f"{checkpoint}: a checkpoint becomes a model folder first: add --format torch, and export that folder then"
        )
    from galip.training.export import export_checkpoint

    export_checkpoint(checkpoint, out, raw=raw)
    say(f"{out}: {'the raw' if raw else 'the averaged'} generator of {checkpoint.name}")


def _export_engine(folder: Path, name: str, out: Path, kind: str, precision: str, captions: list[str]) -> None:
    from galip.evaluation.likeness import compare
    from galip.export.exporting import Source
    from galip.export.exporting import export as write
    from galip.generation.select import require_engine

    require_engine("openvino" if kind == "openvino" else "onnxruntime")
    pipeline = _load(folder)
    with progress_bars() as progress:
        manifest = write(pipeline, Source(name, folder), out, kind, precision, captions, progress, compare)  # type: ignore[arg-type]
    if manifest.quality is not None:
        quality = manifest.quality
        say(
            f"against fp32, over {quality['captions']} captions: PSNR {quality['psnr_mean']} dB in the mean, "
            f"{quality['psnr_lowest']} dB at the lowest, largest difference {quality['largest_difference']}"
        )
        if "frechet" in quality:
            say(
                f"over {quality['pictures']} pictures, by the model's own CLIP: CLIP score {quality['clip_score']}, in "
                f"fp32 {quality['clip_score_fp32']}; Frechet distance {quality['frechet']}, of other seeds "
                f"{quality['frechet_seeds']}"
            )


def _export_torch(folder: Path, out: Path, precision: str) -> None:
    import torch

    pipeline = _load(folder)
    if precision == "fp16":
        pipeline.to(torch.float16)
    with written_whole(out) as unfinished:
        pipeline.save_pretrained(unfinished, discriminator=False)
    say(f"weights {fingerprint(folder)} -> {fingerprint(out)}")


def _load(folder: Path) -> GALIPPipeline:
    note(f"loading {folder}")
    return load(folder, device="cpu", dtype="float32", engine="torch")
