"""The CLIP that says how near a picture is to a caption: the pipeline's own, or another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from galip.errors import GalipError, InputError
from galip.model_repo.format import INDEX

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from galip.models.clip import ClipInput, FrozenCLIPVision
    from galip.models.text import SentenceEncoder


class CLIP:
    """Both sides of a CLIP, giving unit vectors, so that the product of two of them is their cosine.

    Args:
        name: what is told of it with a result.
        text: its sentence encoder.
        vision: its picture side, with the input mapping that it is to be asked with.

    Raises:
        InputError: the two sides give vectors of different length.
    """

    def __init__(self, name: str, text: SentenceEncoder, vision: FrozenCLIPVision) -> None:
        if text.dim != vision.embed_dim:
            raise InputError(
                f"{name}: its captions have {text.dim} numbers and its pictures {vision.embed_dim}, so they cannot be "
                "compared; give another CLIP"
            )
        self.name = name
        self._text = text
        self._vision = vision

    @property
    def dim(self) -> int:
        """Length of its vectors (D)."""
        return self._vision.embed_dim

    @property
    def device(self) -> torch.device:
        """Where its pictures are looked at."""
        device: torch.device = self._vision.model.device
        return device

    def see(self, pictures: Tensor) -> Tensor:
        """Unit vectors [B, D] of pictures [B, 3, S, S] in [-1, 1]. Gradients flow back to the pictures."""
        from torch.nn.functional import normalize

        return normalize(self._vision.embed(pictures.to(self.device)).float(), dim=1)

    def look_at(self, pictures: NDArray[np.floating[Any]]) -> Tensor:
        """Unit vectors [B, D] of pictures as pipelines give them, floats [B, H, W, 3] in [0, 1], without gradient."""
        import torch

        with torch.no_grad():
            return self.see(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() * 2 - 1)

    def read(self, captions: Sequence[str]) -> Tensor:
        """Unit vectors [N, D] of cleaned captions, without gradient."""
        from torch.nn.functional import normalize

        return normalize(self._text.encode(captions).to(self.device), dim=1)


def clip_of(pipe: Any, clip: CLIP | str | Path | None = None) -> CLIP:
    """The CLIP that a caller means.

    Args:
        pipe: a pipeline.
        clip: one that is open; a bundled model's name, a folder or a hub id, which is opened on the pipeline's device;
            None: the pipeline's own.

    Raises:
        InputError: the pipeline has none of its own that can read captions and see pictures.
        GalipError: none can be loaded.
    """
    if isinstance(clip, CLIP):
        return clip
    if clip is not None:
        return open_clip(clip, getattr(pipe, "device", "cpu"))
    return own_clip(pipe)


def own_clip(pipe: Any) -> CLIP:
    """The CLIP that a pipeline is made with: its sentence vectors are one side of it.

    Raises:
        InputError: an exported model keeps no picture side, and a T5 is no side of a CLIP.
    """
    if not hasattr(pipe, "vision"):  # see `has_own_clip`, which tells it without loading
        raise InputError(
            "an exported model keeps only what drawing needs, not the side of CLIP that looks at pictures: name a "
            "CLIP, for example the model that it was exported from"
        )
    from galip.models.text import CLIPSentenceEncoder

    if not isinstance(pipe.sentence_encoder, CLIPSentenceEncoder):
        raise InputError("this model reads captions with a T5, which cannot see pictures: name a CLIP that is to look")
    return CLIP("the model's own", pipe.sentence_encoder, pipe.vision)


def has_own_clip(model: str | Path) -> bool:
    """Whether a model, a bundled one's name, a folder or a hub id, can look at its pictures; nothing is loaded.

    Raises:
        GalipError: there is no such model.
    """
    from galip.model_repo.export_folder import is_export
    from galip.model_repo.index import read_index
    from galip.model_repo.resolve import fetch

    folder = fetch(model)
    if is_export(folder):
        return False
    return bool(read_index(folder)["text_encoder"][1] == "CLIPTextModelWithProjection")


def open_clip(name: str | Path, device: torch.device | str = "cpu") -> CLIP:
    """Load a CLIP.

    Args:
        name: a bundled model's name or a model folder (its own CLIP, with its own input mapping), a folder with a CLIP
            in transformers' format, or a hub id.
        device: where it works.

    Raises:
        GalipError: it cannot be loaded, or weights are missing in it.
    """
    from galip.model_repo.resolve import bundled_models
    from galip.models.clip import FrozenCLIPVision
    from galip.models.text import CLIPSentenceEncoder
    from galip.torch_backend.encoders import load_clip
    from galip.torch_backend.loading import no_progress_bars

    folder = Path(bundled_models().get(str(name), name))
    with no_progress_bars():
        tokenizer, text_model, vision_model = load_clip(str(folder))
    try:
        text = CLIPSentenceEncoder(tokenizer, text_model.to(device))
    except ValueError as error:
        raise GalipError(f"{name}: {error}") from error
    return CLIP(str(name), text, FrozenCLIPVision(vision_model.to(device), _input_mapping(folder)))


def _input_mapping(folder: Path) -> ClipInput:
    """Of a model folder, the mapping that its generator was trained with; of a bare CLIP, the usual one."""
    if not (folder / INDEX).is_file():
        return "standard"
    try:
        mapping: ClipInput = json.loads((folder / "generator" / "config.json").read_text(encoding="utf-8"))[
            "clip_input"
        ]
    except (OSError, ValueError, KeyError) as error:
        raise GalipError(f"{folder}: its generator's configuration cannot be read ({error}); fetch it again") from error
    return mapping
