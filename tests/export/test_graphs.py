"""The ONNX graphs: in ONNX Runtime and in OpenVINO the same function as the torch networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from models import tiny
from models.narrow import narrow
from transformers import T5Config, T5EncoderModel

from galip.errors import GalipError
from galip.export.folded_vision import fold_vision
from galip.export.folding import fold
from galip.export.generator_graph import generator_graph, upsample
from galip.export.onnx_graph import OPSET, Graph
from galip.export.text_graph import text_graph
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


def by_onnxruntime(model: Any, feeds: dict[str, np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def by_openvino(model: Any, feeds: dict[str, np.ndarray]) -> np.ndarray:
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)
    return compiled(feeds)[0]


ENGINES = pytest.mark.parametrize("engine", [by_onnxruntime, by_openvino])


@ENGINES
@pytest.mark.parametrize("bridge_input", ["noise", "condition"])
@pytest.mark.parametrize("name", PRESETS)
def test_every_presets_generator(name: str, bridge_input: str, engine: Any) -> None:
    generator, vision = narrow(name, bridge_input=bridge_input)
    model = generator_graph(fold(generator), fold_vision(vision))
    onnx.checker.check_model(model, full_check=True)
    z, e = torch.randn(3, generator.z_dim), torch.randn(3, generator.num_stages, generator.cond_dim)
    with torch.no_grad():
        expected = generator(z, e, vision).numpy()
    drawn = engine(model, {"z": z.numpy(), "e": e.numpy()})
    assert drawn.shape == expected.shape
    assert np.abs(drawn - expected).max() <= 1e-5 * max(1, np.abs(expected).max())


@ENGINES
def test_uneven_nearest_neighbours_are_torchs(engine: Any) -> None:
    # 7 -> 8 and 128 -> 224 are the released network's; the others are as near to a whole ratio as can be.
    for before, after in ((7, 8), (128, 224), (3, 10), (9, 17), (49, 50), (10, 30)):
        generator = tiny.generator(grid=before, block_sizes=(after,), block_channels=(2,), stem_channels=2)
        folded = fold(generator)
        g = Graph("resize", {"x": ("float32", ("batch", 2, before, before))})
        model = g.finish(upsample(g, "x", folded.up_blocks[0]), "y", ("batch", 2, after, after))
        x = torch.randn(1, 2, before, before)
        expected = torch.nn.functional.interpolate(x, size=(after, after), mode="nearest")
        assert np.array_equal(engine(model, {"x": x.numpy()}), expected.numpy())


def clip_encoder() -> CLIPSentenceEncoder:
    tokenizer = tiny.tokenizer()
    return CLIPSentenceEncoder(tokenizer, tiny.clip_text_model(tokenizer.eos_token_id, len(tokenizer)))


def t5_encoder(**changes: Any) -> T5SentenceEncoder:
    tokenizer = tiny.tokenizer(start=None, model_max_length=200)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 2, "pad_token_id": 0}
    model = tiny.scatter(T5EncoderModel(T5Config(vocab_size=len(tokenizer), **(sizes | changes))))
    return T5SentenceEncoder(tokenizer, model, scale=1.5)


@ENGINES
@pytest.mark.parametrize(
    "make",
    [clip_encoder, t5_encoder, lambda: t5_encoder(feed_forward_proj="gated-gelu")],
    ids=["clip", "t5", "t5-gated"],
)
def test_sentences(make: Any, engine: Any) -> None:
    encoder: SentenceEncoder = make()
    clip = isinstance(encoder, CLIPSentenceEncoder)
    captions = ["a", "a red heart", "two birds in the rain", *([] if clip else ["cat " * 150])]
    rows = encoder.tokenizer(captions)["input_ids"]
    model = text_graph(encoder)
    onnx.checker.check_model(model, full_check=True)
    expected = encoder.encode(captions).numpy()
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    longest = max(map(len, rows))
    for padding in (0, 3):  # whatever the padding is, it must not matter
        ids = np.array([row + [padding] * (longest - len(row)) for row in rows], dtype=np.int64)
        last = np.array([len(row) - 1 for row in rows], dtype=np.int64)
        vectors = engine(model, {"input_ids": ids, "last": last})
        assert np.abs(vectors - expected).max() <= 1e-5 * np.abs(expected).max()
    alone = engine(model, {"input_ids": ids[:1, : len(rows[0])], "last": last[:1]})
    assert np.abs(alone - expected[:1]).max() <= 1e-5 * np.abs(expected).max()


@ENGINES
@pytest.mark.parametrize("name", ["relu", "silu", "gelu", "quick_gelu", "gelu_new", "gelu_pytorch_tanh"])
def test_activations_are_transformers_own(name: str, engine: Any) -> None:
    from transformers.activations import ACT2FN

    g = Graph("activation", {"x": ("float32", ("batch", 64))})
    model = g.finish(g.activation("x", name), "y", ("batch", 64))
    x = torch.linspace(-6, 6, 64)[None]
    assert np.abs(engine(model, {"x": x.numpy()}) - ACT2FN[name](x).numpy()).max() <= 1e-5


def test_an_unknown_activation_is_refused() -> None:
    g = Graph("activation", {"x": ("float32", ("batch", 4))})
    with pytest.raises(GalipError, match="'mish' cannot be exported"):
        g.activation("x", "mish")


def test_half_the_weights_bytes_for_nearly_the_same_picture() -> None:
    # wide enough to have large constants
    generator = tiny.scatter(tiny.generator(stem_channels=64, block_channels=(64, 48, 32)), 0.05)
    vision = tiny.vision()
    whole, half = (generator_graph(fold(generator), fold_vision(vision), half=half) for half in (False, True))
    assert half.ByteSize() < 0.65 * whole.ByteSize()
    feeds = {"z": np.ones((1, 8), np.float32), "e": np.ones((1, generator.num_stages, 24), np.float32)}
    for engine in (by_onnxruntime, by_openvino):
        one, other = (engine(model, feeds) for model in (whole, half))
        assert 0 < np.abs(one - other).max() <= 0.02 * np.abs(one).max()


def test_the_operator_set_is_the_stated_one() -> None:
    generator, vision = narrow("mini-64")
    model = generator_graph(fold(generator), fold_vision(vision))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert [[d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input] == [
        ["batch", 5],
        ["batch", 5, 6],
    ]
