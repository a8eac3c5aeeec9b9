"""The exported graphs: in ONNX Runtime and in OpenVINO the same function as the torch networks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import openvino
import pytest
import torch
from models import tiny
from models.narrow import narrow
from torch import nn
from transformers import T5Config, T5EncoderModel

from galip.export.graphs import Networks
from galip.export.tracing import IR_VERSION, OPSET, Dynamic, trace
from galip.export.weights import embed
from galip.models import FrozenCLIPVision, MateGenerator
from galip.models.presets import PRESETS
from galip.models.text import CLIPSentenceEncoder, SentenceEncoder, T5SentenceEncoder

pytestmark = pytest.mark.engines


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def by_onnxruntime(model: bytes, feeds: dict[str, np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def by_openvino(model: bytes, feeds: dict[str, np.ndarray]) -> np.ndarray:
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return core.compile_model(core.read_model(model), "CPU", settings)(feeds)[0]


ENGINES = (by_onnxruntime, by_openvino)


def written(model: ir.Model) -> bytes:
    """A graph as a file that has passed ONNX's own check."""
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


@cache
def generator_graph(name: str, bridge_input: str) -> tuple[MateGenerator, FrozenCLIPVision, bytes]:
    generator, vision = narrow(name, bridge_input=bridge_input)
    return generator, vision, written(Networks(generator.eval(), vision, None).graphs()["generator"].trace())


@pytest.mark.parametrize(("name", "bridge_input"), [*((name, "noise") for name in PRESETS), ("mini-64", "condition")])
def test_every_presets_generator(name: str, bridge_input: str) -> None:
    generator, vision, model = generator_graph(name, bridge_input)
    z, e = torch.randn(3, generator.z_dim), torch.randn(3, generator.num_stages, generator.cond_dim)
    with torch.no_grad():
        expected = generator(z, e, vision).numpy()
    for engine in ENGINES:
        for batch in (3, 1):
            found = engine(model, {"z": z[:batch].numpy(), "e": e[:batch].numpy()})
            assert found.shape == expected[:batch].shape
            assert np.abs(found - expected[:batch]).max() <= 1e-5 * max(1, np.abs(expected).max())


def test_nothing_is_computed_twice_or_of_sizes_when_it_runs() -> None:
    """The released form's graph is what engines are quick with: no shapes at run time but the class token's batch."""
    _, _, model = generator_graph("mini-64", "condition")
    nodes = [node.op_type for node in onnx.load_from_string(model).graph.node]
    assert nodes.count("Shape") == 1
    assert nodes.count("Expand") == 1
    assert nodes.count("ConvTranspose") == 3  # each doubling and its convolution in one
    assert nodes.count("Resize") == 3  # the shortcuts'
    assert "Cast" not in nodes and "Constant" not in nodes


class Nearest(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(x, size=(self.size, self.size), mode="nearest")


def traced(network: nn.Module, x: torch.Tensor) -> bytes:
    return written(trace(network, {"x": x}, {"x": {0: Dynamic("batch", 64)}}, "y"))


def test_uneven_nearest_neighbours_are_torchs() -> None:
    # 7 -> 8 and 128 -> 224 are the released network's; the others are as near to a whole ratio as can be.
    for before, after in ((7, 8), (128, 224), (3, 10), (9, 17), (49, 50), (10, 30)):
        x = torch.randn(2, 2, before, before)
        model, expected = traced(Nearest(after), x), Nearest(after)(x).numpy()
        for engine in ENGINES:
            assert np.array_equal(engine(model, {"x": x.numpy()}), expected)


@pytest.mark.parametrize("name", ["relu", "silu", "gelu", "quick_gelu", "gelu_new", "gelu_pytorch_tanh"])
def test_activations_are_transformers_own(name: str) -> None:
    from transformers.activations import ACT2FN

    x = torch.linspace(-6, 6, 64)[None].repeat(2, 1)
    model = traced(ACT2FN[name], x)
    for engine in ENGINES:
        assert np.abs(engine(model, {"x": x.numpy()}) - ACT2FN[name](x).numpy()).max() <= 1e-5


def clip_encoder() -> CLIPSentenceEncoder:
    tokenizer = tiny.tokenizer()
    return CLIPSentenceEncoder(tokenizer, tiny.clip_text_model(tokenizer.eos_token_id, len(tokenizer)))


def t5_encoder(**changes: Any) -> T5SentenceEncoder:
    tokenizer = tiny.tokenizer(start=None, model_max_length=200)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 2, "pad_token_id": 0}
    model = tiny.scatter(T5EncoderModel(T5Config(vocab_size=len(tokenizer), **(sizes | changes))))
    return T5SentenceEncoder(tokenizer, model, scale=1.5)


