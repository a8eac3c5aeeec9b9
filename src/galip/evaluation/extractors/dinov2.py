"""DINOv2: features that were learned without captions or classes, and that people agree with more than Inception's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from galip.errors import GalipError
from galip.evaluation.extractors.protocol import FrozenExtractor, unit_range
from galip.torch_backend.encoders import load_network
from galip.torch_backend.loading import no_progress_bars

if TYPE_CHECKING:
    from transformers import Dinov2Model
    from typing_extensions import Self

USUAL_DINOV2 = "facebook/dinov2-large"
"""ViT-L/14 without registers: the network of FD-DINOv2."""

_SIDE = 224
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DINOv2Extractor(FrozenExtractor):
    """transformers' `Dinov2Model`: the class token after the last LayerNorm.

    Stein et al., "Exposing flaws of generative model evaluation metrics and their unfair treatment of diffusion
    models", NeurIPS 2023 (FD-DINOv2). The whole image is resized to 224 px by antialiased bicubic interpolation and
    normalised with ImageNet's mean and std. The position table, trained for 518 px, is interpolated by transformers, a
    little otherwise than in the publication's own code.
    """

    @classmethod
    def open(cls, weights: str | None = None) -> Self:
        """Load it.

        Args:
            weights: a folder with a DINOv2 in transformers' format, or a hub id; None: `facebook/dinov2-large`.

        Raises:
            GalipError: it cannot be loaded, or weights are missing or broken.
        """
        name = weights or USUAL_DINOV2
        network = _load(name)
        return cls("dinov2", name, network, int(network.config.hidden_size))

    def features(self, images: Tensor) -> Tensor:
        """Feature vectors [B, dim] of uint8 images [B, 3, S, S]."""
        x = unit_range(images)
        if x.shape[-1] != _SIDE:
            # Bicubic weights are partly negative, but values beyond [0, 1] are left to the network, as for CLIP.
            x = F.interpolate(x, size=(_SIDE, _SIDE), mode="bicubic", align_corners=False, antialias=True)
        x = (x - x.new_tensor(_MEAN)[:, None, None]) / x.new_tensor(_STD)[:, None, None]
        vectors: Tensor = self.network(pixel_values=x).last_hidden_state[:, 0]  # [B, 1 + 16 * 16, dim] -> [B, dim]
        return vectors


def _load(name: str) -> Dinov2Model:
    from transformers import AutoConfig, Dinov2Model
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what is missing is raised below
    try:
        kind = AutoConfig.from_pretrained(name, trust_remote_code=False).model_type
        if kind != "dinov2":
            raise ValueError(f"it holds a {kind}")
        with no_progress_bars():
            network = load_network(Dinov2Model, name)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise GalipError(
            f"{name}: no DINOv2 could be loaded from it; give a folder with config.json and model.safetensors, with "
            f"--weights dinov2=FOLDER, or a hub id that can be reached ({str(error).splitlines()[0]})"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    return network
