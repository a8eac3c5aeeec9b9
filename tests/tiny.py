"""A tiny real pipeline for tests: every part as it is in a real model, a few thousand weights in all."""

from __future__ import annotations

from pathlib import Path

import torch
from models import tiny as parts

from galip.torch_backend.pipeline import GALIPPipeline

Z_DIM, COND_DIM, IMAGE_SIZE = parts.Z_DIM, parts.COND_DIM, 32


def pipeline(seed: int = 0, text: str = "clip") -> GALIPPipeline:
    """A pipeline with random weights that do mind the caption (a fresh generator's affine layers do not)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if text == "t5":
            tokenizer = parts.tokenizer(start=None)
            text_encoder = parts.t5_model(len(tokenizer))
        else:
            tokenizer = parts.tokenizer()
            text_encoder = parts.clip_text_model(tokenizer.eos_token_id, len(tokenizer))
        cond_dim = text_encoder.config.d_model if text == "t5" else COND_DIM
        generator = parts.scatter(parts.generator(cond_dim=cond_dim))
        pipe = GALIPPipeline(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vision_encoder=parts.clip_vision_model(),
            generator=generator,
            text_scale=2.0 if text == "t5" else None,
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save(folder: Path, seed: int = 0, graphs: bool = False) -> Path:
    """A saved model folder; with graphs for tests of engines, which are exported once in a session."""
    pipeline(seed).save_pretrained(folder, graphs=graphs)
    return folder
