"""The frozen CLIP-ViT rearranged for drawing, and CLIP's transformer block on its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from galip.export.folded_layers import Linear, Norm
from galip.models.clip import FrozenCLIPVision


def fold_vision(vision: FrozenCLIPVision) -> FoldedVision:
    """What a generator asks of `vision`, rearranged for drawing. Its weights are copied."""
    return FoldedVision(vision)


class FoldedVision(nn.Module):
    """The frozen CLIP-ViT as a generator looks through it, with `FrozenCLIPVision`'s own `induce`.

    Made by `fold_vision`.

    Args:
        vision: the transformer to copy.
    """

    def __init__(self, vision: FrozenCLIPVision) -> None:
        super().__init__()
        tower = vision.model.vision_model
        self.grid = vision.grid
        self.activation = str(vision.model.config.hidden_act)
        positions = tower.embeddings.position_embedding.weight.detach()
        self.register_buffer("first", (tower.embeddings.class_embedding.detach() + positions[0])[None, None].clone())
        self.register_buffer("positions", positions[None, 1:].clone())
        self.norm = Norm(tower.pre_layrnorm)
        self.blocks = nn.ModuleList(FoldedTransformerBlock(layer) for layer in tower.encoder.layers)
        self.requires_grad_(False).eval()

    first: Tensor
    positions: Tensor

    def induce(self, bridge: Tensor, prompts: Tensor, blocks: Sequence[int]) -> Tensor:
        """Visual concepts [B, width, g, g] of a bridge feature; see `FrozenCLIPVision.induce`."""
        dtype = self.first.dtype
        tokens = bridge.to(dtype).flatten(2).transpose(1, 2) + self.positions  # [B, C, g, g] -> [B, g*g, C]
        hidden = self.norm(torch.cat([self.first.expand(tokens.shape[0], -1, -1), tokens], dim=1))
        by_block = {block: prompts[:, i : i + 1].to(dtype) for i, block in enumerate(blocks)}
        for index, block in enumerate(self.blocks):
            hidden = block(hidden, by_block.get(index))
        # [B, 1 + g*g, C] -> [B, C, g, g], without the class token
        out: Tensor = hidden[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid))
        return out.to(bridge.dtype)


class FoldedTransformerBlock(nn.Module):
    """A transformer block of CLIP with one product for query, key and value.

    Args:
        layer: transformers' CLIP encoder layer, of the vision or of the text model.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention = layer.self_attn
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.heads = int(attention.num_heads)
        self.norm1, self.norm2 = Norm(layer.layer_norm1), Norm(layer.layer_norm2)
        self.qkv = Linear(torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts]))
        self.out = Linear(attention.out_proj.weight, attention.out_proj.bias)
        self.fc1 = Linear(layer.mlp.fc1.weight, layer.mlp.fc1.bias)
        self.fc2 = Linear(layer.mlp.fc2.weight, layer.mlp.fc2.bias)
        self.activation: Callable[[Tensor], Tensor] = layer.mlp.activation_fn

    def forward(self, hidden: Tensor, prompt: Tensor | None) -> Tensor:
        """`hidden` [B, N, C] looks at itself and, if there is one, at `prompt` [B, 1, C]."""
        count = hidden.shape[1]
        seen = self.norm1(hidden if prompt is None else torch.cat([hidden, prompt], dim=1))
        q, k, v = self.qkv(seen).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, h, N(+1), d]
        mixed = F.scaled_dot_product_attention(q[:, :, :count], k, v).transpose(1, 2).flatten(2)  # -> [B, N, C]
        hidden = hidden + self.out(mixed)
        out: Tensor = hidden + self.fc2(self.activation(self.fc1(self.norm2(hidden))))
        return out
