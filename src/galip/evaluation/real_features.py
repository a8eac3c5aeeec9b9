"""Features of real images: computed once, kept in a cache, taken from a bundle, or known by their statistics only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from galip.distributed import Distributed
from galip.evaluation.extractors.protocol import FeatureExtractor
from galip.evaluation.features import extract_features
from galip.evaluation.image_sets import ImageSet
from galip.evaluation.images import native_images, real_images
from galip.evaluation.metrics.settings import InceptionResize
from galip.evaluation.stores import FeatureStore
from galip.utils.progress import Progress


class RealFeatures:
    """The features of chosen images of a source, by network, in the cache.

    They depend on the images, their size and the network alone, and are named by these: a second evaluation on the
    same data finds them, an interrupted one goes on, and another process count makes no difference.

    Args:
        source: the captioned images.
        records: which, in order.
        resolution: side in pixels that they are brought to.
        cache: the cache's folder.
        native: instead of `resolution`, how each image is brought to Inception's size from its own.
    """

    def __init__(
        self,
        source: ImageSet,
        records: Sequence[int],
        resolution: int,
        cache: Path,
        native: InceptionResize | None = None,
    ) -> None:
        self.source, self.records, self.resolution, self.native = source, list(records), resolution, native
        about: list[object] = [source.state, self.records, resolution]
        about += [] if native is None else [native]
        name = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
        self.folder = cache / "evaluation" / name

    def store(self, extractor: FeatureExtractor) -> FeatureStore:
        """Where a network's features are."""
        named = f"{extractor.name}-{extractor.digest}".rstrip("-")
        return FeatureStore(self.folder / named, len(self.records), extractor.dim)

    def compute(
        self, extractors: Mapping[str, FeatureExtractor], distributed: Distributed, progress: Progress, stage: str
    ) -> dict[str, FeatureStore]:
        """The features in every one of `extractors`, by their names there; computed where the cache has them not."""
        looking = {space: (extractor, self.store(extractor)) for space, extractor in extractors.items()}

        def images(rows: range) -> Tensor:
            numbers = [self.records[row] for row in rows]
            if self.native is not None:
                return native_images(self.source, numbers, self.native)
            return real_images(self.source, numbers, self.resolution)

        extract_features(images, looking, distributed, progress, stage)
        return {space: store for space, (_, store) in looking.items()}
