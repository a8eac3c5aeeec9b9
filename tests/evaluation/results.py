"""Results as `galip evaluate` writes them, for tests of what reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from galip.evaluation.result import (
    NEAREST,
    SAMPLES,
    Flag,
    NearestRow,
    Neighbour,
    Number,
    Result,
    Sample,
    files_of,
    write_result,
    write_rows,
)


def a_result(**changes: Any) -> Result:
    """A small whole result; `changes` are fields of `Result`."""
    values: dict[str, Any] = {
        "protocol": "tiny",
        "protocol_digest": "5d41402abc4b2a76",
        "settings": {"name": "tiny", "resolution": 64, "seeds": {"first": 0}, "metrics": ["fid", "clip_score"]},
        "model": "runs/birds/model",
        "model_digest": "9719911c00000000",
        "images_seen": 1_000,
        "data": "birds",
        "data_digest": "7d793037a0760186",
        "n_generated": 100,
        "n_reference": 100,
        "metrics": {
            "fid": Number(value=20.0, low=18.0, high=22.0, interval="jackknife, 95 %", count=100),
            "clip_score": Number(value=0.3, low=0.29, high=0.31, interval="bootstrap, 95 %", count=100),
        },
        "real_baseline": {"fid": Number(value=5.0, low=4.5, high=5.5)},
        "groups": {"colours": {"clip_score": Number(value=0.25)}, "counts": {"clip_score": Number(value=0.125)}},
        "extractors": {"inception": {"weights": "inception.pth", "digest": "0123456789abcdef"}},
        "versions": {"galip": "0.1.0"},
        "machine": {"device": "cpu", "processes": 2},
        "seed": 0,
        "seconds": 12.5,
    }
    return Result.model_validate(values | changes)


def fid(value: float, low: float | None = None, high: float | None = None) -> dict[str, Number]:
    """Metrics that are an FID alone."""
    return {"fid": Number(value=value, low=low, high=high)}


def flag(level: Any, text: str, about: str = "") -> Flag:
    return Flag(level=level, text=text, about=about)


def write_with_images(path: Path, result: Result, side: int = 8, caption: str = "a red bird") -> None:
    """Write a result and its folder: three samples, one of them with a real image, and one row of neighbours."""
    write_result(path, result)
    folder = files_of(path)
    for name in ("samples", "nearest"):
        (folder / name).mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (side, side), (60 * number, 0, 0)).save(folder / f"samples/{number:05d}.png")
    Image.new("RGB", (side, side), "green").save(folder / "samples/00000-real.png")
    Image.new("RGB", (side, side), "blue").save(folder / "nearest/0-0.jpg")
    write_rows(
        folder / SAMPLES,
        [
            Sample(
                number=number,
                caption=f"{caption} {number}",
                seed=number,
                group="colours",
                score=score,
                rank=rank,
                image=f"samples/{number:05d}.png",
                real="samples/00000-real.png" if number == 0 else None,
            )
            for number, (score, rank) in enumerate([(0.1, "worst"), (0.5, "best"), (0.3, "middle")])
        ],
    )
    neighbours = [Neighbour(image="nearest/0-0.jpg", distance=0.25, name="bird_7")]
    write_rows(
        folder / NEAREST,
        [NearestRow(image="samples/00001.png", caption=f"{caption} 1", seed=1, distance=0.25, neighbours=neighbours)],
    )
