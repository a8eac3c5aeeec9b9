"""The engine "compile": the folded generator under torch.compile, behind GALIPPipeline itself.

On a GPU the folded networks are kept in channels-last layout, and each batch size becomes a CUDA graph
(`mode="reduce-overhead"`), so that Python does not stand between the kernels. Nothing here waits for the device: the
pipeline does that when it looks at the pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from galip.export.folded_vision import FoldedVision, fold_vision
from galip.export.folding import FoldedGenerator, fold
from galip.models.clip import FrozenCLIPVision
from galip.models.generator import MateGenerator
from galip.torch_backend.pipeline import GALIPPipeline


def compile_pipeline(
    pipeline: GALIPPipeline, compiler: Callable[[nn.Module], Callable[..., Tensor]] | None = None
) -> GALIPPipeline:
    """Let a pipeline draw with its folded and compiled generator. The first batch of each size takes a while.

    The pipeline's parts stay as they are and can be saved, moved or trained: they are folded again when they have
    changed since the last picture.

    Args:
        pipeline: the pipeline to change.
        compiler: makes a fast function of a module; None: `torch.compile`.

    Returns:
        `pipeline` itself.
    """
    pipeline.generator_call = CompiledDrawer(compiler or _compile)
    return pipeline


class CompiledDrawer:
    """Draws as a generator does, by a folded and compiled copy of it.

    Args:
        compiler: makes a fast function of a module.
    """

    def __init__(self, compiler: Callable[[nn.Module], Callable[..., Tensor]]) -> None:
        self._compiler = compiler
        self._state: Any = None
        self._draw: Callable[..., Tensor] | None = None

    def __call__(self, generator: MateGenerator, vision: FrozenCLIPVision, z: Tensor, e: Tensor) -> Tensor:
        """Pictures [B, 3, S, S] of noise and sentence vectors, as `generator(z, e, vision)` gives them."""
        state = _state(generator, vision)
        if self._draw is None or state != self._state:
            drawing = Drawing(fold(generator), fold_vision(vision))
            if generator.device.type == "cuda":
                drawing.to(memory_format=torch.channels_last)
            self._draw, self._state = self._compiler(drawing), state
        # Types that never change spare a graph for each of the caller's.
        images = self._draw(z.to(generator.dtype), e.to(generator.dtype))
        # A CUDA graph's output lies in memory that its next run writes again.
        return images.clone() if images.is_cuda else images


class Drawing(nn.Module):
    """A folded generator with its transformer as one module, which is what is compiled.

    Args:
        generator: from `fold`.
        vision: from `fold_vision`.
    """

    def __init__(self, generator: FoldedGenerator, vision: FoldedVision) -> None:
        super().__init__()
        self.generator, self.vision = generator, vision

    def forward(self, z: Tensor, e: Tensor) -> Tensor:
        """Pictures [B, 3, S, S] of `z` [B, z_dim] and `e` [B, cond_dim] or [B, num_stages, cond_dim]."""
        out: Tensor = self.generator(z, e, self.vision)
        return out


def compile_mode(device: torch.device) -> str:
    """torch.compile's mode: CUDA graphs on a GPU, its default elsewhere."""
    return "reduce-overhead" if device.type == "cuda" else "default"


def _compile(drawing: nn.Module) -> Callable[..., Tensor]:
    mode = compile_mode(next(drawing.buffers()).device)
    # A graph for each batch size: CUDA graphs need fixed ones, and they are few.
    compiled: Callable[..., Tensor] = torch.compile(drawing, mode=mode, dynamic=False)
    return compiled


def _state(generator: MateGenerator, vision: FrozenCLIPVision) -> Any:
    """Changes whenever a weight does: another tensor, another place, or the same one written to."""
    weights = (*generator.parameters(), *vision.parameters())
    return [(id(w), w.data_ptr(), 0 if w.is_inference() else w._version) for w in weights]
