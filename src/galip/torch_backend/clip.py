"""CLIP: both sides of one, which training, evaluation and control compare images and prompts with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from galip.errors import GalipError, InputError
from galip.model_repo.configs import read_config
from galip.model_repo.format import INDEX
from galip.model_repo.resolve import bundled_models
from galip.models.clip import ClipInput, FrozenCLIPVision
from galip.models.text import CLIPSentenceEncoder, SentenceEncoder
from galip.torch_backend.encoders import load_clip
from galip.torch_backend.loading import no_progress_bars
from galip.utils.arrays import FloatArray


class CLIP:
    """Both sides of a CLIP, with the input mapping that its image side is asked with.

    Args:
        name: what is told of it with a result.
        text: its sentence encoder.
        vision: its image side.

    Raises:
        InputError: the two sides give vectors of different length.
    """

    def __init__(self, name: str, text: SentenceEncoder, vision: FrozenCLIPVision) -> None:
        if text.dim != vision.embed_dim:
            raise InputError(
                f"{name}: its prompts have {text.dim} numbers and its images {vision.embed_dim}, so they cannot be "
                "compared; give another CLIP"
            )
        self.name, self.text, self.vision = name, text, vision

    @classmethod
    def open(cls, name: str | Path, device: torch.device | str = "cpu", clip_input: ClipInput | None = None) -> CLIP:
        """Load a CLIP, in fp32.

        Args:
            name: a bundled model's name or a model folder (its own CLIP), a folder with a CLIP in transformers' format,
                or a hub id.
            device: where it works.
            clip_input: how images become its input; None: of a model as its generator was trained, else "standard".

        Raises:
            GalipError: it cannot be loaded, or weights are missing in it.
        """
        folder = Path(bundled_models().get(str(name), name))
        with no_progress_bars():
            tokenizer, text_model, vision_model = load_clip(str(folder))
        mapping = clip_input or _input_mapping(folder)
        try:
            text = CLIPSentenceEncoder(tokenizer, text_model.to(device))
            return cls(str(name), text, FrozenCLIPVision(vision_model.to(device), mapping))
        except ValueError as error:
            raise GalipError(f"{name}: {error}") from error

    @property
    def dim(self) -> int:
        """Length of its vectors (D)."""
        return self.vision.embed_dim

    @property
    def device(self) -> torch.device:
        """Where it works."""
        device: torch.device = self.vision.model.device
        return device

    def to(self, device: torch.device | str) -> CLIP:
        """Move both sides."""
        self.text.model.to(device)
        self.vision.to(device)
        return self

    def embed_images(self, images: Tensor) -> Tensor:
        """Vectors [B, D], not normalised, fp32, of images [B, 3, S, S] in [-1, 1]; gradients flow back to them."""
        return self.vision.embed(images.to(self.device)).float()

    def embed_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Vectors [N, D], not normalised, fp32, of cleaned prompts, without gradient."""
        return self.text.encode(list(prompts)).to(self.device)

    # ---- as `galip.latent.clip.Scorer`

    @property
    def gradient_embed(self) -> Callable[[Tensor], Tensor]:
        """`embed_images`."""
        return self.embed_images

    @torch.no_grad()
    def image_vectors(self, images: FloatArray) -> FloatArray:
        """Vectors [B, D], not normalised, of images [B, 3, S, S] in [-1, 1]."""
        vectors: FloatArray = self.embed_images(torch.from_numpy(images)).cpu().numpy()
        return vectors

    def prompt_vectors(self, prompts: Sequence[str]) -> FloatArray:
        """Vectors [N, D], not normalised, of cleaned prompts."""
        vectors: FloatArray = self.embed_prompts(prompts).cpu().numpy()
        return vectors


def _input_mapping(folder: Path) -> ClipInput:
    """Of a model folder, the mapping that its generator was trained with; of a bare CLIP, the usual one."""
    if not (folder / INDEX).is_file():
        return "standard"
    mapping: ClipInput = read_config(folder, "generator").get("clip_input", "standard")
    return mapping