@pytest.mark.parametrize(
    "make",
    [clip_encoder, t5_encoder, lambda: t5_encoder(feed_forward_proj="gated-gelu")],
    ids=["clip", "t5", "t5-gated"],
)
def test_sentences(make: Any) -> None:
    encoder: SentenceEncoder = make()
    captions = ["a", "a red heart", "two birds in the rain", *(["cat " * 150] if encoder.max_tokens > 100 else [])]
    rows = encoder.tokenizer(captions)["input_ids"]
    model = written(Networks(tiny.generator(), tiny.vision(), encoder).graphs()["text_encoder"].trace())
    expected = encoder.encode(captions).numpy()
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    longest = max(map(len, rows))
    for engine in ENGINES:
        for padding in (0, 3):  # whatever the padding is, it must not matter
            ids = np.array([row + [padding] * (longest - len(row)) for row in rows], dtype=np.int64)
            last = np.array([len(row) - 1 for row in rows], dtype=np.int64)
            vectors = engine(model, {"input_ids": ids, "last": last})
            assert np.abs(vectors - expected).max() <= 1e-5 * np.abs(expected).max()
        alone = engine(model, {"input_ids": ids[:1, : len(rows[0])], "last": last[:1]})
        assert np.abs(alone - expected[:1]).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(("clip_input", "size"), [("standard", 32), ("standard", 48), ("released", 48)])
def test_image_vectors(clip_input: str, size: int) -> None:
    """A CLIP of 32 px looks at images of its own size and of another."""
    vision = tiny.vision(clip_input)
    generator = tiny.generator(block_sizes=(8, 16, size))
    model = written(Networks(generator, vision, None).graphs()["image_encoder"].trace())
    images = torch.rand(3, 3, size, size) * 2 - 1
    expected = vision.embed(images).detach().numpy()
    for engine in ENGINES:
        assert np.abs(engine(model, {"images": images.numpy()}) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_half_the_weights_bytes_for_nearly_the_same_image() -> None:
    # wide enough to have large constants
    generator = tiny.scatter(tiny.generator(stem_channels=64, block_channels=(64, 48, 32)), 0.05)
    graph = Networks(generator.eval(), tiny.vision(), None).graphs()["generator"].trace()
    embed(graph)
    whole = written(graph)
    embed(graph, half=True)
    half = written(graph)
    embed(graph)  # and back: what has been rounded stays so, in as many bytes as before
    assert len(written(graph)) == len(whole)
    assert len(half) < 0.75 * len(whole)
    feeds = {"z": np.ones((1, 8), np.float32), "e": np.ones((1, generator.num_stages, 24), np.float32)}
    for engine in ENGINES:
        one, other, again = (engine(model, feeds) for model in (whole, half, written(graph)))
        assert 0 < np.abs(one - other).max() <= 0.02 * np.abs(one).max()
        assert np.abs(again - other).max() <= 1e-5 * np.abs(one).max()


def test_the_operator_set_is_the_stated_one() -> None:
    model = onnx.load_from_string(generator_graph("mini-64", "condition")[2])
    assert model.ir_version == IR_VERSION
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert [[d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input] == [
        ["batch", 5],
        ["batch", 5, 6],
    ]
