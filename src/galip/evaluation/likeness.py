"""How a model in another precision does beside the original: CLIP score of both, and the distance between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galip.evaluation.extractors.clip import CLIPExtractor
from galip.evaluation.metrics.clip_score import clip_cosines
from galip.evaluation.metrics.fid import frechet_from
from galip.evaluation.statistics import Moments
from galip.generation.onnx_backend import EnginePipeline
from galip.generation.output import to_uint8
from galip.torch_backend.pipeline import GALIPPipeline

FEWEST_PICTURES = 256
"""Pictures of each kind at least; captions are drawn with as many seeds as that takes."""

_BATCH = 16


def compare(
    pipeline: GALIPPipeline,
    other: EnginePipeline,
    captions: Sequence[str],
    say: Callable[[str], None] = lambda _line: None,
) -> dict[str, Any]:
    """Draw the same captions and seeds with both, and look at them with the pipeline's own CLIP.

    This CLIP is the one that the generator was trained to please, so its scores say nothing of how good a model is;
    here they are compared between two forms of one model, of which neither was trained later than the other.

    Args:
        pipeline: the original, in fp32 on the CPU.
        other: the exported one.
        captions: like those that will be drawn.
        say: is told what is being done.

    Returns:
        `pictures`: how many of each; `clip_score` and `clip_score_fp32`: mean cosine of picture and caption;
        `frechet`: Frechet distance, in that CLIP's vectors, of the exported model's pictures to the original's of the
        same seeds; `frechet_seeds`: the distance of the original's pictures to its own with other seeds, which is what
        chance makes. Empty where the text encoder is no CLIP.
    """
    if pipeline.tokenizer is None or not hasattr(pipeline.text_encoder, "text_projection"):
        return {}
    clip = CLIPExtractor("its own CLIP", pipeline.tokenizer, pipeline.text_encoder, pipeline.vision_encoder)
    distinct = list(dict.fromkeys(captions))
    each = -(-FEWEST_PICTURES // len(distinct))
    count = each * len(distinct)
    say(f"drawing {count} pictures three times, to see what the precision costs")
    texts = np.repeat(_array(clip.encode_text(distinct)), each, axis=0)
    own, theirs, again = (
        np.concatenate([_array(clip(pictures)) for pictures in _drawn(pipe, distinct, seed, each)])
        for pipe, seed in ((pipeline, 0), (other, 0), (pipeline, each))
    )
    reference = Moments.of(own)
    return {
        "pictures": count,
        "clip_score": round(float(clip_cosines(theirs, texts).mean()), 4),
        "clip_score_fp32": round(float(clip_cosines(own, texts).mean()), 4),
        "frechet": round(frechet_from(Moments.of(theirs), reference), 4),
        "frechet_seeds": round(frechet_from(Moments.of(again), reference), 4),
    }


def _drawn(pipe: GALIPPipeline | EnginePipeline, captions: list[str], seed: int, each: int) -> Any:
    """Batches of 8-bit pictures [B, 3, S, S]."""
    batches = pipe.stream(captions, num_images_per_prompt=each, seed=seed, batch_size=_BATCH, output_type="np")
    for batch in batches:
        yield torch.from_numpy(to_uint8(batch.images)).permute(0, 3, 1, 2)


def _array(vectors: Tensor) -> NDArray[np.float32]:
    return vectors.cpu().numpy()
