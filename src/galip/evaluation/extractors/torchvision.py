"""The Inception network of the FIDs that GALIP's authors published: torchvision's, trained on ImageNet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from galip.errors import GalipError
from galip.evaluation.extractors.protocol import FrozenExtractor, unit_range
from galip.evaluation.weights import PublishedFile, load_into, needed_package, read_weights

if TYPE_CHECKING:
    from typing_extensions import Self

_DIM = 2048
_SIDE = 299


class TorchvisionInceptionExtractor(FrozenExtractor):
    """torchvision's `inception_v3(transform_input=True)`, its 2048 features after the last average pooling.

    Images are used as the authors' code used them: never quantised, clamped to [0, 1], resized to 299 px by bilinear
    interpolation without antialiasing, and not normalised as ImageNet classifiers need it. Numbers that come of it
    compare with the published ones, and with no FID that another network measured.
    """

    @classmethod
    def open(cls, weights: str | None = None) -> Self:
        """Load it.

        Args:
            weights: a file with torchvision's state dict; None: torchvision's ImageNet weights from torch's cache,
                fetched if they are not there.

        Raises:
            GalipError: torchvision is missing, or the weights are missing, broken or another network's.
        """
        models = needed_package("torchvision.models")
        path = Path(weights).expanduser() if weights else _published(models).fetch("inception-torchvision")
        network = models.inception_v3(weights=None, transform_input=True, aux_logits=False, init_weights=False)
        try:
            load_into(network, read_weights(path), str(path), unused=["AuxLogits."])
        except GalipError as error:
            raise GalipError(f"{error}; TensorFlow's Inception is the extractor inception") from error
        network.fc = nn.Identity()  # the classifier, which told the two networks' files apart, has no part in features
        return cls("inception-torchvision", weights or path.name, network, _DIM, takes="float")

    def features(self, images: Tensor) -> Tensor:
        """Feature vectors [B, 2048] of images [B, 3, S, S]."""
        x = F.interpolate(unit_range(images), size=(_SIDE, _SIDE), mode="bilinear", align_corners=False)
        vectors: Tensor = self.network(x)
        return vectors


def _published(models: Any) -> PublishedFile:
    url = models.Inception_V3_Weights.IMAGENET1K_V1.url
    return PublishedFile(url=url, aliases=(), origin="torchvision's ImageNet weights of inception_v3")
