"""A picture from a caption on this machine: GALIP as it was released, GALIP as it is here, and diffusion models.

    python benchmarks/peers.py                           # everything, batch 1, fp32, 2 threads
    python benchmarks/peers.py --model emoji-64 --batches 1 16 --peers      # the bundled model, without diffusion
    python benchmarks/peers.py --quick --out /tmp/q.json # tiny shapes: does it run?
    python benchmarks/peers.py --device cuda --dtype bf16 --batches 1 32 --forms released torch compile   # on a GPU

Every row is measured in processes of its own, one at a time, from the prompt to the PIL image. Weights are random where
MODEL is the name of a preset, and always those of the peers, built from their published configurations: time does not
depend on what weights are. On a GPU `compile` is CUDA graphs, and one run is of one --dtype. Of a long diffusion a few
steps are timed and the picture is reckoned from them: one that says "reckoned" would take `rest + steps * step`, where
the rest is all that is not a step, above all text encoder and decoder. That pictures as released and ours are the same
is checked before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, SIZES, median, random_networks, table, write_result
from peer_models import PEERS, build, parameters
from released_form import ReleasedForm

import galip
from galip.benchmarking.running import run_worker
from galip.benchmarking.worker import Orders, captions
from galip.model_repo.describe import describe
from galip.model_repo.resolve import fetch
from galip.torch_backend.pipeline import GALIPPipeline
from galip.utils.memory import peak_bytes
from galip.utils.provenance import machine

RELEASED = "released"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FORMS = {
    RELEASED: "GALIP as released (PyTorch, not folded, 77 tokens)",
    "torch": "GALIP, torch",
    "compile": "GALIP, torch.compile",
    "openvino": "GALIP, OpenVINO",
    "onnxruntime": "GALIP, ONNX Runtime",
}
"""GALIP as the authors' code computes it, and by our engines."""
ROUNDS = 3
"""Processes of each form, in turns."""
TOLERANCE = 1
"""Of 255, between pictures of the released form and ours: 8-bit rounding may fall either way."""


# ---- GALIP


