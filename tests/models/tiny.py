"""Tiny real components for tests: a CLIP-ViT, a generator and a discriminator that fit each other, text encoders."""

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from galip.models import FrozenCLIPVision, MateDiscriminator, MateGenerator

Z_DIM, COND_DIM, WIDTH, GRID, DEPTH = 8, 24, 32, 4, 4
WORDS = ["a", "red", "heart", "sleepy", "cat", "in", "the", "rain", "of", "two", "birds", "kitten"]


def clip_vision_model() -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=DEPTH,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=COND_DIM,
    )
    model = CLIPVisionModelWithProjection(config)
    scatter(model)  # transformers' initial weights are so small that a mistake in one layer would hardly show
    return model


def vision(clip_input: str = "standard") -> FrozenCLIPVision:
    return FrozenCLIPVision(clip_vision_model(), clip_input=clip_input)


def generator(**changes) -> MateGenerator:
    arguments = {
        "z_dim": Z_DIM,
        "cond_dim": COND_DIM,
        "vision_width": WIDTH,
        "grid": GRID,
        "bridge_channels": 6,
        "bridge_hidden": 4,
        "bridge_blocks": 2,
        "prompt_blocks": (1, 2),
        "stem_channels": 16,
        "block_sizes": (8, 16, 32),
        "block_channels": (16, 12, 8),
    }
    return MateGenerator(**(arguments | changes))


def discriminator(**changes) -> MateDiscriminator:
    arguments = {
        "vision_width": WIDTH,
        "grid": GRID,
        "tap_blocks": (0, 1, 3),
        "out_channels": 20,
        "assessor_channels": 8,
        "cond_dim": COND_DIM,
    }
    return MateDiscriminator(**(arguments | changes))


def scatter(module: nn.Module, size: float = 0.1) -> nn.Module:
    """Move every parameter off its initial value, so that nothing stays at zero or at the identity."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * size)
    return module


def noise_and_sentence(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, Z_DIM), torch.randn(batch, COND_DIM)


def tokenizer(end: str = "<end>", start: str | None = "<start>", model_max_length: int = 16) -> PreTrainedTokenizerFast:
    """A word tokenizer: pad and unknown first, then words, then start and end (so that end is the highest id)."""
    specials = [s for s in (start, end) if s]
    vocab = {word: i for i, word in enumerate(["<pad>", "<unk>", *WORDS, *specials])}
    core = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.WordPiece()
    core.post_processor = processors.TemplateProcessing(
        single=" ".join(filter(None, [start, "$A", end])), special_tokens=[(s, vocab[s]) for s in specials]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", eos_token=end, model_max_length=model_max_length
    )


def clip_text_model(eos_token_id: int, vocab_size: int, context: int = 16) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=context,
        projection_dim=COND_DIM,
        bos_token_id=vocab_size - 2,
        eos_token_id=eos_token_id,
        pad_token_id=0,
    )
    model = CLIPTextModelWithProjection(config)
    scatter(model)
    return model


def t5_model(vocab_size: int) -> T5EncoderModel:
    config = T5Config(
        vocab_size=vocab_size, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, pad_token_id=0, eos_token_id=1
    )
    return T5EncoderModel(config)
