"""CLIP's transformer block, and the frozen CLIP-ViT, one network seen three ways (paper, sections 3.1 to 3.3).

`clip_block` is every block of both of CLIP's towers; the text tower is in `galip.models.text`.

* `FrozenCLIPVision.taps`: spatial features after chosen transformer blocks, what Mate-D looks at (CLIP-FE).
* `FrozenCLIPVision.induce`: visual concepts drawn out of the transformer by a bridge feature and prompts (Mate-G).
* `FrozenCLIPVision.embed`: the projected image vector, for the similarity loss and the CLIP score.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import CLIPVisionModelWithProjection

if TYPE_CHECKING:
    from typing_extensions import Self

ClipInput = Literal["standard", "released"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def clip_block(layer: Any, hidden: Tensor, prompt: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """Run a block of CLIP's transformer.

    Args:
        layer: its weights, transformers' encoder layer.
        hidden: [B, N, C].
        prompt: [B, T, C], tokens that are looked at and do not look: as if they were appended to `hidden`, and dropped
            after the block.
        mask: added to the attention's scores, [N, N].

    Returns:
        [B, N, C].
    """
    attention = layer.self_attn
    normed = layer.layer_norm1(hidden)
    seen = normed if prompt is None else torch.cat([normed, layer.layer_norm1(prompt)], dim=1)

    def heads(tokens: Tensor) -> Tensor:  # [B, N, C] -> [B, heads, N, C / heads]
        return tokens.unflatten(2, (-1, attention.head_dim)).transpose(1, 2)

    q, k, v = heads(attention.q_proj(normed)), heads(attention.k_proj(seen)), heads(attention.v_proj(seen))
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    hidden = hidden + attention.out_proj(mixed.transpose(1, 2).flatten(2))
    out: Tensor = hidden + layer.mlp(layer.layer_norm2(hidden))
    return out


class FrozenCLIPVision(nn.Module):
    """A CLIP vision transformer that never learns, with the three views that GALIP takes of it.

    Weights need no gradient and the network stays in eval mode whatever the caller, or a module that holds this one,
    asks for; gradients do flow through it to images, bridge features and prompts. It computes in its own dtype and
    answers in the dtype of what it was given.

    Set `checkpointing = True` to trade time for memory: each transformer block is then recomputed in the backward pass.

    Args:
        model: transformers' CLIP vision model with projection. It is frozen in place.
        clip_input: how images become CLIP's input. `"standard"`: [-1, 1] to [0, 1] once, antialiased bicubic resize
            where sizes differ. `"released"`: what the authors' weights were trained with, [-1, 1] to [0, 1] applied
            twice (CLIP sees [0.5, 1]) and nearest-neighbour resize.
        image_mean: per-channel mean that is subtracted from CLIP's input, in [0, 1].
        image_std: per-channel standard deviation by which it is divided.

    Raises:
        ValueError: `clip_input` is unknown, or mean and std are not three numbers each with std above 0.
    """

    def __init__(
        self,
        model: CLIPVisionModelWithProjection,
        clip_input: ClipInput = "standard",
        image_mean: Sequence[float] = CLIP_MEAN,
        image_std: Sequence[float] = CLIP_STD,
    ) -> None:
        super().__init__()
        if clip_input not in get_args(ClipInput):
            raise ValueError(f"clip_input is {clip_input!r}; use one of {', '.join(map(repr, get_args(ClipInput)))}")
        if len(image_mean) != 3 or len(image_std) != 3 or min(image_std) <= 0:
            raise ValueError(
                f"image_mean is {image_mean!r} and image_std is {image_std!r}; "
                "give three numbers each, one per colour channel, with every std above 0"
            )
        self.model = model
        self.clip_input: ClipInput = clip_input
        self.image_mean = tuple(float(m) for m in image_mean)
        self.image_std = tuple(float(s) for s in image_std)
        self.checkpointing = False
        self.eval()
        self._freeze()

    # ---- what it is

    @property
    def image_size(self) -> int:
        """Side in pixels of the square image that the transformer takes."""
        return int(self.model.config.image_size)

    @property
    def grid(self) -> int:
        """Patches along one side (g): 7 for ViT-B/32 at 224 px."""
        return self.image_size // int(self.model.config.patch_size)

    @property
    def width(self) -> int:
        """Channels of every token: 768 for ViT-B/32."""
        return int(self.model.config.hidden_size)

    @property
    def depth(self) -> int:
        """Number of transformer blocks: 12 for ViT-B/32."""
        return int(self.model.config.num_hidden_layers)

    @property
    def embed_dim(self) -> int:
        """Length of the projected image vector: 512 for ViT-B/32."""
        return int(self.model.config.projection_dim)

    # ---- frozen, whatever the caller does

    def train(self, mode: bool = True) -> "Self":
        """Stay in eval mode; `mode` is ignored, so that a parent's `train()` passes by."""
        return super().train(False)

    def requires_grad_(self, requires_grad: bool = True) -> "Self":
        """Stay frozen; `requires_grad` is ignored."""
        return super().requires_grad_(False)

    def _freeze(self) -> None:
        # A parent's requires_grad_(True) reaches the parameters without asking us, and model.train() may be called on
        # the wrapped network itself, so every view looks again. A compiled graph is frozen when it is traced.
        if torch.compiler.is_compiling():
            return
        if any(p.requires_grad for p in self.model.parameters()):
            self.model.requires_grad_(False)
        if any(m.training for m in self.model.modules()):
            self.model.eval()

    # ---- the three views

    def prepare(self, images: Tensor) -> Tensor:
        """Map images to CLIP's input.

        Args:
            images: [B, 3, S, S], any square size, in [-1, 1]. Values outside are not clamped: the loss must see them.

        Returns:
            [B, 3, image_size, image_size] in the transformer's dtype, normalised by mean and std.

        Raises:
            ValueError: `images` is not a batch of square RGB images.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
            raise ValueError(
                f"images has shape {tuple(images.shape)}; give square RGB images [B, 3, S, S] (crop them before)"
            )
        # Half precision would throw away pixels' low bits before the transformer sees them.
        x = images.to(torch.promote_types(images.dtype, torch.float32))
        standard = self.clip_input == "standard"
        if x.shape[-1] != self.image_size:
            size = (self.image_size, self.image_size)
            if standard:
                x = F.interpolate(x, size=size, mode="bicubic", align_corners=False, antialias=True)
            else:
                x = F.interpolate(x, size=size, mode="nearest")
        # [-1, 1] -> [0, 1] once is x / 2 + 1 / 2, twice x / 4 + 3 / 4. Resampling weights sum to one, so this commutes
        # with the resize and joins the normalisation. Plain numbers, unlike buffers, stay exact under .to(bf16).
        scale, shift = (0.5, 0.5) if standard else (0.25, 0.75)
        channels = [
            x[:, c : c + 1] * (scale / std) + (shift - mean) / std
            for c, (mean, std) in enumerate(zip(self.image_mean, self.image_std, strict=True))
        ]
        return torch.cat(channels, dim=1).to(self._dtype)

    def taps(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Spatial features after chosen transformer blocks: CLIP-FE's view (paper, section 3.2).

        Args:
            images: [B, 3, S, S] in [-1, 1].
            blocks: 0-based transformer blocks, increasing. Blocks after the last of them are not run.

        Returns:
            One [B, width, grid, grid] for each block, in the dtype of `images`, the class token dropped.

        Raises:
            ValueError: a block does not exist, or blocks do not increase, or `images` has a wrong shape.
        """
        blocks = self._check_blocks(blocks)
        return self._tap_run(images, blocks, stop=blocks[-1] + 1)[0]

    def embed(self, images: Tensor) -> Tensor:
        """Projected image vector, not normalised (paper's similarity loss; CLIP's `image_embeds`).

        Args:
            images: [B, 3, S, S] in [-1, 1].

        Returns:
            [B, embed_dim] in the dtype of `images`.

        Raises:
            ValueError: `images` has a wrong shape.
        """
        hidden = self._tap_run(images, (), stop=self.depth)[1]
        return self._project(hidden).to(images.dtype)

    def taps_and_embed(self, images: Tensor, blocks: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        """`taps` and `embed` of the same images by one run of the transformer.

        Args, exceptions: as for `taps`.

        Returns:
            The list of [B, width, grid, grid], and [B, embed_dim].
        """
        blocks = self._check_blocks(blocks)
        taps, hidden = self._tap_run(images, blocks, stop=self.depth)
        return taps, self._project(hidden).to(images.dtype)

    def induce(self, bridge: Tensor, prompts: Tensor, blocks: Sequence[int]) -> Tensor:
        """Visual concepts induced by a bridge feature and text-conditioned prompts (paper, section 3.3).

        The bridge feature's positions take the place of the patch embeddings. At each listed block its prompt tokens
        are appended to the sequence, the block runs, and the tokens are dropped.

        Args:
            bridge: [B, width, grid, grid], the bridge feature.
            prompts: [B, P, width], equally many tokens for each of `blocks`, in their order; the paper has one.
            blocks: 0-based transformer blocks, increasing.

        Returns:
            [B, width, grid, grid] in the dtype of `bridge`: spatial tokens after the last block, before the final norm.

        Raises:
            ValueError: shapes do not fit this transformer or each other, or a block does not exist.
        """
        self._freeze()
        blocks = self._check_blocks(blocks, allow_empty=True)
        expected = (self.width, self.grid, self.grid)
        if bridge.ndim != 4 or tuple(bridge.shape[1:]) != expected:
            raise ValueError(
                f"bridge has shape {tuple(bridge.shape)}; this transformer needs [B, {', '.join(map(str, expected))}]: "
                "build the generator with its vision_width and grid"
            )
        per_block = prompts.shape[1] // max(1, len(blocks)) if prompts.ndim == 3 else 0
        if (
            prompts.ndim != 3
            or tuple(prompts.shape[1:]) != (len(blocks) * per_block, self.width)
            or (blocks and not per_block)
        ):
            raise ValueError(
                f"prompts has shape {tuple(prompts.shape)}; give one token per listed block, or equally many, "
                f"[B, {len(blocks)}, {self.width}]"
            )
        tower, dtype = self._tower, self._dtype
        tokens = bridge.to(dtype).flatten(2).transpose(1, 2)  # [B, C, g, g] -> [B, g*g, C]
        cls = tower.embeddings.class_embedding.to(dtype).expand(tokens.shape[0], 1, -1)
        hidden = torch.cat([cls, tokens], dim=1) + tower.embeddings.position_embedding.weight
        hidden = tower.pre_layrnorm(hidden)
        by_block = {block: prompts[:, i * per_block : (i + 1) * per_block].to(dtype) for i, block in enumerate(blocks)}
        for index in range(self.depth):
            hidden = self._run_block(index, hidden, by_block.get(index))
        return self._to_map(hidden).to(bridge.dtype)

    # ---- the transformer

    @property
    def _tower(self) -> Any:
        return self.model.vision_model

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = self._tower.embeddings.patch_embedding.weight.dtype
        return dtype

    def _check_blocks(self, blocks: Iterable[int], allow_empty: bool = False) -> tuple[int, ...]:
        checked = tuple(blocks)
        increasing = all(a < b for a, b in pairwise(checked))
        if not checked and allow_empty:
            return checked
        if not checked or not increasing or checked[0] < 0 or checked[-1] >= self.depth:
            raise ValueError(
                f"blocks is {checked}; give increasing 0-based block numbers from 0 to {self.depth - 1} "
                f"(this transformer has {self.depth} blocks)"
            )
        return checked

    def _tap_run(self, images: Tensor, blocks: tuple[int, ...], stop: int) -> tuple[list[Tensor], Tensor]:
        """Run blocks 0 to `stop` - 1; returns the maps after `blocks` and the last hidden state [B, 1 + g*g, C]."""
        self._freeze()
        hidden = self._tower.pre_layrnorm(self._tower.embeddings(self.prepare(images)))
        taps = []
        for index in range(stop):
            hidden = self._run_block(index, hidden)
            if index in blocks:
                taps.append(self._to_map(hidden).to(images.dtype))
        return taps, hidden

    def _run_block(self, index: int, hidden: Tensor, prompt: Tensor | None = None) -> Tensor:
        layer = self._tower.encoder.layers[index]
        if self.checkpointing and torch.is_grad_enabled() and hidden.requires_grad:
            out: Tensor = checkpoint(clip_block, layer, hidden, prompt, use_reentrant=False)
            return out
        return clip_block(layer, hidden, prompt)

    def _to_map(self, hidden: Tensor) -> Tensor:
        # [B, 1 + g*g, C] -> [B, C, g, g], without the class token
        return hidden[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid))

    def _project(self, hidden: Tensor) -> Tensor:
        projected: Tensor = self.model.visual_projection(self._tower.post_layernorm(hidden[:, 0]))
        return projected