def form_rows(orders: Orders, forms: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """A row for each form and batch size; processes of all forms take turns."""
    here = Path(__file__).parent
    facts = describe(folder)
    found: dict[str, list[dict[str, Any]]] = {form: [] for form in forms}
    for form in forms:
        if form != RELEASED:
            run_worker(replace(orders, engine=form, batches=[]))  # converts
    for number in range(1, ROUNDS + 1):
        for form, rounds in found.items():
            _say(f"round {number} of {ROUNDS}: {form}")
            if form == RELEASED:
                rounds.append(_child([str(here / "released_form.py")], asdict(orders)))
            else:
                rounds.append(run_worker(replace(orders, engine=form)))
    rows = []
    for form, rounds in found.items():
        for batch in orders.batches:
            cells = [one["cells"][str(batch)] for one in rounds]
            every = [seconds for cell in cells for seconds in cell["whole"]]
            rows.append(
                {
                    "name": form,
                    "title": FORMS[form],
                    "pixels": facts.image_size,
                    "steps": 1,
                    "batch": batch,
                    "seconds": median(every) / batch,
                    "all_seconds": every,
                    "reckoned": False,
                    "parameters": facts.trainable + facts.frozen,
                    "peak_bytes": max(cell["peak_bytes"] for cell in cells),
                }
            )
    return rows


def largest_difference(model: str, device: str) -> int:
    """Of a pixel, of 255, between pictures of the released form and of ours.

    Raises:
        SystemExit: they are not the same pictures.
    """
    pipe = galip.load(model, engine="torch", device=device, dtype="float32")
    prompts, seeds = captions(2), [0, 1]
    ours = [np.asarray(image).astype(int) for image in pipe(prompts, seed=seeds).images]
    theirs = [np.asarray(image).astype(int) for image in ReleasedForm(pipe)(prompts, seeds)]
    difference = int(np.abs(np.stack(ours) - np.stack(theirs)).max())
    if difference > TOLERANCE:
        raise SystemExit(f"released form and ours differ by {difference} of 255: these are not the same pictures")
    return difference


# ---- the peers


def measure_peer(
    name: str, repeats: int, timed_steps: int, quick: bool, device: str = "cpu", dtype: str = "fp32", threads: int = 1
) -> dict[str, Any]:
    """Seconds of pictures: drawn whole where they have no more than `timed_steps` steps, else reckoned.

    Args:
        name: of `PEERS`.
        repeats: pictures of few steps to time.
        timed_steps: of a picture with more steps, at least two.
        quick: tiny shapes.
        device: "cpu" or "cuda".
        dtype: "fp32", "bf16" or "fp16".
        threads: of OpenVINO, where the peer computes by it.
    """
    peer = PEERS[name]
    pipe = build(peer, quick, dtype=DTYPES[dtype], threads=threads)
    if device != "cpu":
        pipe.to(device)
        torch.cuda.reset_peak_memory_stats()
    starts: list[float] = []
    forward = pipe.unet.forward

    def noted(*args: Any, **options: Any) -> Any:
        _synchronise(device)
        starts.append(time.perf_counter())
        return forward(*args, **options)

    pipe.unet.forward = noted

    def draw(steps: int) -> None:
        starts.clear()
        peer.draw(pipe, captions(1)[0], steps)

    draw(1)
    found: dict[str, Any] = {"parameters": parameters(pipe), "pictures": {}}
    for steps in peer.steps:
        if steps <= timed_steps:
            times = [_timed(lambda n=steps: draw(n)) for _ in range(repeats)]  # type: ignore[misc]
            found["pictures"][str(steps)] = {"seconds": median(times), "reckoned": False}
    if long := [steps for steps in peer.steps if steps > timed_steps]:
        whole = _timed(lambda: draw(timed_steps))
        step, rest = reckon(whole, starts)
        more = len(starts) - timed_steps  # some schedulers call the network once more than they have steps
        found |= {"step": step, "rest": rest}
        for steps in long:
            found["pictures"][str(steps)] = {"seconds": rest + (steps + more) * step, "reckoned": True}
    side = pipe.unet.config.sample_size * 2 ** (len(_decoder(pipe).config.block_out_channels) - 1)
    held = torch.cuda.max_memory_allocated() if device != "cpu" else peak_bytes()
    return found | {"pixels": side, "peak_bytes": held}


def peer_rows(
    name: str, repeats: int, timed_steps: int, quick: bool, threads: int, device: str, dtype: str
) -> list[dict[str, Any]]:
    """A row for each number of steps, measured in a process of its own."""
    _say(f"measuring {name}")
    told = {"name": name, "repeats": repeats, "timed_steps": timed_steps, "quick": quick}
    told |= {"device": device, "dtype": dtype, "threads": threads}
    one = _child([__file__, "--peer-here", "--threads", str(threads)], told)
    shared = {key: one[key] for key in ("pixels", "parameters", "peak_bytes")}
    return [
        {"name": name, "title": PEERS[name].title, "steps": int(steps), "batch": 1}
        | picture
        | shared
        | {"step": one.get("step"), "rest": one.get("rest")}
        for steps, picture in one["pictures"].items()
    ]


def reckon(whole: float, starts: Sequence[float]) -> tuple[float, float]:
    """Seconds of one denoising step, and of everything else, of a picture that took `whole` seconds.

    Args:
        whole: seconds of the picture.
        starts: when each of its steps began, at least two.
    """
    between = [later - earlier for earlier, later in pairwise(starts)]
    step = median(between)
    return step, whole - sum(between) - step  # the last step, which nothing follows, is taken for a usual one


def _synchronise(device: str) -> None:
    """Wait for what has been asked of a GPU."""
    if device != "cpu":
        torch.cuda.synchronize()


def _decoder(pipe: Any) -> Any:
    return pipe.vqvae if hasattr(pipe, "vqvae") else pipe.vae


def _timed(job: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    job()
    return time.perf_counter() - begun


def _child(command: list[str], told: dict[str, Any]) -> dict[str, Any]:
    """What a script prints as its last line, where nothing else uses memory."""
    ended = subprocess.run(
        [sys.executable, *command], input=json.dumps(told), stdout=subprocess.PIPE, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answer


def _say(line: str) -> None:
    print(line, file=sys.stderr)


# ---- the report


def add_ratios(rows: list[dict[str, Any]]) -> str | None:
    """Give every row `ratio`, its seconds by those of ours, and `ratio_released`, by those of the released form.

    Both are one picture at a time; ours is the fastest engine.

    Returns:
        The name of ours; None where no engine was measured.
    """
    single = {row["name"]: row["seconds"] for row in rows if row["batch"] == 1 and row["name"] in FORMS}
    ours = min((name for name in single if name != RELEASED), key=single.__getitem__, default=None)
    for row in rows:
        row["ratio"] = row["seconds"] / single[ours] if ours else None
        row["ratio_released"] = row["seconds"] / single[RELEASED] if RELEASED in single else None
    return ours


def report(result: dict[str, Any]) -> str:
    """The comparison as markdown."""
    head = ["", "pixels", "steps", "batch", "s a picture", "times ours", "times released", "parameters, M", "GiB"]
    lines = []
    for row in result["rows"]:
        seconds = f"{row['seconds']:.3g}" + (" (reckoned)" if row["reckoned"] else "")
        first = [row["title"], row["pixels"], row["steps"], row["batch"], seconds]
        lines.append([*first, row["ratio"], row["ratio_released"], row["parameters"] / 1e6, row["peak_bytes"] / 2**30])
    place = f"{result['threads']} threads" if result["device"] == "cpu" else result["device"]
    notes = [f"{result['model']}, {result['dtype']}, {place}."]
    notes += [_beside_the_paper(result["rows"])] if _beside_the_paper(result["rows"]) else []
    if result["ours"]:
        notes.append(f"Ours is {FORMS[result['ours']]}, one picture at a time.")
    if result["largest_difference"] is not None:
        notes.append(f"Pictures as released and ours differ by at most {result['largest_difference']} of 255.")
    if any(row["reckoned"] for row in result["rows"]):
        notes.append(f"Reckoned: {result['timed_steps']} steps were timed and multiplied.")
    return f"{table(head, lines)}\n\n{' '.join(notes)}"


def _beside_the_paper(rows: list[dict[str, Any]]) -> str:
    """The paper's two figures with ours beside them; empty where there are no such rows."""
    single = {row["name"]: row["seconds"] for row in rows if row["batch"] == 1 and row["name"] in FORMS}
    ldm = {row["steps"]: row["seconds"] for row in rows if row["name"] == "ldm"}
    if not single:
        return ""
    best = min(single.values())
    text = f"The paper: 0.04 s an image (RTX 3090); here {best:.3g} s."
    if RELEASED in single and ldm:
        ratios = " and ".join(f"{seconds / single[RELEASED]:.0f} ({steps} steps)" for steps, seconds in ldm.items())
        text += f" The paper: 120 times faster than the LDM; here the form as released {ratios}."
    return text


def save_random(size: str, folder: Path) -> Path:
    """A model folder of a preset's size with random weights."""
    networks = random_networks(size)
    pipe = GALIPPipeline(networks.tokenizer, networks.text_encoder, networks.vision.model, networks.generator)
    pipe.save_pretrained(folder)
    return folder


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="released-b32-224", help="a preset (random weights), or any model")
    usual = [form for form in FORMS if form != "compile"]
    parser.add_argument("--forms", nargs="*", default=usual, choices=list(FORMS), metavar="FORM", help=", ".join(FORMS))
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=list(PEERS),
        metavar="PEER",
        help=f"{', '.join(PEERS)}; default: what the device can",
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[1], help="of GALIP; peers draw one at a time")
    parser.add_argument("--seconds", type=float, default=4.0, help="spent on each form and batch size in each round")
    parser.add_argument("--repeats", type=int, default=2, help="pictures of peers with few steps")
    parser.add_argument("--timed-steps", type=int, default=4, help="of peers with more of them")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="fp32", choices=list(DTYPES), help="of all torch rows")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to see whether it runs")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/peers-MODEL.json")
    parser.add_argument("--peer-here", action="store_true", help=argparse.SUPPRESS)  # told by standard input
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.peer_here:
        print(json.dumps(measure_peer(**json.load(sys.stdin))))
        return
    if min(given.repeats, given.threads, *given.batches) < 1 or given.timed_steps < 2:
        parser.error("--repeats, --threads and --batches must be at least 1, --timed-steps at least 2")
    if given.device != "cpu" and (foreign := sorted({"openvino", "onnxruntime"} & set(given.forms))):
        parser.error(f"--forms {foreign[0]} computes on the CPU; on a GPU give {RELEASED}, torch, compile")
    if given.peers is None:  # what computes by OpenVINO is for a CPU
        given.peers = [
            name for name, peer in PEERS.items() if not (peer.needs_gpu, peer.openvino)[given.device != "cpu"]
        ]
    model = "tiny" if given.quick else given.model
    result: dict[str, Any] = {"model": model, "threads": given.threads, "timed_steps": given.timed_steps}
    result |= {"device": given.device, "dtype": given.dtype}
    result |= {"machine": machine(), "largest_difference": None, "rows": []}
    with tempfile.TemporaryDirectory() as place:
        if given.forms:
            os.environ["GALIP_CACHE"] = place  # conversions of random weights are of no use to anybody later
            folder = save_random(model, Path(place) / model) if model in SIZES else fetch(model)
            batches = sorted({1, *given.batches})  # ratios are those of one picture
            result["largest_difference"] = largest_difference(str(folder), given.device)
            # An engine of the CPU takes no type of torch's.
            dtype = None if given.dtype == "fp32" else str(DTYPES[given.dtype]).removeprefix("torch.")
            orders = Orders(str(folder), "torch", given.device, given.threads, batches, given.seconds, 0.0, dtype)
            result["rows"] += form_rows(orders, given.forms, folder)
    for name in given.peers:
        result["rows"] += peer_rows(
            name, given.repeats, given.timed_steps, given.quick, given.threads, given.device, given.dtype
        )
    result["ours"] = add_ratios(result["rows"])
    print(report(result))
    write_result(given.out or RESULTS / f"peers-{Path(model).name}.json", result)


if __name__ == "__main__":
    main()
