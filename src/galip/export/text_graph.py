"""The sentence encoders as ONNX graphs: CLIP's text model with projection, T5's encoder with the mean of its tokens.

Both graphs take `input_ids` [batch, tokens], int64, rows padded at the end with anything, and `last` [batch], int64:
the place of the last token that counts. Both give `vector` [batch, cond_dim], float32, not normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from galip.export.folded_layers import Norm
from galip.export.folded_vision import FoldedTransformerBlock
from galip.export.generator_graph import norm, transformer_block
from galip.export.onnx_graph import Graph
from galip.models.text import CLIPSentenceEncoder, SentenceEncoder, T5SentenceEncoder

_HIDDEN = -1e9  # added to a score, it leaves nothing of its weight

_INPUTS: dict[str, tuple[str, Sequence[int | str]]] = {
    "input_ids": ("int64", ("batch", "tokens")),
    "last": ("int64", ("batch",)),
}


def text_graph(encoder: SentenceEncoder, half: bool = False) -> Any:
    """Write a sentence encoder as an `onnx.ModelProto`.

    Args:
        encoder: a `CLIPSentenceEncoder` or a `T5SentenceEncoder`.
        half: store the weights as float16.
    """
    if isinstance(encoder, CLIPSentenceEncoder):
        return _clip_graph(encoder, half)
    assert isinstance(encoder, T5SentenceEncoder)
    return _t5_graph(encoder, half)


def _clip_graph(encoder: CLIPSentenceEncoder, half: bool) -> Any:
    network = encoder.model
    tower: Any = network.text_model
    g = Graph("text_encoder", _INPUTS, half)
    count = g.size("input_ids", 1)
    words = g.node("Gather", g.constant(tower.embeddings.token_embedding.weight), "input_ids")
    table = g.constant(tower.embeddings.position_embedding.weight)
    hidden = g.node("Add", words, g.node("Slice", table, g.ints(0), count, g.ints(0)))
    places = _places(g, count)
    later = g.node("Greater", places, g.node("Unsqueeze", places, g.ints(1)))  # [N, N]: is the key behind the query?
    mask = g.node("Where", later, g.number(_HIDDEN), g.number(0.0))
    for layer in tower.encoder.layers:
        hidden = transformer_block(g, hidden, FoldedTransformerBlock(layer), str(network.config.hidden_act), mask=mask)
    end = g.node("GatherND", hidden, g.node("Unsqueeze", "last", g.ints(1)), batch_dims=1)  # [B, N, C] -> [B, C]
    vector = g.linear(norm(g, end, Norm(tower.final_layer_norm)), network.text_projection.weight)
    return g.finish(vector, "vector", ("batch", encoder.dim))


def _t5_graph(encoder: T5SentenceEncoder, half: bool) -> Any:
    stack: Any = encoder.model.encoder
    g = Graph("text_encoder", _INPUTS, half)
    count = g.size("input_ids", 1)
    hidden = g.node("Gather", g.constant(stack.embed_tokens.weight), "input_ids")
    places = _places(g, count)
    counts = g.node("LessOrEqual", g.node("Unsqueeze", places, g.ints(0)), g.node("Unsqueeze", "last", g.ints(1)))
    mask = g.node("Where", counts, g.number(0.0), g.number(_HIDDEN))  # [B, N]
    bias = g.node("Add", _position_bias(g, stack, encoder.max_tokens, places), g.node("Unsqueeze", mask, g.ints(1, 2)))
    for block in stack.block:
        hidden = _t5_block(g, hidden, block, str(encoder.model.config.dense_act_fn), bias)
    hidden = _root_mean_square_norm(g, hidden, stack.final_layer_norm)
    weights = g.node("Unsqueeze", g.node("Cast", counts, to=1), g.ints(2))  # [B, N, 1], 1 is ONNX's float32
    total = g.node("ReduceSum", g.node("Mul", hidden, weights), g.ints(1), keepdims=0)
    length = g.node("ReduceSum", weights, g.ints(1), keepdims=0)
    vector = g.node("Mul", g.node("Div", total, length), g.number(encoder.scale))
    return g.finish(vector, "vector", ("batch", encoder.dim))


def _t5_block(g: Graph, hidden: str, block: Any, activation: str, bias: str) -> str:
    attention, feed = block.layer[0].SelfAttention, block.layer[1].DenseReluDense
    heads, inner = g.ints(0, 0, attention.n_heads, attention.key_value_proj_dim), g.ints(0, 0, attention.inner_dim)
    seen = _root_mean_square_norm(g, hidden, block.layer[0].layer_norm)

    def part(weight: Tensor, order: Sequence[int]) -> str:
        return g.node("Transpose", g.node("Reshape", g.linear(seen, weight), heads), perm=order)

    q, k = part(attention.q.weight, (0, 2, 1, 3)), part(attention.k.weight, (0, 2, 3, 1))
    scores = g.node("Add", g.node("MatMul", q, k), bias)  # T5 does not scale its scores
    mixed = g.node("MatMul", g.node("Softmax", scores, axis=-1), part(attention.v.weight, (0, 2, 1, 3)))
    mixed = g.node("Reshape", g.node("Transpose", mixed, perm=[0, 2, 1, 3]), inner)
    hidden = g.node("Add", hidden, g.linear(mixed, attention.o.weight))

    seen = _root_mean_square_norm(g, hidden, block.layer[1].layer_norm)
    if hasattr(feed, "wi_0"):
        wide = g.node(
            "Mul", g.activation(g.linear(seen, feed.wi_0.weight), activation), g.linear(seen, feed.wi_1.weight)
        )
    else:
        wide = g.activation(g.linear(seen, feed.wi.weight), activation)
    return g.node("Add", hidden, g.linear(wide, feed.wo.weight))


def _position_bias(g: Graph, stack: Any, longest: int, places: str) -> str:
    """T5's score for each head and distance of key from query, [1, heads, N, N]."""
    bias = stack.block[0].layer[0].SelfAttention.compute_bias(longest, longest).detach()[0]  # [heads, longest, longest]
    # It depends on the distance alone: the last query sees those from -(longest - 1) to 0, the first those from 0 up.
    by_distance = np.concatenate([bias[:, -1].float().cpu().numpy(), bias[:, 0, 1:].float().cpu().numpy()], axis=1)
    distance = g.node("Sub", g.node("Unsqueeze", places, g.ints(0)), g.node("Unsqueeze", places, g.ints(1)))
    index = g.node("Add", distance, g.ints(longest - 1))
    return g.node("Unsqueeze", g.node("Gather", g.constant(by_distance), index, axis=1), g.ints(0))


def _root_mean_square_norm(g: Graph, x: str, layer: Any) -> str:
    square = g.node("ReduceMean", g.node("Mul", x, x), g.ints(-1), keepdims=1)
    root = g.node("Sqrt", g.node("Add", square, g.number(layer.variance_epsilon)))
    return g.node("Mul", g.node("Div", x, root), g.constant(layer.weight))


def _places(g: Graph, count: str) -> str:
    """0, 1, ... count - 1."""
    zero, one = (g.constant(np.array(i, dtype=np.int64)) for i in (0, 1))
    return g.node("Range", zero, g.node("Squeeze", count, g.ints(0)), one)
