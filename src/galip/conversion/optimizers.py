"""Adam's moments: the authors' optimiser states by our parameters' names, and back.

Their optimiser of G has every parameter of netG, those of the frozen ViT among them, in the order of its modules; that
of D has netD's, then netC's. Here moments are `{parameter: {"exp_avg", "exp_avg_sq", "step"}}`, a parameter's name
beginning with "generator." or "discriminator.".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from galip.conversion.checkpoint_file import CheckpointError, ReleasedCheckpoint
from galip.conversion.released import KEYS
from galip.errors import GalipError
from galip.model_repo.format import OPTIMIZERS

Moments = dict[str, dict[str, Tensor]]

FILE = OPTIMIZERS
"""In a model folder: the moments of both optimisers."""

RATES = {"generator": 1e-4, "discriminator": 4e-4}
BETAS = (0.0, 0.9)

_NETWORKS = {"generator": ("netG",), "discriminator": ("netD", "netC")}
_THEIRS = {"generator": "optimizer_G", "discriminator": "optimizer_D"}
_PARTS = ("exp_avg", "exp_avg_sq", "step")

# The order in which their modules hold their parts; a module's own parameters stand before those of its parts.
_ORDER = (
    *("class_embedding", "positional_embedding", "in_proj_weight", "in_proj_bias", "gamma", "beta"),
    *("fc_code", "mapping", "GBlocks", "to_rgb", "FBlocks", "conv_fuse", "CLIP_ViT"),
    *("c1", "c2", "conv1", "fuse1", "conv2", "fuse2", "c_sc", "conv", "fc_prompt"),
    *("affine0", "affine1", "fc_gamma", "fc_beta", "linear1", "linear2"),
    *("ln_pre", "transformer", "resblocks", "attn", "out_proj", "ln_1", "mlp", "c_fc", "c_proj", "ln_2"),
    *("DBlocks", "main", "conv_r", "conv_s", "joint_conv", "weight", "bias"),
)
_RANK = {name: rank for rank, name in enumerate(_ORDER)}
_NETWORK_RANK = {"netG": 0, "netD": 1, "netC": 2}


def in_their_order(keys: Iterable[str]) -> list[str]:
    """Released keys ("netG.fc_code.weight", ...) in the order of the authors' modules, which is that of optimisers."""

    def place(key: str) -> tuple[int, ...]:
        network, *parts = key.split(".")
        return (_NETWORK_RANK[network], *(int(part) if part.isdigit() else _RANK[part] for part in parts))

    return sorted(keys, key=place)


def from_released(checkpoint: ReleasedCheckpoint) -> Moments:
    """The moments in a checkpoint, by our names.

    Raises:
        CheckpointError: the file holds no optimisers, or those of other networks.
    """
    optimizers = checkpoint.rest.get("optimizers")
    moments: Moments = {}
    for part, name in _THEIRS.items():
        state = optimizers.get(name) if isinstance(optimizers, Mapping) else None
        if not isinstance(state, Mapping) or not isinstance(state.get("state"), Mapping) or not state["state"]:
            raise CheckpointError(
                f"{checkpoint.name}: it holds no states of {name}; leave --with-optimizers out, training then begins "
                "with fresh ones"
            )
        keys = in_their_order(key for key in checkpoint.tensors if key.split(".")[0] in _NETWORKS[part])
        for index, found in state["state"].items():
            key = keys[index] if isinstance(index, int) and 0 <= index < len(keys) else None
            if key is None or not _fits(found, checkpoint.tensors[key]):
                raise CheckpointError(
                    f"{checkpoint.name}: entry {index} of {name} is not that of "
                    f"{key or 'any weight'}, so these are another network's optimisers; leave --with-optimizers out"
                )
            if ours := KEYS.ours(key):
                moments[ours] = {
                    "exp_avg": found["exp_avg"].float().clone(),
                    "exp_avg_sq": found["exp_avg_sq"].float().clone(),
                    "step": torch.tensor(float(found["step"])),
                }
    return moments


def to_released(moments: Moments, keys: Iterable[str], rates: Mapping[str, float] = RATES) -> dict[str, Any]:
    """What stands under `optimizers` in a file of the authors' layout.

    Args:
        moments: by our names.
        keys: all keys of the file, the frozen ViT's among them.
        rates: learning rates of "generator" and "discriminator".
    """
    ordered, written = in_their_order(keys), {}
    for part, name in _THEIRS.items():
        mine = [key for key in ordered if key.split(".")[0] in _NETWORKS[part]]
        state = {
            index: {"step": found["step"], "exp_avg": found["exp_avg"], "exp_avg_sq": found["exp_avg_sq"]}
            for index, key in enumerate(mine)
            if (found := moments.get(KEYS.ours(key) or "")) is not None
        }
        group = torch.optim.Adam([torch.zeros(1)], lr=rates[part], betas=BETAS).state_dict()["param_groups"][0]
        written[name] = {"state": state, "param_groups": [group | {"params": list(range(len(mine)))}]}
    return written


def save_moments(moments: Moments, file: Path) -> None:
    """Write moments as safetensors."""
    save_file(
        {f"{name}/{part}": tensor.contiguous() for name, found in moments.items() for part, tensor in found.items()},
        file,
    )


def load_moments(folder: Path) -> Moments:
    """The moments of a model folder.

    Raises:
        GalipError: there are none, or the file is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        raise GalipError(
            f"{folder}: it has no {FILE}; convert its .pth again with --with-optimizers, or leave "
            "model.with_optimizers out"
        )
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise GalipError(f"{file}: it cannot be read ({error}); convert the checkpoint again") from error
    moments: Moments = {}
    for key, tensor in tensors.items():
        name, _, part = key.rpartition("/")
        moments.setdefault(name, {})[part] = tensor
    if any(set(found) != set(_PARTS) for found in moments.values()):
        raise GalipError(f"{file}: moments are missing; convert the checkpoint again")
    return moments


def _fits(found: Any, weight: Tensor) -> bool:
    return (
        isinstance(found, Mapping)
        and all(isinstance(found.get(part), Tensor) and found[part].shape == weight.shape for part in _PARTS[:2])
        and isinstance(found.get("step"), int | float | Tensor)
    )
