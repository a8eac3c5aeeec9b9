"""What the CLIP of the recipe learns from: look-alikes, contrast in the batch and in a crowd, legible pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from common import Pictures

TAPPED = (0, 2)
"""The blocks whose features D sees (preset `mini-64`)."""


class LookAlikes:
    """Batches of picture numbers: a part in groups of one emoji's styles and skin tones, the rest at random.

    Args:
        data: the training pictures.
        share: of the batch that comes in groups.
        group: pictures of one group.
    """

    def __init__(self, data: Pictures, share: float = 1 / 3, group: int = 4) -> None:
        by_base: dict[str, list[int]] = {}
        for number, row in enumerate(data.rows):
            by_base.setdefault(base_of(str(row["label"])), []).append(number)
        self.groups = [torch.tensor(members) for members in by_base.values() if len(members) >= group]
        # A base with thirty pictures is drawn ten times as often as one with three.
        self.weights = torch.tensor([float(len(members)) for members in self.groups])
        self.count, self.share, self.group = len(data.rows), share, group
        self.order = torch.empty(0, dtype=torch.long)

    def grouped(self, batch: int) -> int:
        """How many of `batch` pictures, the first ones, come in groups."""
        return int(batch * self.share) // self.group * self.group

    def draw(self, batch: int, generator: torch.Generator) -> torch.Tensor:
        """Picture numbers [batch]; the random part goes through all pictures before it repeats one."""
        groups = self.grouped(batch) // self.group
        drawn = []
        for chosen in torch.multinomial(self.weights, groups, generator=generator).tolist():
            members = self.groups[chosen]
            drawn.append(members[torch.randperm(len(members), generator=generator)[: self.group]])
        rest = batch - groups * self.group
        if len(self.order) < rest:
            self.order = torch.randperm(self.count, generator=generator)
        drawn.append(self.order[:rest])
        self.order = self.order[rest:]
        return torch.cat(drawn)


def base_of(label: str) -> str:
    """The label without skin tones: "elf: dark skin tone" -> "elf"; "flag: Chad" stays as it is."""
    return label.partition(": ")[0] if "skin tone" in label else label


def crowd_loss(
    seen: torch.Tensor, target: torch.Tensor, others: torch.Tensor, same: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Pictures to captions, among the batch's own captions and many others.

    Args:
        seen, target: vectors [B, D] of pictures and of their captions.
        others: vectors [N, D] of captions of other pictures.
        same: bool [B, N], true where the other caption is of the picture's own emoji and so is no wrong answer.
        scale: the logit scale.
    """
    seen = F.normalize(seen, dim=1)
    near = seen @ F.normalize(target, dim=1).T
    far = (seen @ F.normalize(others, dim=1).T).masked_fill(same, -1.0)
    return F.cross_entropy(scale * torch.cat([near, far], dim=1), torch.arange(len(seen)))


class PixelReader(torch.nn.Module):
    """Reads the pixels of each patch off the features that D taps, by one linear map for each tap.

    The loss is the squared error in parts of the detail, the variance of pixels within their patch: 0 when everything
    can be read, 1 when no more than each patch's mean colour.
    """

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.readers = torch.nn.ModuleList(torch.nn.Linear(width, 3 * patch**2) for _ in TAPPED)

    def patches(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, S, S] -> [B, grid * grid, 3 * patch * patch]."""
        return F.unfold(images, self.patch, stride=self.patch).transpose(1, 2)

    @torch.no_grad()
    def solve(self, states: tuple[torch.Tensor, ...], images: torch.Tensor) -> None:
        """Begin with the least-squares maps."""
        pixels = self.patches(images).flatten(0, 1)
        for reader, block in zip(self.readers, TAPPED, strict=True):
            features = states[block][:, 1:].flatten(0, 1)
            ones = torch.ones(len(features), 1)
            weight = torch.linalg.lstsq(torch.cat([features, ones], dim=1), pixels).solution
            reader.weight.copy_(weight[:-1].T)
            reader.bias.copy_(weight[-1])

    def forward(self, states: tuple[torch.Tensor, ...], images: torch.Tensor) -> torch.Tensor:
        pixels = self.patches(images)
        colours = pixels.unflatten(2, (3, -1))
        detail = (colours - colours.mean(3, keepdim=True)).square().mean()
        errors = [
            (reader(states[block][:, 1:]) - pixels).square().mean()
            for reader, block in zip(self.readers, TAPPED, strict=True)
        ]
        return torch.stack(errors).mean() / detail


def contrast(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """CLIP's symmetric loss over one batch; both [B, D]."""
    logits = scale * F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    own = torch.arange(len(images))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
