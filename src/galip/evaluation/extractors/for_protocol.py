"""Feature networks as a protocol asks for them."""

from __future__ import annotations

from galip.evaluation.extractors.inception import InceptionExtractor
from galip.evaluation.extractors.protocol import FeatureExtractor
from galip.evaluation.extractors.registry import open_extractor
from galip.evaluation.protocols.schema import Protocol


def open_for(protocol: Protocol, space: str, weights: str | None = None) -> FeatureExtractor:
    """`open_extractor`, with the protocol's way to Inception's size.

    Raises:
        InputError, GalipError: as `open_extractor`.
    """
    if space == "inception" and protocol.resize is not None:
        return InceptionExtractor.open(weights, protocol.resize)
    return open_extractor(space, weights)
