"""Sentence encoders: captions to the vectors that condition GALIP, behind one protocol (paper, section 3.1).

CLIP's text encoder is the paper's; T5 is its "future work". Captions arrive cleaned: encoders only tokenise.
"""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from galip.models.clip import clip_block

if TYPE_CHECKING:  # each encoder's network is made by the caller, so the other one's modules need not be loaded
    from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerBase, T5EncoderModel

T5_MAX_TOKENS = 512
"""T5 has no position table, hence no hard limit; this is the length that it was trained with."""

_SHOWN_CHARACTERS = 60
_LEGACY_CLIP_EOS = 2


@runtime_checkable
class SentenceEncoder(Protocol):
    """What the rest of GALIP asks of a text encoder.

    Attributes:
        tokenizer: the network's own tokenizer.
        model: the network.
    """

    tokenizer: Any
    model: Any

    @property
    def dim(self) -> int:
        """Length of a sentence vector."""

    @property
    def max_tokens(self) -> int:
        """Longest caption in tokens, start and end tokens included; longer ones are truncated."""

    def encode(self, captions: Sequence[str], batch_size: int = 256) -> Tensor:
        """Sentence vectors of captions.

        Identical captions are encoded once. A caption that is too long is truncated with a warning that names it.

        Args:
            captions: N captions, cleaned.
            batch_size: how many captions are encoded at once.

        Returns:
            [N, dim], fp32, without gradient, on the encoder's device.

        Raises:
            ValueError: `captions` is not a list of strings, or `batch_size` is below 1.
        """

    def vectors(self, ids: Tensor, last: Tensor) -> Tensor:
        """The network alone, differentiable: token ids to sentence vectors.

        Args:
            ids: [B, N], rows padded at the end with anything.
            last: [B], the place of each row's last token that counts (`last_token`).

        Returns:
            [B, dim], fp32.
        """

    def last_token(self, row: Sequence[int]) -> int:
        """The place of the last token that counts in a row of token ids without padding."""


class CLIPSentenceEncoder:
    """CLIP's text encoder: the projected feature of the end token, not normalised. The network is frozen in place.

    Only as many tokens as a batch's longest caption has are run: attention is causal, so nothing after the end token
    reaches it and the vector is the same as with the full context.

    Args:
        tokenizer: the CLIP's own tokenizer.
        model: transformers' CLIP text model with projection.

    Raises:
        ValueError: the tokenizer's end token is not the one that the model reads its vector at.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", model: "CLIPTextModelWithProjection") -> None:
        self.tokenizer = tokenizer
        self.model = model
        self.model.requires_grad_(False).eval()
        self._check_end_token()

    @property
    def dim(self) -> int:
        """Length of a sentence vector: CLIP's projection size."""
        return int(self.model.config.projection_dim)

    @property
    def max_tokens(self) -> int:
        """CLIP's context: 77 in the published ones."""
        return min(int(self.model.config.max_position_embeddings), int(self.tokenizer.model_max_length))

    def encode(self, captions: Sequence[str], batch_size: int = 256) -> Tensor:
        """Sentence vectors [N, dim] of N captions; see `SentenceEncoder.encode`."""
        return _encode_unique(self, captions, batch_size)

    def vectors(self, ids: Tensor, last: Tensor) -> Tensor:
        """Sentence vectors [B, dim] of token ids [B, N]; see `SentenceEncoder.vectors`."""
        tower = self.model.text_model
        places = torch.arange(ids.shape[1], device=ids.device)
        hidden = tower.embeddings(input_ids=ids)
        mask = torch.where(places[None] > places[:, None], -torch.inf, 0.0).to(hidden.dtype)  # [N, N]: nothing later
        for layer in tower.encoder.layers:
            hidden = clip_block(layer, hidden, mask=mask)
        end = hidden[torch.arange(ids.shape[0], device=ids.device), last]  # [B, N, C] -> [B, C]
        out: Tensor = self.model.text_projection(tower.final_layer_norm(end))
        return out.float()

    def last_token(self, row: Sequence[int]) -> int:
        """The place of the first end token, which a caption may spell out: there CLIP reads its vector."""
        return list(row).index(row[-1])

    def _check_end_token(self) -> None:
        end, expected = self.tokenizer("")["input_ids"][-1], self.model.config.eos_token_id
        # transformers takes eos_token_id 2, which OpenAI's first configurations say wrongly, as "the highest id".
        if expected == _LEGACY_CLIP_EOS:
            expected = max(self.tokenizer.get_vocab().values())
        if end != expected:
            raise ValueError(
                f"tokenizer ends a caption with token {end}, but the text model's eos_token_id "
                f"{self.model.config.eos_token_id} makes it read token {expected}; "
                "use the tokenizer that belongs to this CLIP, or correct eos_token_id in its configuration"
            )


