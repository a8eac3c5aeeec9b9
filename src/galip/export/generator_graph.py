"""The folded generator and the transformer that it looks through as one ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from galip.export.folded_layers import Conv, Norm
from galip.export.folded_vision import FoldedTransformerBlock, FoldedVision
from galip.export.folding import Batch, DoublingConv, FoldedBridgeBlock, FoldedGenerator, FoldedUpBlock, Seconds
from galip.export.onnx_graph import Graph
from galip.models.layers import LEAKY_SLOPE


def generator_graph(generator: FoldedGenerator, vision: FoldedVision, half: bool = False) -> Any:
    """Write a folded generator with its transformer as ONNX.

    Args:
        generator: from `fold`.
        vision: from `fold_vision`.
        half: store the weights as float16.

    Returns:
        An `onnx.ModelProto` with the inputs `z` [batch, z_dim] and `e` [batch, num_stages, cond_dim], a sentence vector
        for each stage, and the output `image` [batch, 3, S, S] in about [-1, 1], all float32.
    """
    z_dim, stages, cond_dim = generator.z_dim, generator.num_stages, generator.cond_dim
    inputs: dict[str, tuple[str, Sequence[int | str]]] = {
        "z": ("float32", ("batch", z_dim)),
        "e": ("float32", ("batch", stages, cond_dim)),
    }
    g = Graph("generator", inputs, half)
    conds = [g.node("Concat", "z", g.node("Squeeze", e, g.ints(1)), axis=1) for e in g.split("e", [1] * stages, axis=1)]
    modulations = _modulate(g, generator, [conds[0], *conds[2:]])

    linear = generator.bridge_linear
    source = conds[0] if generator.bridge_from_condition else "z"
    x = g.node("Reshape", g.linear(source, linear.weight, linear.bias), g.ints(0, *generator.bridge_shape))
    for i, block in enumerate(generator.bridge_blocks):
        assert isinstance(block, FoldedBridgeBlock)
        first, second = modulations[0][2 * i : 2 * i + 2]
        h = _fuse(g, _conv(g, x, block.conv1), first)
        x = g.node("Add", x, _fuse(g, _conv(g, h, block.conv2), second))
    bridge = _conv(g, x, generator.bridge_conv)
    linear = generator.prompt_linear
    prompts = g.node("Reshape", g.linear(conds[1], linear.weight, linear.bias), g.ints(0, *generator.prompt_shape))
    concepts = _induce(g, vision, bridge, prompts, generator.prompt_blocks)
    x = _conv(g, g.node("Add", bridge, g.node("Mul", concepts, g.number(generator.concept_scale))), generator.stem)
    for block, modulation in zip(generator.up_blocks, modulations[1:], strict=True):
        x = _up(g, x, block, modulation)
    image = _conv(g, g.node("LeakyRelu", x, alpha=LEAKY_SLOPE), generator.to_rgb)
    size = generator.image_size
    return g.finish(image, "image", ("batch", 3, size, size))


def transformer_block(
    g: Graph,
    hidden: str,
    block: FoldedTransformerBlock,
    activation: str,
    prompt: str | None = None,
    mask: str | None = None,
) -> str:
    """A transformer block of CLIP.

    Args:
        g: the graph.
        hidden: [B, N, C].
        block: its weights.
        activation: the MLP's activation, by name.
        prompt: a token [B, 1, C] that is looked at and does not look.
        mask: added to the scores, [N, N].
    """
    seen = hidden if prompt is None else g.node("Concat", hidden, prompt, axis=1)
    width = block.norm1.weight.shape[0]
    qkv = g.linear(norm(g, seen, block.norm1), block.qkv.weight, block.qkv.bias)
    q, k, v = g.split(qkv, [width] * 3, axis=2)
    if prompt is not None:
        q = g.rows(q, 0, -1, axis=1)
    heads = g.ints(0, 0, block.heads, width // block.heads)
    q = g.node("Transpose", g.node("Reshape", q, heads), perm=[0, 2, 1, 3])
    k = g.node("Transpose", g.node("Reshape", k, heads), perm=[0, 2, 3, 1])
    v = g.node("Transpose", g.node("Reshape", v, heads), perm=[0, 2, 1, 3])
    scores = g.node("Mul", g.node("MatMul", q, k), g.number((width // block.heads) ** -0.5))
    if mask is not None:
        scores = g.node("Add", scores, mask)
    mixed = g.node("MatMul", g.node("Softmax", scores, axis=-1), v)
    mixed = g.node("Reshape", g.node("Transpose", mixed, perm=[0, 2, 1, 3]), g.ints(0, 0, width))
    hidden = g.node("Add", hidden, g.linear(mixed, block.out.weight, block.out.bias))
    wide = g.linear(norm(g, hidden, block.norm2), block.fc1.weight, block.fc1.bias)
    return g.node("Add", hidden, g.linear(g.activation(wide, activation), block.fc2.weight, block.fc2.bias))


def norm(g: Graph, x: str, layer: Norm) -> str:
    """Layer normalisation over the last axis."""
    return g.node(
        "LayerNormalization", x, g.constant(layer.weight), g.constant(layer.bias), axis=-1, epsilon=float(layer.eps)
    )


def _induce(g: Graph, vision: FoldedVision, bridge: str, prompts: str, blocks: Sequence[int]) -> str:
    width, grid = vision.first.shape[2], vision.grid
    tokens = g.node("Transpose", g.node("Reshape", bridge, g.ints(0, width, grid * grid)), perm=[0, 2, 1])
    tokens = g.node("Add", tokens, g.constant(vision.positions))
    once_each = g.node("Concat", g.size(bridge, 0), g.ints(1, width), axis=0)
    first = g.node("Expand", g.constant(vision.first), once_each)
    hidden = norm(g, g.node("Concat", first, tokens, axis=1), vision.norm)
    by_block = dict(zip(blocks, g.split(prompts, [1] * len(blocks), axis=1), strict=True))
    for index, block in enumerate(vision.blocks):
        assert isinstance(block, FoldedTransformerBlock)
        hidden = transformer_block(g, hidden, block, vision.activation, by_block.get(index))
    spatial = g.rows(hidden, 1, 1 + grid * grid, axis=1)
    return g.node("Reshape", g.node("Transpose", spatial, perm=[0, 2, 1]), g.ints(0, width, grid, grid))


def _modulate(g: Graph, generator: FoldedGenerator, conds: Sequence[str]) -> list[list[list[str]]]:
    """For each stage, for each of its fusion blocks, the names of gamma0, beta0, gamma1, beta1."""
    stacked = generator.modulations
    weights, biases = stacked.first.weight.split(stacked.rows), stacked.first.bias.split(stacked.rows)
    out = []
    for cond, weight, bias, seconds in zip(conds, weights, biases, stacked.seconds, strict=True):
        assert isinstance(seconds, Seconds)
        hidden = g.node("Relu", g.linear(cond, weight, bias))
        parts = g.split(hidden, seconds.sizes, axis=1)
        maps: list[str] = []
        for batch, part in zip(seconds.groups, parts, strict=True):
            assert isinstance(batch, Batch)
            x = g.node("Transpose", g.node("Reshape", part, g.ints(0, batch.count, batch.width)), perm=[1, 0, 2])
            x = g.node("Add", g.node("MatMul", x, g.constant(batch.weight)), g.constant(batch.bias))  # [n, B, C]
            x = g.node("Unsqueeze", x, g.ints(3, 4))
            maps += [g.node("Squeeze", one, g.ints(0)) for one in g.split(x, [1] * batch.count, axis=0)]
        out.append([maps[i : i + 4] for i in range(0, len(maps), 4)])
    return out


def _fuse(g: Graph, x: str, modulation: Sequence[str]) -> str:
    gamma0, beta0, gamma1, beta1 = modulation
    x = g.node("LeakyRelu", g.node("Add", g.node("Mul", x, gamma0), beta0), alpha=LEAKY_SLOPE)
    return g.node("LeakyRelu", g.node("Add", g.node("Mul", x, gamma1), beta1), alpha=LEAKY_SLOPE)


def _up(g: Graph, x: str, block: nn.Module, modulation: Sequence[Sequence[str]]) -> str:
    assert isinstance(block, FoldedUpBlock)
    h = _fuse(g, x, modulation[0])
    if isinstance(block.conv1, DoublingConv):
        weight, bias = g.constant(block.conv1.weight), g.constant(block.conv1.bias)
        h = g.node("ConvTranspose", h, weight, bias, strides=[2, 2], pads=[1, 1, 1, 1])
    else:
        h = _conv(g, upsample(g, h, block), block.conv1)
    h = _conv(g, _fuse(g, h, modulation[1]), block.conv2)
    shortcut = x if isinstance(block.shortcut, nn.Identity) else _conv(g, x, block.shortcut)
    return g.node("Add", upsample(g, shortcut, block), h)


def upsample(g: Graph, x: str, block: FoldedUpBlock) -> str:
    """Nearest neighbour as torch means it: output pixel i shows input pixel floor(i * in / out)."""
    scale = np.float32(block.size / block.in_size)
    if int(np.float32(block.in_size) * scale) < block.size:  # rounded down, and engines cut what is left of a pixel
        scale = np.nextafter(scale, np.float32(np.inf))
    scales = g.constant(np.array([1, 1, scale, scale], dtype=np.float32))
    return g.node(
        "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )


def _conv(g: Graph, x: str, conv: nn.Module) -> str:
    assert isinstance(conv, Conv)
    pad = int(conv.padding[0])
    return g.node("Conv", x, g.constant(conv.weight), g.constant(conv.bias), pads=[pad] * 4)
