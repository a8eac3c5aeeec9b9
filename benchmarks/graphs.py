"""A model folder's graphs beside an earlier version's exported graphs: seconds of a generator, and of loading it.

    git worktree add ../earlier v0.1
    python benchmarks/graphs.py --earlier ../earlier            # emoji-64 and released-b32-224, batches of 1 and 8

The earlier version exports the model with its own `galip export`, in a process of its own. Then each engine loads both
graphs in one process, and they generate in turns, first the one, then the other, then in the other order, so that a
busy moment falls on both. `ratio` is the median over the turns of the earlier version's seconds by ours: above 1 we are
quicker. That both give the same images is checked first. Weights of `released-b32-224` are random, which time does not
depend on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, median, random_networks, table, write_result

from galip.generation.engines import load_network
from galip.generation.onnx_backend import CHUNKS
from galip.model_repo.export_folder import GENERATOR, SUFFIX
from galip.model_repo.graphs import read_graphs
from galip.model_repo.resolve import bundled_models
from galip.torch_backend.pipeline import GALIPPipeline
from galip.utils.provenance import machine

ENGINES = {"onnxruntime": "onnx", "openvino": "openvino"}
TOLERANCE = 1e-4
"""Largest difference between both images, of a range of 2."""


def prepare(model: str, place: Path, earlier: Path) -> Path:
    """A folder with the model, `model`, and what the earlier version exports of it, `onnx` and `openvino`.

    Args:
        model: a bundled model's name, or a preset's, for random weights.
        place: where to write.
        earlier: a checkout of the earlier version.
    """
    folder = place / model
    if model in bundled_models():
        shutil.copytree(bundled_models()[model], folder / "model")
    else:
        networks = random_networks(model)
        parts = (networks.tokenizer, networks.text_encoder, networks.vision.model, networks.generator)
        GALIPPipeline(*parts).save_pretrained(folder / "model")
    environment = os.environ | {"PYTHONPATH": str(earlier / "src")}
    for kind in ENGINES.values():
        command = [sys.executable, "-m", "galip", "export", folder / "model", folder / kind, "--format", kind]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return folder


def measure(folder: Path, engine: str, batch: int, threads: int, seconds: float) -> dict[str, Any]:
    """Both graphs in turns: `load`, `seconds` by form, and `ratio`.

    Raises:
        SystemExit: they give different images.
    """
    kind = ENGINES[engine]
    files = {"earlier": folder / kind / f"{GENERATOR}{SUFFIX[kind]}", "ours": folder / "model" / f"{GENERATOR}.onnx"}  # type: ignore[index]
    sizes, rng = read_graphs(folder / "model"), np.random.default_rng(0)
    e = np.repeat(rng.standard_normal((batch, 1, sizes.cond_dim), np.float32), sizes.num_stages, axis=1)
    feeds = {"z": rng.standard_normal((batch, sizes.z_dim), np.float32), "e": e}
    networks, load, images = {}, {}, {}
    for form, file in files.items():
        begun = time.perf_counter()
        networks[form] = load_network(engine, file, threads, CHUNKS)
        images[form] = networks[form](feeds)  # OpenVINO compiles at the first call
        load[form] = time.perf_counter() - begun
    difference = float(np.abs(images["ours"] - images["earlier"]).max())
    if not difference <= TOLERANCE:
        raise SystemExit(f"{engine}: the images differ by {difference:.1e}")
    times: dict[str, list[float]] = {form: [] for form in files}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["ours"]) < 10:
        turn = sorted(files, reverse=len(times["ours"]) % 2 == 0)
        for form in turn:
            begun = time.perf_counter()
            networks[form](feeds)
            times[form].append(time.perf_counter() - begun)
    ratio = median([old / new for old, new in zip(times["earlier"], times["ours"], strict=True)])
    found = {form: median(each) for form, each in times.items()}
    return {"engine": engine, "batch": batch, "load": load, "seconds": found, "ratio": ratio, "difference": difference}


def report(rows: list[dict[str, Any]]) -> str:
    """The results as markdown."""
    cells = [
        [
            f"{row['model']}, {row['engine']}, batch {row['batch']}",
            *(1000 * row["seconds"][form] for form in ("earlier", "ours")),
            row["ratio"],
            *(row["load"][form] for form in ("earlier", "ours")),
        ]
        for row in rows
    ]
    return table(["graph", "earlier, ms", "ours, ms", "ratio", "load earlier, s", "load ours, s"], cells)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--earlier", type=Path, help="a checkout of the version to compare with")
    parser.add_argument("--models", nargs="+", default=["emoji-64", "released-b32-224"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--seconds", type=float, default=20.0, help="for each row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "graphs.json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker is not None:
        order = json.loads(given.worker)
        print(json.dumps(measure(Path(order.pop("folder")), **order)))
        return
    if given.earlier is None or not (given.earlier / "src" / "galip").is_dir():
        parser.error("--earlier: give a checkout of the version to compare with")
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for model in given.models:
            folder = prepare(model, Path(place), given.earlier.resolve())
            for engine in given.engines:
                for batch in given.batches:
                    order = {"engine": engine, "batch": batch, "threads": given.threads, "seconds": given.seconds}
                    command = [sys.executable, __file__, "--worker", json.dumps(order | {"folder": str(folder)})]
                    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                    rows.append({"model": model} | json.loads(ended.stdout))
                    print(report(rows[-1:]).splitlines()[-1], file=sys.stderr)
    print(report(rows))
    write_result(given.out, {"machine": machine(), "threads": given.threads, "rows": rows})


if __name__ == "__main__":
    main()
