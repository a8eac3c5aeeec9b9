"""A CLIP-ViT by OpenAI's names and by transformers' names, both ways and bit for bit.

OpenAI keeps a block's query, key and value weights in one tensor, transformers in three. The final norm and the
projection are not dealt with here: checkpoints of GALIP do not hold them.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from galip.conversion.renaming import KeyTable

HEAD = ("vision_model.post_layernorm.weight", "vision_model.post_layernorm.bias", "visual_projection.weight")
"""transformers' keys of what comes after the last block."""

_OPENAI_BLOCK = "transformer.resblocks.{i}"
_BLOCK = "vision_model.encoder.layers.{i}"

# (OpenAI's, transformers')
_KEYS = KeyTable(
    [
        ("class_embedding", "vision_model.embeddings.class_embedding"),
        ("positional_embedding", "vision_model.embeddings.position_embedding.weight"),
        ("conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
        ("ln_pre", "vision_model.pre_layrnorm"),
        (f"{_OPENAI_BLOCK}.ln_1", f"{_BLOCK}.layer_norm1"),
        (f"{_OPENAI_BLOCK}.attn.out_proj", f"{_BLOCK}.self_attn.out_proj"),
        (f"{_OPENAI_BLOCK}.ln_2", f"{_BLOCK}.layer_norm2"),
        (f"{_OPENAI_BLOCK}.mlp.c_fc", f"{_BLOCK}.mlp.fc1"),
        (f"{_OPENAI_BLOCK}.mlp.c_proj", f"{_BLOCK}.mlp.fc2"),
    ]
)
_FUSED = re.compile(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)")
_SPLIT = re.compile(r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)")


def from_openai(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' state of a `CLIPVisionModelWithProjection`, without `HEAD`, from OpenAI's tensors.

    Args:
        tensors: by OpenAI's names, as inside `visual`; `in_proj_weight` is [3 * width, width], query first.

    Raises:
        ValueError: a name is not OpenAI's.
    """
    state = {}
    for key, tensor in tensors.items():
        if fused := _FUSED.fullmatch(key):
            block, leaf = fused.groups()
            for name, part in zip("qkv", tensor.chunk(3), strict=True):
                # A copy: parts that share memory cannot be saved as safetensors.
                state[f"vision_model.encoder.layers.{block}.self_attn.{name}_proj.{leaf}"] = part.clone()
        else:
            state[_known(_KEYS.ours(key), key)] = tensor
    return state


def to_openai(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `from_openai`; `HEAD` is left out.

    Args:
        state: state of a `CLIPVisionModelWithProjection`; tensors on the meta device give shapes only.

    Raises:
        ValueError: a name is not transformers'.
    """
    tensors: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if key in HEAD:
            continue
        if split := _SPLIT.fullmatch(key):
            block, name, leaf = split.groups()
            if name == "q":
                parts = [state[key.replace("q_proj", f"{other}_proj")] for other in "qkv"]
                tensors[f"transformer.resblocks.{block}.attn.in_proj_{leaf}"] = torch.cat(parts)
        else:
            tensors[_known(_KEYS.theirs(key), key)] = tensor
    return tensors


def _known(name: str | None, key: str) -> str:
    if name is None:
        raise ValueError(f"{key}: this is no tensor of a CLIP-ViT")
    return name
