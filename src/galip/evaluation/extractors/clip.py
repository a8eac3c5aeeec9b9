"""CLIP as a judge of images: image vectors for distances, text vectors beside them for scores and retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from galip.errors import GalipError
from galip.evaluation.extractors.protocol import FrozenExtractor, full_precision, unit_range
from galip.evaluation.weights import check_finite, digest_of
from galip.model_repo.resolve import bundled_models
from galip.models.clip import FrozenCLIPVision
from galip.models.text import CLIPSentenceEncoder
from galip.torch_backend.encoders import load_clip

if TYPE_CHECKING:
    from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection
    from typing_extensions import Self

    from galip.models.clip import ClipInput

USUAL_CLIP = "openai/clip-vit-large-patch14"
"""Another CLIP than the one that GALIP's loss looks through: what that one is fooled by, this one need not be."""

USUAL_RELEASED_CLIP = "openai/clip-vit-base-patch32"
"""The CLIP of the released training and of the published score, which are the same."""


class CLIPExtractor(FrozenExtractor):
    """A CLIP's projected image vectors, not normalised, and its text vectors of the same length.

    Jayasumana et al., "Rethinking FID", CVPR 2024, use the unit image vectors for CMMD (their numbers are of the
    ViT-L/14 that takes 336 px, `openai/clip-vit-large-patch14-336`); Hessel et al., "CLIPScore", EMNLP 2021, use the
    cosine of image and text vector.

    With `clip_input="standard"` images are resized to CLIP's size by antialiased bicubic interpolation and normalised
    with CLIP's mean and std. With "released" they are seen as in the authors' code, for which the published scores
    were computed: never quantised, clamped, mapped to [0, 1] twice, resized by nearest neighbour.

    Args:
        weights: what was loaded, as the user gave it.
        tokenizer: the CLIP's own tokenizer.
        text_model: transformers' CLIP text model with projection.
        vision_model: transformers' CLIP vision model with projection.
        clip_input: how images become CLIP's input.

    Raises:
        GalipError: weights are not finite.
        ValueError: the tokenizer is another CLIP's.
    """

    network: FrozenCLIPVision

    def __init__(
        self,
        weights: str,
        tokenizer: Any,
        text_model: CLIPTextModelWithProjection,
        vision_model: CLIPVisionModelWithProjection,
        clip_input: ClipInput = "standard",
    ) -> None:
        released = clip_input == "released"
        network = FrozenCLIPVision(vision_model, clip_input)
        super().__init__(
            "clip-released" if released else "clip",
            weights,
            network,
            network.embed_dim,
            takes="float" if released else "uint8",
        )
        check_finite(text_model, weights)
        self.text = CLIPSentenceEncoder(tokenizer, text_model.float())
        self.text_digest = digest_of(text_model)

    @classmethod
    def open(cls, weights: str | None = None, clip_input: ClipInput = "standard") -> Self:
        """Load it.

        Args:
            weights: a folder with a CLIP in transformers' format, a galip model's folder or bundled name (its own
                CLIP), or a hub id; None: the usual one, ViT-L/14, or ViT-B/32 for the released input.
            clip_input: how images become CLIP's input.

        Raises:
            GalipError: it cannot be loaded, or weights are missing or broken.
        """
        name = weights or (USUAL_RELEASED_CLIP if clip_input == "released" else USUAL_CLIP)
        try:
            tokenizer, text_model, vision_model = load_clip(str(bundled_models().get(name, name)))
            return cls(name, tokenizer, text_model, vision_model, clip_input)
        except (GalipError, ValueError) as error:
            extractor = "clip-released" if clip_input == "released" else "clip"
            raise GalipError(f"{error}; --weights {extractor}=FOLDER names another one") from error

    def to(self, device: torch.device | str) -> Self:
        """Move both encoders."""
        self.text.model.to(torch.device(device))
        return super().to(device)

    def features(self, images: Tensor) -> Tensor:
        """Image vectors [B, dim] of images [B, 3, S, S]."""
        return self.network.embed(unit_range(images) * 2 - 1)

    def encode_text(self, captions: Sequence[str], batch_size: int = 256) -> Tensor:
        """Text vectors, not normalised.

        Args:
            captions: N captions, cleaned. Those that are too long are truncated with a warning.
            batch_size: how many are encoded at once.

        Returns:
            [N, dim], fp32, without gradient, on the network's device.

        Raises:
            ValueError: `captions` is no list of strings.
        """
        with full_precision(self.device.type):
            return self.text.encode(captions, batch_size)
