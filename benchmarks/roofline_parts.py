"""The parts of the way from captions to a picture, plain and folded, and the operations and bytes of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from galip.models.layers import LEAKY_SLOPE
from galip.models.text import CLIPSentenceEncoder
from galip.training.networks import Networks

State = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A part of the way from captions to a picture.

    Attributes:
        name: in the table.
        run: what it does, with everything that has been computed so far, to which it adds.
        reads: names of what it takes from there.
        writes: names of what it adds.
        weights: the modules whose weights it reads.
    """

    name: str
    run: Callable[[State], Any]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    weights: tuple[nn.Module, ...]


# ---- the parts


def generator_parts(networks: Networks, whole_context: bool) -> list[Part]:
    """Of the generator in the form in which it is (`MateGenerator.fold`); affine MLPs belong to their blocks.

    Args:
        networks: the model.
        whole_context: encode captions in as many tokens as the text encoder takes, not in as many as they have.
    """
    generator, vision, text = networks.generator, networks.vision, networks.text_encoder
    encoder, image = CLIPSentenceEncoder(networks.tokenizer, text), generator.image_generator

    def encode(s: State) -> None:
        if whole_context:
            context = text.config.max_position_embeddings
            tokens = networks.tokenizer(
                s["captions"], padding="max_length", truncation=True, max_length=context, return_tensors="pt"
            )
            s["e"] = text(input_ids=tokens["input_ids"]).text_embeds
        else:
            s["e"] = encoder.encode(s["captions"])
        s["cond"] = torch.cat([s["z"], s["e"]], dim=1)

    def stem(s: State) -> None:
        s["x"] = image.stem(s["bridge"] + image.concept_scale * s["concepts"])

    def ends(s: State) -> None:
        s["picture"] = image.to_rgb(torch.nn.functional.leaky_relu(s["x"], LEAKY_SLOPE))

    return [
        Part("text encoder", encode, (), ("e",), (text,)),
        Part(
            "bridge",
            lambda s: s.update(bridge=generator.bridge(s["z"], s["cond"])),
            ("z", "cond"),
            ("bridge",),
            (generator.bridge_predictor,),
        ),
        Part(
            "prompts",
            lambda s: s.update(prompts=generator.prompts(s["cond"])),
            ("cond",),
            ("prompts",),
            (generator.prompt_predictor,),
        ),
        Part(
            "ViT",
            lambda s: s.update(concepts=vision.induce(s["bridge"], s["prompts"], generator.prompt_blocks)),
            ("bridge", "prompts"),
            ("concepts",),
            (vision.model.vision_model.encoder,),
        ),
        Part("stem", stem, ("bridge", "concepts"), ("x",), (image.stem,)),
        *(
            Part(
                f"up-block to {block.size}",
                lambda s, b=block: s.update(x=b(s["x"], s["cond"])),  # type: ignore[misc]
                ("x", "cond"),
                ("x",),
                (block,),
            )
            for block in image.blocks
        ),
        Part("RGB", ends, ("x",), ("picture",), (image.to_rgb,)),
    ]


# ---- counting


class ByteCounter(TorchDispatchMode):
    """Bytes that operators read and write, each tensor in full at every use; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count."""
        out = func(*args, **(kwargs or {}))
        if not func.is_view and func is not torch.ops.aten._unsafe_view.default:
            for tensor in tree_leaves((args, kwargs, out)):
                if isinstance(tensor, Tensor):
                    # An expanded tensor is read where it lies, not where it is repeated.
                    self.bytes += min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
        return out


def count(parts: Sequence[Part], state: State) -> list[dict[str, Any]]:
    """Operations and bytes of each part: `flops`, `least_bytes`, `op_bytes`. `state` gains what the parts compute."""
    rows = []
    for part in parts:
        read = _size([state[name] for name in part.reads])
        counter, traffic = FlopCounterMode(display=False, custom_mapping=_ATTENTION), ByteCounter()
        with counter, traffic:
            part.run(state)
        weights = sum(_weight_bytes(module) for module in part.weights)
        if part.name == "text encoder":  # a few rows of the table of tokens are read, not all
            weights -= _size(part.weights[0].text_model.embeddings.token_embedding.weight)
        least = weights + read + _size([state[name] for name in part.writes])
        rows.append(
            {"name": part.name, "flops": counter.get_total_flops(), "least_bytes": least, "op_bytes": traffic.bytes}
        )
    return rows


def _attention_flops(query: Any, key: Any, value: Any, *_rest: Any, out_shape: Any = None, **_named: Any) -> int:
    """Of softmax(q k^T) v, by shapes [B, heads, N, d]."""
    batch, heads, rows, width = query
    columns, out_width = key[-2], value[-1]
    flops: int = 2 * batch * heads * rows * columns * (width + out_width)
    return flops


# torch counts the attention of GPUs; this is the operator that a CPU uses.
_ATTENTION: dict[Any, Any] = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}


def _size(tensors: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tree_leaves(tensors) if isinstance(t, Tensor))


def _weight_bytes(module: nn.Module) -> int:
    every = {id(t): t for t in (*module.parameters(), *module.buffers())}
    return _size(list(every.values()))
