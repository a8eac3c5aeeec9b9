"""The engine `compile`: the same images, compiled again when weights change, nothing that waits for a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from galip.models.generator import WholeGenerator
from galip.torch_backend.compiled import compile_options, compile_pipeline
from galip.torch_backend.pipeline import GALIPPipeline


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Compiler:
    """Compiles nothing, and keeps what it is given."""

    def __init__(self) -> None:
        self.seen: list[nn.Module] = []

    def __call__(self, whole: nn.Module) -> Callable[..., torch.Tensor]:
        self.seen.append(whole)
        return whole


def pixels(pipe: GALIPPipeline, **kwargs: object) -> np.ndarray:
    return pipe(["a red heart", "a sleepy cat"], 2, seed=3, output_type="np", **kwargs).images


def test_pictures_are_the_same() -> None:
    pipe, compiler = tiny.pipeline(), Compiler()
    expected = pixels(pipe)
    assert compile_pipeline(pipe, compiler) is pipe
    for batch_size in (16, 3):
        assert np.abs(pixels(pipe, batch_size=batch_size) - expected).max() <= 1e-5
    assert [type(whole) for whole in compiler.seen] == [WholeGenerator]


@pytest.mark.slow
def test_torch_compile_itself() -> None:
    pipe = tiny.pipeline()
    expected = pixels(pipe)
    assert np.abs(pixels(compile_pipeline(pipe)) - expected).max() <= 1e-4


def test_sentences_for_every_stage() -> None:
    pipe = tiny.pipeline()
    embeds = torch.randn(1, pipe.generator.num_stages, tiny.COND_DIM)
    expected = pipe(prompt_embeds=embeds, seed=0, output_type="np").images
    compile_pipeline(pipe, Compiler())
    assert np.abs(pipe(prompt_embeds=embeds, seed=0, output_type="np").images - expected).max() <= 1e-5


def test_changed_weights_are_compiled_again_and_others_are_not() -> None:
    pipe, compiler = tiny.pipeline(), Compiler()
    compile_pipeline(pipe, compiler)
    first = pixels(pipe)
    pixels(pipe)
    assert len(compiler.seen) == 1
    with torch.no_grad():
        pipe.generator.image_generator.to_rgb.bias.add_(0.1)
    changed = pixels(pipe)
    assert len(compiler.seen) == 2
    assert np.abs(changed - first).max() > 1e-3
    pipe.generator_call = None
    assert np.abs(changed - pixels(pipe)).max() <= 1e-5
    compile_pipeline(pipe, compiler)
    pipe.generator = tiny.parts.scatter(tiny.parts.generator())
    other = pixels(pipe)
    pipe.generator_call = None
    assert np.abs(other - pixels(pipe)).max() <= 1e-5


def test_another_dtype_is_drawn_in() -> None:
    pipe, compiler = tiny.pipeline(), Compiler()
    compile_pipeline(pipe, compiler)
    exact = pixels(pipe)
    pipe.to(torch.bfloat16)
    rough = pixels(pipe)
    assert len(compiler.seen) == 2
    assert {p.dtype for p in compiler.seen[-1].parameters()} == {torch.bfloat16}
    assert np.abs(rough - exact).mean() < 0.05


def test_the_pipeline_is_saved_as_ever(tmp_path: Path) -> None:
    pipe = compile_pipeline(tiny.pipeline(), Compiler())
    expected = pixels(pipe)
    pipe.save_pretrained(tmp_path, graphs=False)
    loaded = GALIPPipeline.from_pretrained(tmp_path)
    assert loaded.generator_call is None
    assert np.abs(pixels(loaded) - expected).max() <= 1e-5


def test_cuda_graphs_on_a_gpu_only() -> None:
    assert compile_options(torch.device("cuda")) == {"triton.cudagraphs": True}
    assert compile_options(torch.device("cpu")) == {"freezing": True}


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    pipe = tiny.pipeline().to("cuda")
    torch.backends.cudnn.allow_tf32 = False
    expected = pixels(pipe)
    compile_pipeline(pipe)
    for _ in range(3):  # the third run of a size is its CUDA graph
        for batch_size in (4, 3):
            assert np.abs(pixels(pipe, batch_size=batch_size) - expected).max() <= 1e-4
