"""The Inception network of nearly all published FIDs: TensorFlow's of 2015, as torch-fidelity rebuilt it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from galip.errors import GalipError
from galip.evaluation.extractors.protocol import FrozenExtractor
from galip.evaluation.metrics.settings import InceptionResize
from galip.evaluation.weights import PublishedFile, needed_package, read_weights

if TYPE_CHECKING:
    from typing_extensions import Self

SIDE = 299
_DIM = 2048
_MODULE = "torch_fidelity.feature_extractor_inceptionv3"
_LAYERS = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2"),
    *("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    *("Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool"),
)


class InceptionExtractor(FrozenExtractor):
    """torch-fidelity's `FeatureExtractorInceptionV3`, its 2048 features after the last average pooling.

    Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017 (FID). As opened, it resizes as
    TensorFlow 1 did and takes uint8 images; with another resize it takes images that were never quantised, too.
    """

    resize: InceptionResize | None = None

    @classmethod
    def open(cls, weights: str | None = None, resize: InceptionResize | None = None) -> Self:
        """Load it.

        Args:
            weights: torch-fidelity's file, pytorch-fid's (the same numbers under the same names), or the same as
                safetensors; None: torch-fidelity's usual file from torch's cache, fetched if it is not there.
            resize: how images reach 299 px; None: as the library does, which is as "tensorflow" for uint8 images.

        Raises:
            GalipError: torch-fidelity is missing, or the weights are missing, broken or another network's.
        """
        library = needed_package(_MODULE)
        path = Path(weights).expanduser() if weights else _published(library.URL_INCEPTION_V3).fetch("inception")
        state = read_weights(path)
        try:
            # The library would unpickle any file, so it is handed only what was read with care.
            network = library.FeatureExtractorInceptionV3(
                "inception-v3-compat", [str(_DIM)], feature_extractor_weights_path=_in_memory(state)
            )
        except RuntimeError as error:
            raise GalipError(
                f"{path}: these are not the weights of TensorFlow's Inception that torch-fidelity and pytorch-fid "
                "publish; torchvision's Inception is the extractor inception-torchvision"
            ) from error
        name = "inception" if resize is None else f"inception-{resize}"
        extractor = cls(name, weights or path.name, network, _DIM, takes="uint8" if resize is None else "float")
        extractor.resize = resize
        return extractor

    def features(self, images: Tensor) -> Tensor:
        """Feature vectors [B, 2048] of images [B, 3, S, S]."""
        if self.resize is None:
            vectors: Tensor = self.network(images)[0]
            return vectors
        pixels = images.float() if images.dtype == torch.uint8 else images.float().clamp(0, 1) * 255
        x = resized(pixels, self.resize)
        # pytorch-fid has 2 x / 255 - 1 where TensorFlow's graph has (x - 128) / 128.
        x = x / 127.5 - 1 if self.resize == "pytorch" else (x - 128) / 128
        network: Any = self.network
        for layer in _LAYERS:
            x = getattr(network, layer)(x)
        return x.flatten(1)


def resized(images: Tensor, how: InceptionResize) -> Tensor:
    """Images at Inception's size.

    Args:
        images: [B, 3, H, W] of any size, floats in [0, 255].
        how: the way there.

    Returns:
        [B, 3, 299, 299], floats in [0, 255]; the images themselves where they have this size.
    """
    if images.shape[-2:] == (SIDE, SIDE):
        return images
    if how == "pytorch":
        return F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False)
    if how == "tensorflow":
        interpolate = needed_package("torch_fidelity.interpolate_compat_tensorflow")
        like_tensorflow: Tensor = interpolate.interpolate_bilinear_2d_like_tensorflow1x(
            images, size=(SIDE, SIDE), align_corners=False
        )
        return like_tensorflow
    channels = images.cpu().numpy().astype(np.float32).reshape(-1, *images.shape[-2:])
    by_pillow = [
        np.asarray(Image.fromarray(channel).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).clip(0, 255)
        for channel in channels
    ]
    return torch.from_numpy(np.stack(by_pillow)).reshape(-1, 3, SIDE, SIDE).to(images.device)


def _published(url: str) -> PublishedFile:
    return PublishedFile(
        url=url,
        aliases=("pt_inception-2015-12-05-6726825d.pth",),
        origin="from the releases of toshas/torch-fidelity on GitHub; pytorch-fid publishes the same file as "
        "pt_inception-2015-12-05-6726825d.pth",
    )


def _in_memory(state: dict[str, Tensor]) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer
