"""The three released protocols give the numbers of the release's evaluation, which is written here once more.

That code is plain: a loop over whole batches, torchvision's Inception with `transform_input` on clamped pixels that a
bilinear resize without antialiasing brought to 299, the loss's own CLIP on pixels that were mapped to [0, 1] twice, the
textbook's Frechet distance. It shares with the package only the networks, the captions and the noise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from evaluation import random_inception, small
from models import tiny as parts
from torchvision.models import inception_v3

from galip.data.folder import CaptionedFolder
from galip.evaluation.planning import make_plan
from galip.evaluation.protocols import get_protocol
from galip.evaluation.references import References
from galip.evaluation.runner import evaluate
from galip.generation.noise import noise
from galip.torch_backend.pipeline import GALIPPipeline

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 224 px, with the release's input mapping; some of its pixels lie outside of [-1, 1]."""
    pipe = tiny.pipeline(seed=3)
    generator = parts.scatter(
        parts.generator(block_sizes=(8, 16, 224), block_channels=(16, 12, 8), clip_input="released"), 0.3
    )
    pipe.register_modules(generator=generator)
    folder = tmp_path_factory.mktemp("released") / "model"
    pipe.save_pretrained(folder, graphs=False)
    return folder


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    return random_inception.save(path, random_inception.IMAGENET_CLASSES, auxiliary=True)


@pytest.fixture(scope="module")
def statistics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(2048, 30)) * 0.1
    path = tmp_path_factory.mktemp("statistics") / "reference.npz"
    np.savez(
        path, mu=np.abs(rng.normal(size=2048)), sigma=directions @ directions.T + np.diag(rng.uniform(0.1, 1, 2048))
    )
    return path


@torch.no_grad()
def by_the_releases_code(
    pipe: GALIPPipeline, batches: list[tuple[list[str], np.ndarray]], inception: Path, statistics: Path
) -> tuple[float, float]:
    """FID and CLIP score of batches of captions and noise."""
    network = inception_v3(weights=None, transform_input=True, aux_logits=True, init_weights=False)
    network.load_state_dict(torch.load(inception, weights_only=True))
    network.fc = torch.nn.Identity()
    network.eval()
    mean, std = (torch.tensor(values)[None, :, None, None] for values in (CLIP_MEAN, CLIP_STD))
    features, similarity = [], 0.0
    for captions, z in batches:
        tokens = pipe.tokenizer(captions, padding=True, return_tensors="pt")
        sentences = pipe.text_encoder(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).text_embeds
        fake = pipe.generator(torch.from_numpy(z), sentences, pipe.vision).clamp(-1, 1)
        pixels = (fake + 1) / 2
        features.append(
            network(F.interpolate(pixels, (299, 299), mode="bilinear", align_corners=False)).double().numpy()
        )
        twice = (pixels + 1) / 2
        side = pipe.vision_encoder.config.image_size
        seen = pipe.vision_encoder(pixel_values=(F.interpolate(twice, (side, side), mode="nearest") - mean) / std)
        similarity += F.cosine_similarity(seen.image_embeds, sentences).mean().item()
    x = np.concatenate(features)
    reference = np.load(statistics)
    centred = (x - x.mean(0)) / np.sqrt(len(x) - 1)  # x's covariance is centred' centred
    # The traces of (C1 C2)^1/2 and of (X C2 X')^1/2 are equal, where C1 = X' X; the second is a small symmetric matrix.
    root = np.sqrt(np.linalg.eigvalsh(centred @ reference["sigma"] @ centred.T).clip(0)).sum()
    distance = np.square(x.mean(0) - reference["mu"]).sum() + np.square(centred).sum() + reference["sigma"].trace()
    return float(distance - 2 * root), similarity / len(batches)


@pytest.mark.parametrize(
    ("name", "records", "batch", "passes"),
    [
        ("released_coco", 14, 6, 1),
        ("released_cc12m_coco", 13, 4, 1),
        ("released_cub", 9, 4, 2),
        pytest.param("released_coco", 150, 64, 1, marks=pytest.mark.slow),
        pytest.param("released_cub", 70, 64, 3, marks=pytest.mark.slow),
    ],
)
def test_the_releases_numbers(
    name: str, records: int, batch: int, passes: int, model: Path, inception: Path, statistics: Path, tmp_path: Path
) -> None:
    data = small.images(tmp_path / "data", records, captions=5)
    count = records // batch * batch * passes
    changes: dict[str, Any] = {
        "records": records,
        "whole_batches_of": batch,
        "passes": passes,
        "expected_images": count,
    }
    protocol = get_protocol(name).changed(**changes)
    weights = {"inception-torchvision": str(inception)}
    references = References(str(data), statistics, weights=weights, cache=tmp_path / "cache")
    found = evaluate(model, protocol, references, distributed=small.alone())
    assert found is not None and found.n_generated == count

    pipe = GALIPPipeline.from_pretrained(model)
    samples = make_plan(protocol, CaptionedFolder(data)).samples
    batches = [
        ([sample.caption for sample in part], noise([sample.seed for sample in part], pipe.generator.z_dim))
        for part in (samples[start : start + batch] for start in range(0, count, batch))
    ]
    fid, score = by_the_releases_code(pipe, batches, inception, statistics)
    assert found.metrics["fid_released"].value == pytest.approx(fid, rel=1e-6)
    assert found.metrics["clip_score_released"].value == pytest.approx(score, abs=1e-6)
