"""Pictures as the authors' published code draws them, on this project's networks: what our engines are compared with.

Captions are padded to CLIP's whole context, up-blocks are computed as they are written, upsampling first, and every
affine MLP is called by itself, all in torch's contiguous layout. Networks are ours: fusion blocks work in place where
the published ones make new tensors, and the attention is torch's fused one, which is in favour of this form.

As a script it is measured in this process: orders from standard input, findings printed, as the engines' worker does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

import galip
from galip.benchmarking.worker import Orders, captions, held_bytes, repeated
from galip.generation.noise import noise
from galip.generation.output import to_pil
from galip.torch_backend.pipeline import GALIPPipeline


class ReleasedForm:
    """Captions and seeds to PIL images.

    Args:
        pipeline: its weights; its generator is unfolded.
    """

    def __init__(self, pipeline: GALIPPipeline) -> None:
        self.pipeline = pipeline
        pipeline.generator.fold(False)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Any]:
        """Pictures, in the order of the prompts."""
        text_encoder, tokenizer = self.pipeline.text_encoder, self.pipeline.tokenizer
        if text_encoder is None or tokenizer is None or self.pipeline.config.text_scale is not None:
            raise SystemExit("the released form has CLIP's text encoder: give a model with one")
        context = text_encoder.config.max_position_embeddings
        tokens = tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=context, return_tensors="pt"
        )
        device = self.pipeline.generator.device
        e = text_encoder(input_ids=tokens["input_ids"].to(device)).text_embeds
        z = torch.from_numpy(noise(seeds, self.pipeline.generator.z_dim)).to(device)
        images = self.pipeline.generator(z, e, self.pipeline.vision)
        return to_pil((images.float() * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy())


def measure(orders: Orders) -> dict[str, Any]:
    """Seconds of each repetition and the most memory, by batch size, as `galip.benchmarking.worker` has them."""
    pipe = galip.load(
        orders.model, device=orders.device or "cpu", dtype=orders.dtype, engine="torch", threads=orders.threads
    )
    draw, cells = ReleasedForm(pipe), {}
    for batch in orders.batches:
        prompts, seeds = captions(batch), range(batch)
        job: Callable[[], Any] = lambda p=prompts, s=seeds: draw(p, s)  # type: ignore[misc] # noqa: E731
        cells[str(batch)] = {"whole": repeated(job, orders.seconds), "peak_bytes": held_bytes(orders.device)}
    return {"cells": cells}


if __name__ == "__main__":
    print(json.dumps(measure(Orders(**json.load(sys.stdin)))))
