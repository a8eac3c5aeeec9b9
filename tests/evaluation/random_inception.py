"""Inception networks with random weights in files, which stand in for the published ones."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import inception_v3

TENSORFLOW_CLASSES, IMAGENET_CLASSES = 1008, 1000


def state(classes: int = TENSORFLOW_CLASSES, auxiliary: bool = False, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under the names of torch-fidelity's, pytorch-fid's and torchvision's files.

    Scaled so that activations neither die nor grow on the way: features then mind the image.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = inception_v3(weights=None, num_classes=classes, aux_logits=auxiliary, init_weights=False)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)
    return {name: value.detach() for name, value in network.state_dict().items()}


def save(path: Path, classes: int = TENSORFLOW_CLASSES, auxiliary: bool = False, seed: int = 0) -> Path:
    """`state` in a file as torch saves it."""
    torch.save(state(classes, auxiliary, seed), path)
    return path
