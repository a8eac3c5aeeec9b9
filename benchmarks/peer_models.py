"""Diffusion models in the shapes of their published configurations, with random weights.

| here | configuration | sizes from |
| --- | --- | --- |
| `ldm` | CompVis/ldm-text2im-large-256, the GALIP paper's LDM (1.45 B) | its files, and txt2img-1p4B-eval.yaml |
| `sd15` | stable-diffusion-v1-5, 512 px | its files |
| `sd-turbo` | stabilityai/sd-turbo, 512 px, one step without guidance | its files |
| `lcm` | SimianLuo/LCM_Dreamshaper_v7, 768 px, four steps with embedded guidance | its files |
| `sdxs` | IDKiro/sdxs-512-0.9, 512 px, one step, tiny decoder, through OpenVINO | its paper: a U-Net of 319 M |
| `sdxl-turbo` | stabilityai/sdxl-turbo, 512 px, one step without guidance; on a GPU | its files |

Safety checkers are left out; they would only add to the peers' time. Tokens are those of a toy tokenizer, padded to 77
as the real ones do it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    EulerDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    LDMTextToImagePipeline,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from peer_openvino import through_openvino
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, PreTrainedTokenizerFast

CONTEXT = 77

_UNET: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "attention_head_dim": 8,
}
_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.18215,
}
_CLIP_L: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
# OpenCLIP ViT-H/14's, without its last block.
_CLIP_H: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "projection_dim": 512,
    "hidden_act": "gelu",
}
# OpenCLIP ViT-bigG/14's, with its projection: SDXL's second.
_CLIP_BIG_G: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
_LDM_BERT: dict[str, Any] = {
    "d_model": 1280,
    "encoder_layers": 32,
    "encoder_ffn_dim": 5120,
    "encoder_attention_heads": 8,
    "head_dim": 64,
}
_BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}

_QUICK_UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 16,
    "norm_num_groups": 4,
}
_QUICK_VAE: dict[str, Any] = {
    "block_out_channels": (4, 4, 8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 2,
}
_QUICK_TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "projection_dim": 16,
}
_QUICK_BERT: dict[str, Any] = {"d_model": 16, "encoder_layers": 2, "encoder_ffn_dim": 32, "head_dim": 8}


@dataclass(frozen=True)
class Peer:
    """A diffusion model.

    Attributes:
        title: in the table.
        pipeline: the class of diffusers.
        steps: denoising steps of the pictures that are reported; either all of them are few, or all are many.
        unet: arguments of `UNet2DConditionModel`, beside those that all peers share.
        text: arguments of `CLIPTextConfig` or, for the LDM, `LDMBertConfig`.
        scheduler: makes it.
        arguments: of a call.
        tiny_decoder: images come from the tiny autoencoder (TAESD's shapes) instead of the usual one.
        openvino: the networks compute through OpenVINO.
        needs_gpu: too large to be drawn on a CPU in reasonable time.
        text_2: arguments of a second text encoder, SDXL's.
    """

    title: str
    pipeline: type[Any]
    steps: tuple[int, ...]
    unet: dict[str, Any]
    text: dict[str, Any]
    scheduler: Callable[[], Any]
    arguments: dict[str, Any]
    tiny_decoder: bool = False
    openvino: bool = False
    needs_gpu: bool = False
    text_2: dict[str, Any] | None = None

    def draw(self, pipe: Any, prompt: str, steps: int, generator: torch.Generator | None = None) -> Any:
        """A PIL image."""
        return pipe([prompt], num_inference_steps=steps, generator=generator, **self.arguments).images[0]


PEERS: dict[str, Peer] = {
    "ldm": Peer(
        title="LDM, text to image (1.45 B), guidance",
        pipeline=LDMTextToImagePipeline,
        steps=(50, 250),
        unet={"sample_size": 32, "cross_attention_dim": 1280},
        text=_LDM_BERT,
        scheduler=lambda: DDIMScheduler(**_BETAS, clip_sample=False, set_alpha_to_one=False),
        arguments={"guidance_scale": 6.0},
    ),
    "sd15": Peer(
        title="Stable Diffusion 1.5, guidance",
        pipeline=StableDiffusionPipeline,
        steps=(50,),
        unet={"sample_size": 64, "cross_attention_dim": 768},
        text=_CLIP_L,
        scheduler=lambda: PNDMScheduler(**_BETAS, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1),
        arguments={"guidance_scale": 7.5},
    ),
    "sd-turbo": Peer(
        title="SD-Turbo",
        pipeline=StableDiffusionPipeline,
        steps=(1,),
        unet={
            "sample_size": 64,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
        },
        text=_CLIP_H,
        scheduler=lambda: EulerDiscreteScheduler(**_BETAS, steps_offset=1, timestep_spacing="trailing"),
        arguments={"guidance_scale": 0.0},
    ),
    "lcm": Peer(
        title="LCM (Dreamshaper v7)",
        pipeline=LatentConsistencyModelPipeline,
        steps=(4,),
        unet={"sample_size": 96, "cross_attention_dim": 768, "time_cond_proj_dim": 256},
        text=_CLIP_L,
        scheduler=lambda: LCMScheduler(**_BETAS, set_alpha_to_one=True),
        arguments={"guidance_scale": 8.0},
    ),
    "sdxs": Peer(
        title="SDXS-512, tiny decoder, OpenVINO",
        pipeline=StableDiffusionPipeline,
        steps=(1,),
        unet={
            "sample_size": 64,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20),
            "use_linear_projection": True,
            "block_out_channels": (320, 640, 1280),
            "layers_per_block": 1,
            "mid_block_type": None,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        },
        text=_CLIP_H,
        scheduler=lambda: EulerDiscreteScheduler(**_BETAS, steps_offset=1, timestep_spacing="trailing"),
        arguments={"guidance_scale": 0.0},
        tiny_decoder=True,
        openvino=True,
    ),
    "sdxl-turbo": Peer(
        title="SDXL-Turbo",
        pipeline=StableDiffusionXLPipeline,
        steps=(1,),
        unet={
            "sample_size": 64,
            "cross_attention_dim": 2048,
            "attention_head_dim": (5, 10, 20),
            "use_linear_projection": True,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        text=_CLIP_L | {"num_hidden_layers": 12},
        scheduler=lambda: EulerDiscreteScheduler(**_BETAS, steps_offset=1, timestep_spacing="trailing"),
        arguments={"guidance_scale": 0.0, "height": 512, "width": 512},
        needs_gpu=True,
        text_2=_CLIP_BIG_G,
    ),
}
"""By the names of the command line."""


def build(
    peer: Peer, quick: bool, device: str | None = None, dtype: torch.dtype = torch.float32, threads: int = 1
) -> Any:
    """A peer's pipeline with random weights.

    Args:
        peer: which.
        quick: tiny shapes instead of its own.
        device: "meta" gives shapes without memory.
        dtype: of the weights.
        threads: of OpenVINO, where it computes.
    """
    torch.manual_seed(0)
    unet_config, vae_config, text_config = (
        _UNET | peer.unet,
        _VAE | {"sample_size": 8 * peer.unet["sample_size"]},
        peer.text,
    )
    is_ldm = peer.pipeline is LDMTextToImagePipeline
    if quick:
        unet_config, vae_config = unet_config | _QUICK_UNET, vae_config | _QUICK_VAE
        text_config = text_config | (_QUICK_BERT if is_ldm else _QUICK_TEXT)
        unet_config |= _quick_extras(peer)
    with torch.device(device or "cpu"):
        unet = UNet2DConditionModel(**unet_config)
        vae: Any = AutoencoderTiny() if peer.tiny_decoder else AutoencoderKL(**vae_config)
        text: Any = (
            LDMBertModel(LDMBertConfig(**text_config))
            if is_ldm
            else CLIPTextModel(CLIPTextConfig(**text_config, max_position_embeddings=CONTEXT, vocab_size=49408))
        )
        text_2 = None
        if peer.text_2 is not None:
            second = peer.text_2 | (_QUICK_TEXT if quick else {})
            text_2 = CLIPTextModelWithProjection(
                CLIPTextConfig(**second, max_position_embeddings=CONTEXT, vocab_size=49408)
            )
    for network in (unet, vae, text, *([] if text_2 is None else [text_2])):
        network.eval().requires_grad_(False)
        if dtype != torch.float32:
            network.to(dtype)
    shared: dict[str, Any] = {"tokenizer": toy_tokenizer(), "unet": unet, "scheduler": peer.scheduler()}
    if is_ldm:
        pipe = LDMTextToImagePipeline(vqvae=vae, bert=text, **shared)
    elif text_2 is not None:
        pipe = peer.pipeline(
            vae=vae,
            text_encoder=text,
            text_encoder_2=text_2,
            tokenizer_2=toy_tokenizer(),
            **shared,
            force_zeros_for_empty_prompt=True,
            add_watermarker=False,
        )
    else:
        pipe = peer.pipeline(
            vae=vae,
            text_encoder=text,
            **shared,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipe.set_progress_bar_config(disable=True)
    if peer.openvino and device != "meta":
        pipe = through_openvino(pipe, threads)
    return pipe


def _quick_extras(peer: Peer) -> dict[str, Any]:
    """What the tiny U-Net needs to stay of the peer's kind."""
    if peer.text_2 is None:
        return {"mid_block_type": peer.unet.get("mid_block_type", "UNetMidBlock2DCrossAttn")}
    return {
        "transformer_layers_per_block": (1, 1),
        "cross_attention_dim": 32,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 64,
    }


def parameters(pipe: Any) -> int:
    """Weights of all networks of a pipeline."""
    networks = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    return sum(weight.numel() for network in networks for weight in network.parameters())


def toy_tokenizer() -> PreTrainedTokenizerFast:
    """Every word is one token."""
    core = Tokenizer(models.WordLevel({"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3}, unk_token="<unk>"))
    core.normalizer, core.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", eos_token="<end>", model_max_length=CONTEXT
    )
