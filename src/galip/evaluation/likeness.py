"""How a model in another precision does beside the original: CLIP score of both, and the distance between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galip.evaluation.evaluated import EvaluatedModel
from galip.evaluation.metrics.clip_score import clip_cosines
from galip.evaluation.metrics.fid import frechet_from
from galip.evaluation.statistics import Moments
from galip.generation.output import to_uint8
from galip.generation.pipeline import TextToImage
from galip.torch_backend.pipeline import GALIPPipeline
from galip.utils.progress import Progress, no_progress

FEWEST_PICTURES = 256
"""Images of each kind at least; captions are generated with as many seeds as that takes."""

_BATCH = 16


def compare(
    pipeline: GALIPPipeline,
    other: TextToImage,
    captions: Sequence[str],
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Generate images of the same captions and seeds with both, and score them by the pipeline's own CLIP.

    This CLIP is the one that the generator was trained to please, so its scores say nothing of how good a model is;
    here they are compared between two forms of one model, of which neither was trained later than the other.

    Args:
        pipeline: the original, in fp32 on the CPU.
        other: the exported one.
        captions: like those that will be generated.
        progress: told how many images are done.

    Returns:
        `pictures`: how many of each; `clip_score` and `clip_score_fp32`: mean cosine of image and caption;
        `frechet`: Frechet distance, in that CLIP's vectors, of the exported model's images to the original's of the
        same seeds; `frechet_seeds`: the distance of the original's images to its own with other seeds, which is what
        chance makes. Empty where the text encoder is no CLIP.
    """
    clip = EvaluatedModel(pipeline, "the original", pipeline).own_clip(released=False)
    if clip is None:
        return {}
    distinct = list(dict.fromkeys(captions))
    each = -(-FEWEST_PICTURES // len(distinct))
    count = each * len(distinct)
    texts = np.repeat(_array(clip.encode_text(distinct)), each, axis=0)
    features: list[NDArray[np.float32]] = []
    for pipe, seed in ((pipeline, 0), (other, 0), (pipeline, each)):
        batches = pipe.stream(distinct, num_images_per_prompt=each, seed=seed, batch_size=_BATCH, output_type="np")
        parts: list[NDArray[np.float32]] = []
        for batch in batches:
            progress("what the precision costs", len(features) * count + len(parts) * _BATCH, 3 * count)
            images = torch.from_numpy(to_uint8(batch.images)).permute(0, 3, 1, 2)
            parts.append(_array(clip(images)))
        features.append(np.concatenate(parts))
    progress("what the precision costs", 3 * count, 3 * count)
    own, theirs, again = features
    reference = Moments.of(own)
    return {
        "pictures": count,
        "clip_score": round(float(clip_cosines(theirs, texts).mean()), 4),
        "clip_score_fp32": round(float(clip_cosines(own, texts).mean()), 4),
        "frechet": round(frechet_from(Moments.of(theirs), reference), 4),
        "frechet_seeds": round(frechet_from(Moments.of(again), reference), 4),
    }


def _array(vectors: Tensor) -> NDArray[np.float32]:
    return vectors.cpu().numpy()
