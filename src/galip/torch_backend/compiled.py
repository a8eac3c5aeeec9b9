"""The engine "compile": the generator's inference form under torch.compile, behind GALIPPipeline itself.

On a CPU the compiler computes once what depends on weights alone ("freezing"). On a GPU the networks are copied into
channels-last layout, and each batch size becomes a CUDA graph, so that Python does not stand between the kernels.
Nothing here waits for the device: the pipeline does that when it looks at the images.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from galip.models.clip import FrozenCLIPVision
from galip.models.generator import MateGenerator, WholeGenerator
from galip.torch_backend.pipeline import GALIPPipeline

Compiler = Callable[[nn.Module], Callable[..., Tensor]]
"""Makes a fast function of a module."""


def compile_pipeline(pipeline: GALIPPipeline, compiler: Compiler | None = None) -> GALIPPipeline:
    """Let a pipeline generate with its compiled generator. The first batch of each size takes a while.

    The pipeline's parts stay as they are and can be saved, moved or trained: they are compiled again when they have
    changed since the last image.

    Args:
        pipeline: the pipeline to change.
        compiler: None: `torch.compile`.

    Returns:
        `pipeline` itself.
    """
    pipeline.generator_call = CompiledGenerator(compiler or _compile)
    return pipeline


class CompiledGenerator:
    """Computes what a generator does, by its compiled inference form.

    Args:
        compiler: makes a fast function of a module.
    """

    def __init__(self, compiler: Compiler) -> None:
        self._compiler = compiler
        self._state: Any = None
        self._call: Callable[..., Tensor] | None = None

    @torch.no_grad()
    def __call__(self, generator: MateGenerator, vision: FrozenCLIPVision, z: Tensor, e: Tensor) -> Tensor:
        """Images [B, C, S, S] of noise and sentence vectors, as `generator(z, e, vision)` gives them."""
        state = _state(generator, vision)
        if self._call is None or state != self._state:
            whole = WholeGenerator(generator.for_inference(), vision).eval()
            if generator.device.type == "cuda":
                whole = copy.deepcopy(whole).to(memory_format=torch.channels_last)
            self._call, self._state = self._compiler(whole), state
        # Types that never change spare a graph for each of the caller's.
        images = self._call(z.to(generator.dtype), e.to(generator.dtype))
        # A CUDA graph's output lies in memory that its next run writes again.
        return images.clone() if images.is_cuda else images


def compile_options(device: torch.device) -> dict[str, Any]:
    """torch.compile's options: CUDA graphs on a GPU, elsewhere weights are constants."""
    return {"triton.cudagraphs": True} if device.type == "cuda" else {"freezing": True}


def _compile(whole: nn.Module) -> Callable[..., Tensor]:
    options = compile_options(next(whole.parameters()).device)
    # A graph for each batch size: CUDA graphs need fixed ones, and they are few.
    compiled: Callable[..., Tensor] = torch.compile(whole, options=options, dynamic=False)
    return compiled


def _state(generator: MateGenerator, vision: FrozenCLIPVision) -> Any:
    """Changes whenever a weight does: another tensor, another place, or the same one written to."""
    weights = (*generator.parameters(), *vision.parameters())
    return [(id(w), w.data_ptr(), 0 if w.is_inference() else w._version) for w in weights]
