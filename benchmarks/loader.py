"""Does the trainer wait for data? Pictures a second out of the loader, against the number of workers.

    python benchmarks/loader.py                          # measures our step of released-b32-224, batch 4, by itself
    python benchmarks/loader.py --step-rate 250          # against a trainer that takes 250 images/s

A folder of generated JPEGs (500 x 375, about 80 kB: bytes a pixel as in COCO's) with captions is read as it is and from
tars, scaled to a shorter side of 266 and cut to 224 as `configs/coco.yaml` has it. The rate is
that of the loader running free. Then batches are taken at the trainer's rate, and the time that each one makes the
trainer wait is measured; between batches this process sleeps, so the cores are the loader's, as they are beside a GPU.
Beside a trainer on the CPU the loader's work comes out of the same cores: the report says how much of one core it is.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, captions, median, table, write_result
from PIL import Image
from train_step import in_fresh_process
from webdataset import TarWriter

from galip.data.loader import Loader
from galip.data.open import open_source
from galip.utils.provenance import machine

SHARDS = 4
SIZE, SHORTER_SIDE = 224, 266
PACED = 20
"""Batches taken at the trainer's rate."""
LONGEST_PAUSE = 1.0
"""Seconds; the loader is long done by then, so that a longer pause between batches would change nothing."""
WARM_UP = 2
"""Batches before the measurement: workers must have started."""


# ---- the pictures


def jpegs(count: int) -> Iterator[bytes]:
    """Colour gradients under film grain: about as many bytes for their size as photographs have."""
    random = np.random.default_rng(0)
    for _ in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.float32)
        grain = random.normal(0, 14, smooth.shape)
        buffer = io.BytesIO()
        Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        yield buffer.getvalue()


def write_data(folder: Path, count: int) -> tuple[dict[str, Path], float]:
    """The same pictures as a plain folder and as tars; also the mean size of a JPEG in bytes."""
    plain, tars = folder / "folder", folder / "shards"
    plain.mkdir()
    tars.mkdir()
    texts, rows, size = captions(count), [], 0
    writers = [TarWriter(str(tars / f"{number:05d}.tar")) for number in range(SHARDS)]
    for number, (content, text) in enumerate(zip(jpegs(count), texts, strict=True)):
        name = f"{number:06d}"
        (plain / f"{name}.jpg").write_bytes(content)
        rows.append({"file_name": f"{name}.jpg", "captions": [text]})
        writers[number * SHARDS // count].write({"__key__": name, "jpg": content, "txt": text.encode()})
        size += len(content)
    for writer in writers:
        writer.close()
    (plain / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"folder": plain, "shards": tars}, size / count


# ---- measuring


def batches(source: Any, workers: int, batch: int) -> Iterator[Any]:
    """The loader's batches after those that start it up."""
    options = {"run_seed": 0, "size": SIZE, "shorter_side": SHORTER_SIDE, "flip": False}
    endless = iter(Loader(source, **options, batch=batch, workers=workers))
    for _ in range(max(WARM_UP, 2 * workers)):
        next(endless)
    return endless


def free_rate(source: Any, workers: int, batch: int, pictures: int) -> float:
    """Pictures a second, taken as fast as they come."""
    endless, count = batches(source, workers, batch), max(1, pictures // batch)
    # What the workers have read ahead by now would flatter them: an equal number stays behind at the end.
    begun = time.perf_counter()
    for _ in range(count):
        next(endless)
    return count * batch / (time.perf_counter() - begun)


def waiting(source: Any, workers: int, batch: int, step_rate: float) -> float:
    """Median seconds that a trainer of `step_rate` pictures a second waits for a batch."""
    endless, waits = batches(source, workers, batch), []
    for _ in range(PACED):
        time.sleep(min(batch / step_rate, LONGEST_PAUSE))
        begun = time.perf_counter()
        next(endless)
        waits.append(time.perf_counter() - begun)
    return median(waits)


def report(result: dict[str, Any]) -> str:
    """The measurement as markdown."""
    rate, batch = result["step_rate"], result["batch"]
    head = ["data", "workers", "pictures/s", "times the step rate", "wait for a batch, ms", "share of a step"]
    lines = []
    for row in result["rows"]:
        share = row["wait"] * rate / batch
        line = [row["data"], row["workers"], row["rate"], f"{row['rate'] / rate:.1f}", 1000 * row["wait"]]
        lines.append([*line, f"{100 * share:.1f} %"])
    alone = min(row["rate"] for row in result["rows"] if row["workers"] == 0)
    return f"""\
{result["pictures"]} JPEGs of 500 x 375, {result["jpeg_bytes"] / 1000:.0f} kB each, batches of {batch}; the trainer \
takes {rate:.3g} images/s ({result["step_rate_from"]})

{table(head, lines)}

At this step rate the loader's work is {100 * rate / alone:.1f} % of one core. {verdict(result)}"""


def verdict(result: dict[str, Any]) -> str:
    """Whether the trainer would wait, and what to do if so."""
    rate, rows = result["step_rate"], result["rows"]
    enough = [row for row in rows if row["workers"] and row["rate"] > rate]
    if not enough:
        most = max(row["rate"] for row in rows)
        return (
            f"The trainer waits: at most {most:.0f} pictures/s were read; it needs more workers, on cores of their own."
        )
    share = max(row["wait"] for row in enough) * rate / result["batch"]
    return (
        f"From {min(row['workers'] for row in enough)} worker(s) on the loader is faster than the trainer; the longest "
        f"median wait is then {100 * share:.2f} % of a step."
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--step-rate", type=float, help="images/s of the trainer; default: measured")
    parser.add_argument("--preset", default="released-b32-224", help="whose step is measured, at batch 4")
    parser.add_argument("--threads", type=int, default=2, help="of that step")
    parser.add_argument("--out", type=Path, default=RESULTS / "loader.json")
    given = parser.parse_args()
    if min(given.workers) < 0 or given.batch < 1 or given.pictures < SHARDS:
        parser.error(f"--workers from 0, --batch from 1, --pictures from {SHARDS}")
    torch.set_num_threads(1)
    about, origin = machine(), "as given"
    rate = given.step_rate
    if rate is None:
        rate = 4 / in_fresh_process("ours", given.preset, 4, 3, given.threads)["seconds"]
        origin = f"measured: our step of {given.preset}, batch 4, {given.threads} threads"
    with tempfile.TemporaryDirectory() as folder:
        print(f"writing {given.pictures} pictures ...", file=sys.stderr)
        places, size = write_data(Path(folder), given.pictures)
        rows = []
        for data, place in places.items():
            source = open_source(str(place))
            for workers in sorted({0, *given.workers}):
                print(f"measuring {data} with {workers} workers ...", file=sys.stderr)
                found = free_rate(source, workers, given.batch, given.pictures)
                wait = waiting(source, workers, given.batch, rate)
                rows.append({"data": data, "workers": workers, "rate": found, "wait": wait})
    result = {"pictures": given.pictures, "jpeg_bytes": size, "batch": given.batch, "cores": os.cpu_count()}
    result |= {"step_rate": rate, "step_rate_from": origin, "machine": about, "rows": rows}
    print(report(result))
    write_result(given.out, result)


if __name__ == "__main__":
    main()
