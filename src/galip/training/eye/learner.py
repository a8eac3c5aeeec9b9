"""Trains the eye on real images alone, as a job that precedes a run, and opens it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from galip.data.samples import Batch
from galip.errors import GalipError
from galip.models.eye import EYE_SIZE, EyeNet
from galip.training.augment import lay_on
from galip.training.preparation_config import EyeConfig
from galip.utils.atomic import write_json

WEIGHTS, FACTS = "eye.safetensors", "eye.json"
_SMOOTHING = 0.05
_MAX_COVER = 24  # side in pixels of the largest patch that is covered; half of the images have one


class EyeLearner:
    """The eye, and how real images are disturbed, so that it recognises generated ones, which it never sees.

    Args:
        options: the run's `eye` section.
        captions: the classes, each a distinct first caption.
        seed: of the first weights and of all that is random.
        device: where it learns.
    """

    name = "eye"
    purpose = "a small network learns to recognise the real images, for choosing the best checkpoint"

    def __init__(self, options: EyeConfig, captions: Sequence[str], seed: int, device: torch.device) -> None:
        self.captions, self.seed, self.device = list(captions), seed, device
        self._number = {caption: number for number, caption in enumerate(captions)}
        torch.manual_seed(seed)
        self.net = EyeNet(len(captions), options.width)
        self.module: nn.Module = self.net.to(device).to(memory_format=torch.channels_last)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy over captions; those of the batch must be first captions."""
        generator = torch.Generator().manual_seed(self.seed + 1_000_003 * (batch.indices[0] + 1))
        shown = disturbed(batch.images.float() / 127.5 - 1, generator).to(self.device)
        labels = torch.tensor([self._number[caption] for caption in batch.captions], device=self.device)
        return {"cross_entropy": F.cross_entropy(self.net(shown), labels, label_smoothing=_SMOOTHING)}

    def save(self, folder: Path) -> None:
        """Write weights, sizes and classes."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.net.state_dict().items()}
        save_file(tensors, folder / WEIGHTS)
        write_json(folder / FACTS, {"config": self.net.config, "captions": self.captions})


def load_eye(folder: Path) -> tuple[EyeNet, list[str]]:
    """An eye that `EyeLearner` wrote, frozen, and its classes.

    Raises:
        GalipError: there is none, or it is damaged.
    """
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        net = EyeNet(**facts["config"])
        net.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise GalipError(
            f"{folder}: no eye can be loaded from it ({str(error).splitlines()[0]}); remove it, and it is trained anew"
        ) from error
    return net.eval().requires_grad_(False), [str(caption) for caption in facts["captions"]]


def as_eye_sees(images: Tensor) -> Tensor:
    """Images [B, 3, S, S] of any side in [-1, 1] -> [B, 3, 64, 64]."""
    if images.shape[-1] == EYE_SIZE:
        return images
    shrinking = images.shape[-1] > EYE_SIZE
    return F.interpolate(images, (EYE_SIZE, EYE_SIZE), mode="bicubic", antialias=shrinking).clamp(-1, 1)


def disturbed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Real images [B, C, S, S] in [-1, 1] as the eye is shown them in training: [B, 3, 64, 64].

    Moved, zoomed, turned a little, laid on random colours where they have an alpha channel, blurred, made brighter or
    darker, and partly covered.
    """
    count = len(images)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator)

    if images.shape[1] == 4:
        images = lay_on(images, 2 * uniform(3) - 1)
    angle, zoom = (uniform() - 0.5) * 0.35, 1 + (uniform() - 0.5) * 0.3
    theta = torch.stack([torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)], 1).view(-1, 2, 2)
    theta = torch.cat([theta * zoom[:, None, None], (uniform(2, 1) - 0.5) * 0.3], dim=2)
    grid = F.affine_grid(theta, [count, 3, EYE_SIZE, EYE_SIZE], align_corners=False)
    shown = F.grid_sample(as_eye_sees(images), grid, padding_mode="border", align_corners=False)
    soft = F.interpolate(F.avg_pool2d(shown, 2), scale_factor=2.0, mode="bilinear")
    shown = shown.lerp(soft, (uniform(1, 1, 1) * 2 - 1).clamp(min=0))
    shown = (shown * (0.7 + 0.6 * uniform(1, 1, 1)) + 0.3 * (uniform(3, 1, 1) - 0.5)).clamp(-1, 1)
    length = (uniform() * 2 - 1).clamp(min=0) * _MAX_COVER
    corner = torch.rand(2, count, generator=generator) * (EYE_SIZE - length)
    place = torch.arange(EYE_SIZE)
    inside = (place >= corner[..., None]) & (place < (corner + length)[..., None])  # [2, B, 64]
    cover = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
    return torch.where(cover, uniform(3, 1, 1) * 2 - 1, shown)
