"""The Inception network of nearly all published FIDs: TensorFlow's of 2015, as torch-fidelity rebuilt it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from galip.errors import GalipError
from galip.evaluation.extractors.protocol import FrozenExtractor
from galip.evaluation.weights import PublishedFile, needed_package, read_weights

if TYPE_CHECKING:
    from typing_extensions import Self

_DIM = 2048
_MODULE = "torch_fidelity.feature_extractor_inceptionv3"


class InceptionExtractor(FrozenExtractor):
    """torch-fidelity's `FeatureExtractorInceptionV3`, its 2048 features after the last average pooling.

    Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017 (FID). The library resizes to 299 px
    itself, bilinear and without antialiasing, at the corners that TensorFlow 1 samples; it takes uint8 images.
    """

    @classmethod
    def open(cls, weights: str | None = None) -> Self:
        """Load it.

        Args:
            weights: torch-fidelity's file, pytorch-fid's (the same numbers under the same names), or the same as
                safetensors; None: torch-fidelity's usual file from torch's cache, fetched if it is not there.

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
        return cls("inception", weights or path.name, network, _DIM)

    def features(self, images: Tensor) -> Tensor:
        """Feature vectors [B, 2048] of uint8 images [B, 3, S, S]."""
        vectors: Tensor = self.network(images)[0]
        return vectors


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
