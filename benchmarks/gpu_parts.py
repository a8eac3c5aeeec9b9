"""What `gpu.py` measures of networks: inference in three forms and types, and training steps, a JSON object a line.

python benchmarks/gpu_parts.py inference --device cuda --model released-b32-224 emoji-64 --batches 1 8 64
python benchmarks/gpu_parts.py train --device cuda --model released-b32-224 --batches 64
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from common import SIZES, random_batch, random_networks, run_config
from released_step import ReleasedStep
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import galip
from galip.data.samples import Batch
from galip.distributed import Distributed
from galip.models.clip import FrozenCLIPVision
from galip.models.generator import MateGenerator, WholeGenerator
from galip.training.cuda_graph import WARMUP_STEPS, CUDAGraphStep
from galip.training.rng import sample_noise
from galip.training.step import GANStep
from galip.training.step_base import prepare_models
from galip.training.text_vectors import CaptionVectors

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FORMS = ("eager", "graph", "compile")
COMPILED = (("bf16", 1), ("bf16", 64))
"""What is compiled on a GPU: each takes half a minute."""

Call = Callable[[], Any]


def tell(**row: Any) -> None:
    """A row of the result; floats with four figures."""
    print(json.dumps({k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}), flush=True)


def seconds_of(call: Call, device: torch.device, runs: int) -> float:
    """Median seconds of a call, each waited for."""
    times = []
    for _ in range(runs + 3):
        wait(device)
        begun = time.perf_counter()
        call()
        wait(device)
        times.append(time.perf_counter() - begun)
    return sorted(times[3:])[runs // 2]


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of a large matrix product."""
    side = 8192 if device.type == "cuda" else 256
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: a @ b, device, 7)


# ---- inference


def networks_of(model: str, device: torch.device) -> tuple[MateGenerator, FrozenCLIPVision]:
    """Generator in its inference form, and transformer, fp32: of a preset with random weights, or of a model."""
    if model in SIZES:
        networks = random_networks(model)
        generator, vision = networks.generator, networks.vision
    else:
        pipe = galip.load(model, engine="torch", device="cpu")
        generator, vision = pipe.generator, pipe.vision
    return generator.eval().for_inference().to(device), vision.to(device)


