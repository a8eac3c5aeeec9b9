"""GALIP's networks, by the paper's names: tensors in, tensors out."""

from galip.models.blocks import UpBlock
from galip.models.clip import FrozenCLIPVision
from galip.models.discriminator import CLIPFeatureExtractor, ExtractionBlock, MateDiscriminator, QualityAssessor
from galip.models.generator import BridgeFeaturePredictor, ImageGenerator, MateGenerator, PromptPredictor
from galip.models.layers import Affine, FusionBlock
from galip.models.plain_discriminator import PlainDiscriminator
from galip.models.presets import PRESETS, Preset, build_discriminator, build_generator, build_vision
from galip.models.text import CLIPSentenceEncoder, SentenceEncoder, T5SentenceEncoder, measure_scale

__all__ = [
    "PRESETS",
    "Affine",
    "BridgeFeaturePredictor",
    "CLIPFeatureExtractor",
    "CLIPSentenceEncoder",
    "ExtractionBlock",
    "FrozenCLIPVision",
    "FusionBlock",
    "ImageGenerator",
    "MateDiscriminator",
    "MateGenerator",
    "PlainDiscriminator",
    "Preset",
    "PromptPredictor",
    "QualityAssessor",
    "SentenceEncoder",
    "T5SentenceEncoder",
    "UpBlock",
    "build_discriminator",
    "build_generator",
    "build_vision",
    "measure_scale",
]