class T5SentenceEncoder:
    """T5's encoder: the mean over a caption's tokens times a recorded constant. The network is frozen in place.

    Args:
        tokenizer: the T5's own tokenizer.
        model: transformers' T5 encoder.
        scale: constant that brings vectors to about the norm of CLIP's; see `measure_scale`.

    Raises:
        ValueError: `scale` is not above 0.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", model: "T5EncoderModel", scale: float) -> None:
        if not 0 < scale < float("inf"):
            raise ValueError(f"scale is {scale}; give a finite number above 0, for example from measure_scale()")
        self.tokenizer = tokenizer
        self.model = model
        self.scale = scale
        self.model.requires_grad_(False).eval()

    @property
    def dim(self) -> int:
        """Length of a sentence vector: T5's model width."""
        return int(self.model.config.d_model)

    @property
    def max_tokens(self) -> int:
        """The tokenizer's limit, at most 512."""
        return min(T5_MAX_TOKENS, int(self.tokenizer.model_max_length))

    def encode(self, captions: Sequence[str], batch_size: int = 256) -> Tensor:
        """Sentence vectors [N, dim] of N captions; see `SentenceEncoder.encode`."""
        return _encode_unique(self, captions, batch_size)

    def vectors(self, ids: Tensor, last: Tensor) -> Tensor:
        """Sentence vectors [B, dim] of token ids [B, N]; see `SentenceEncoder.vectors`."""
        mask = torch.arange(ids.shape[1], device=ids.device) <= last[:, None]  # [B, N]
        hidden = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float()
        mean: Tensor = (hidden * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return mean * self.scale

    def last_token(self, row: Sequence[int]) -> int:
        """The place of the end token."""
        return len(row) - 1


def measure_scale(encoder: T5SentenceEncoder, captions: Sequence[str], target_norm: float = 10.0) -> float:
    """The `scale` that gives T5 vectors of these captions a mean norm of `target_norm`.

    Args:
        encoder: the encoder to measure; its present scale is taken into account.
        captions: captions like those to be trained on; a few thousand suffice.
        target_norm: mean norm wanted; CLIP ViT-B/32's sentence vectors have about 10.

    Returns:
        The constant to build the final encoder with, and to record with the model.

    Raises:
        ValueError: there are no captions, or `target_norm` is not above 0.
    """
    if not captions:
        raise ValueError("captions is empty; give captions like those to be trained on")
    if target_norm <= 0:
        raise ValueError(f"target_norm is {target_norm}; give a number above 0")
    norm = encoder.encode(captions).norm(dim=1).mean().item()
    return encoder.scale * target_norm / norm


def _encode_unique(encoder: SentenceEncoder, captions: Sequence[str], batch_size: int) -> Tensor:
    """Encode each different caption once, in batches, and give every caption its vector."""
    if isinstance(captions, str) or not all(isinstance(caption, str) for caption in captions):
        raise ValueError(f"captions is {_shorten(repr(captions))}; give a list of strings")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give at least 1")
    index = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    if not index:
        return torch.empty(0, encoder.dim, device=encoder.model.device)
    unique = list(index)
    parts = []
    for start in range(0, len(unique), batch_size):
        rows = _tokenise(encoder, unique[start : start + batch_size])
        with torch.no_grad():
            parts.append(encoder.vectors(*_batch(encoder, rows)))
    vectors = torch.cat(parts)
    return vectors[torch.tensor([index[caption] for caption in captions], device=vectors.device)]


def _batch(encoder: SentenceEncoder, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Rows of token ids as `SentenceEncoder.vectors` takes them, on the encoder's device."""
    longest, device = max(map(len, rows)), encoder.model.device
    # Padded with the end token, as CLIP is trained; what comes after it changes nothing.
    ids = torch.tensor([row + [row[-1]] * (longest - len(row)) for row in rows], device=device)
    return ids, torch.tensor([encoder.last_token(row) for row in rows], device=device)


def _tokenise(encoder: SentenceEncoder, captions: list[str]) -> list[list[int]]:
    """Token ids of each caption, at most `max_tokens` with the end token kept."""
    limit = encoder.max_tokens
    # One token more than allowed tells a caption that is too long from one that just fits.
    rows = encoder.tokenizer(captions, truncation=True, max_length=limit + 1)["input_ids"]
    for i, (row, caption) in enumerate(zip(rows, captions, strict=True)):
        if len(row) > limit:
            warnings.warn(
                f"caption has more than {limit} tokens and is truncated: {_shorten(caption)!r}",
                UserWarning,
                stacklevel=4,  # the caller of encode()
            )
            rows[i] = row[: limit - 1] + row[-1:]
    return list(rows)


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