def forms_of(whole: WholeGenerator, inputs: tuple[Tensor, Tensor], form: str) -> Call:
    """A call that computes the images of `inputs`, in a form."""
    if form == "eager" or inputs[0].device.type != "cuda":
        return lambda: whole(*inputs)
    if form == "compile":
        compiled = torch.compile(whole, options={"triton.cudagraphs": True}, dynamic=False)
        return lambda: compiled(*inputs)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            whole(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        whole(*inputs)
    return graph.replay


@torch.no_grad()
def inference(model: str, batches: list[int], device: torch.device, runs: int) -> None:
    """Rows of a model; compiled ones come last, since each takes long."""
    generator, vision = networks_of(model, device)
    peaks = {name: peak_rate(dtype, device) for name, dtype in DTYPES.items()}
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    expected: dict[int, Tensor] = {}
    for form, precision, batch in cells(batches, device):
        dtype = DTYPES[precision]
        whole = WholeGenerator(generator, vision).eval()
        whole = copy.deepcopy(whole).to(dtype).to(memory_format=layout)
        random = torch.Generator().manual_seed(batch)
        z = torch.randn(batch, generator.z_dim, generator=random).to(device, dtype)
        e = torch.randn(batch, generator.num_stages, generator.cond_dim, generator=random).to(device, dtype)
        try:
            with FlopCounterMode(display=False) as counter:
                images = whole(z, e).float()
            expected.setdefault(batch, images)
            call = forms_of(whole, (z, e), form)
            seconds = seconds_of(call, device, runs)
        except RuntimeError as error:  # out of memory, or it cannot be captured or compiled
            tell(model=model, form=form, precision=precision, batch=batch, error=str(error).splitlines()[0])
            continue
        rate = counter.get_total_flops() / seconds
        tell(
            model=model,
            form=form,
            precision=precision,
            batch=batch,
            ms=1000 * seconds,
            images_per_second=batch / seconds,
            share_of_peak=rate / peaks[precision],
            levels_from_fp32=float((images.clamp(-1, 1) - expected[batch].clamp(-1, 1)).abs().max()) * 127.5,
        )
        del whole, call
        clear(device)


def cells(batches: list[int], device: torch.device) -> Iterator[tuple[str, str, int]]:
    """What is measured: form, precision, batch; fp32 comes first, which the others are compared with."""
    for form in FORMS[:2]:
        for precision in DTYPES:
            yield from ((form, precision, batch) for batch in batches)
    wanted = COMPILED if device.type == "cuda" else (("bf16", batches[0]),)
    yield from (("compile", precision, batch) for precision, batch in wanted if batch in batches)


def clear(device: torch.device) -> None:
    """Give memory back, so that the next row's peak is its own."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


# ---- training


class Ours:
    """The trainer's step in bf16, its vectors from a table."""

    def __init__(self, model: str, batch: int, distributed: Distributed, graph: bool) -> None:
        networks = random_networks(model)
        prepare_models(networks, distributed.device)
        networks.text_encoder.to(distributed.device)
        config = run_config(batch, distributed.device.type, precision="bf16", cuda_graph=graph)
        step = GANStep(networks, config, distributed)
        self.step = CUDAGraphStep(step) if graph else step
        self.batch = random_batch(networks, batch, 0)
        self.text = CaptionVectors(networks, sorted(self.batch.captions), distributed)(self.batch.captions)

    def __call__(self) -> None:
        self.step(self.batch, self.text)


class ReleasedOnDevice(ReleasedStep):
    """The released step, whose captions are encoded on the device and which computes in bf16 by autocast."""

    def encode(self, captions: Any) -> Tensor:
        encoder = self.networks.text_encoder
        tokens = self.networks.tokenizer(
            list(captions),
            padding="max_length",
            truncation=True,
            max_length=encoder.config.max_position_embeddings,
            return_tensors="pt",
        )
        with torch.no_grad():
            vectors: Tensor = encoder(input_ids=tokens["input_ids"].to(encoder.device)).text_embeds
        return vectors.float()


class Released:
    """The released step in bf16; it cannot become a CUDA graph, since it encodes captions and looks at numbers."""

    def __init__(self, model: str, batch: int, distributed: Distributed) -> None:
        networks, config = random_networks(model), run_config(batch)
        for network in (networks.vision, networks.generator, networks.discriminator, networks.text_encoder):
            network.to(distributed.device)
        self.step = ReleasedOnDevice(networks, config.loss, config.optimizer)
        self.batch: Batch = random_batch(networks, batch, 0)
        self.images = self.batch.images.to(distributed.device)
        self.z = sample_noise(config.seed, self.batch.indices, networks.generator.z_dim).to(distributed.device)
        self.device = distributed.device

    def __call__(self) -> None:
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            self.step(self.images, self.batch.captions, self.z)


def train(model: str, batch: int, device: torch.device, runs: int) -> None:
    """Rows of a preset: both steps, ours as a CUDA graph too."""
    distributed = Distributed(device.type)
    kinds: list[tuple[str, bool, Callable[[], Call]]] = [
        ("released", False, lambda: Released(model, batch, distributed)),
        ("ours", False, lambda: Ours(model, batch, distributed, False)),
    ]
    if device.type == "cuda":
        kinds.append(("ours", True, lambda: Ours(model, batch, distributed, True)))
    before = 0.0
    for name, graph, make in kinds:
        clear(device)
        try:
            call = make()
            for _ in range(WARMUP_STEPS + 1 if graph else 0):
                call()
            seconds = seconds_of(call, device, runs)
        except (RuntimeError, galip.GalipError) as error:
            tell(model=model, step=name, cuda_graph=graph, batch=batch, error=str(error).splitlines()[0])
            continue
        before = seconds if name == "released" else before
        peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
        tell(
            model=model,
            step=name,
            cuda_graph=graph,
            batch=batch,
            ms=1000 * seconds,
            images_per_second=batch / seconds,
            times_released=before / seconds if before else None,
            peak_gib=peak,
        )
        del call


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("inference", "train"))
    parser.add_argument("--model", nargs="+", default=["released-b32-224"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--runs", type=int, default=15)
    given = parser.parse_args()
    device = torch.device(given.device)
    torch.backends.cudnn.benchmark = True
    for model in given.model:
        if given.what == "inference":
            inference(model, given.batches, device, given.runs)
        else:
            for batch in given.batches:
                train(model, batch, device, given.runs)


if __name__ == "__main__":
    main()
