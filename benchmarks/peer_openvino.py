"""Diffusers' pipelines with their networks in OpenVINO, as people run them on a CPU.

The pipeline stays diffusers': scheduler, tokenizer and images are its own, and each network's `forward` becomes that of
a compiled model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class _Positional(nn.Module):
    """A network whose arguments are positions and whose answer is a tensor, which is what can be converted."""

    def __init__(self, call: Callable[..., Any], network: nn.Module) -> None:
        super().__init__()
        self.network, self.call = network, call

    def forward(self, *tensors: Tensor) -> Tensor:
        answer: Tensor = self.call(*tensors)
        return answer


def through_openvino(pipe: Any, threads: int) -> Any:
    """Let a pipeline of one U-Net, one CLIP text encoder and one decoder compute through OpenVINO.

    Args:
        pipe: a `StableDiffusionPipeline` on the CPU, fp32; it is changed.
        threads: of the engine.
    """
    config, tokens = pipe.unet.config, pipe.tokenizer.model_max_length
    width, side = config.cross_attention_dim, config.sample_size
    ids = torch.zeros(1, tokens, dtype=torch.long)
    text_forward, unet_forward = pipe.text_encoder.forward, pipe.unet.forward
    decoder_forward = pipe.vae.decoder.forward
    text = _compiled(_Positional(lambda x: text_forward(x)[0], pipe.text_encoder), (ids,), threads)
    sample, sentence = torch.zeros(1, config.in_channels, side, side), torch.zeros(1, tokens, width)
    unet = _compiled(
        _Positional(lambda x, t, c: unet_forward(x, t, c, return_dict=False)[0], pipe.unet),
        (sample, torch.tensor(1.0), sentence),
        threads,
    )
    decode = _compiled(_Positional(decoder_forward, pipe.vae.decoder), (sample,), threads)
    pipe.text_encoder.forward = lambda input_ids, **_: (text(input_ids),)
    pipe.unet.forward = lambda x, t, encoder_hidden_states, **_: (unet(x, t.float(), encoder_hidden_states),)
    pipe.vae.decoder.forward = lambda z, *_: decode(z)
    return pipe


def _compiled(network: nn.Module, example: tuple[Tensor, ...], threads: int) -> Callable[..., Tensor]:
    import openvino

    with torch.no_grad():
        model = openvino.convert_model(network.eval(), example_input=example)
    model.reshape({place: list(tensor.shape) for place, tensor in enumerate(example)})
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(model, "CPU", options)

    def call(*tensors: Tensor) -> Tensor:
        return torch.from_numpy(compiled([tensor.numpy() for tensor in tensors])[0].copy())

    return call
