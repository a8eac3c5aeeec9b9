"""The sections of discriminators on further frozen networks, beside Mate-D on CLIP's features."""

from __future__ import annotations

from pydantic import Field

from galip.training.section import Section


class FeatureNetworkConfig(Section):
    """A frozen vision network whose features further discriminators judge, beside Mate-D on CLIP's."""

    name: str = Field(min_length=1, description="timm:ARCHITECTURE, or a folder or hub id of transformers")
    weights: str = Field("", description="timm: a file, or a hub id; empty: timm's usual weights")
    depths: tuple[int, ...] = Field(
        (), description="numbers of timm's feature maps, or of transformers' hidden states; empty: up to four"
    )
    side: int | None = Field(
        None,
        ge=0,
        description="pixels that images are resized to; 0: twice their own side; None: so, or what a "
        "network of one size needs",
    )


class FeatureAugmentationConfig(Section):
    """Differentiable augmentation of what feature networks see, real and generated images alike."""

    shift: float = Field(0.125, ge=0, le=0.5, description="random translation, in parts of the side")
    colour: float = Field(1.0, ge=0, le=1, description="random brightness, saturation and contrast; 1 is DiffAugment's")
    cutout: float = Field(0.2, ge=0, lt=1, description="side of a grey square, in parts of the side")
    blur: float = Field(
        0.02, ge=0, le=0.25, description="standard deviation of the blur at the beginning, in parts of the side"
    )
    blur_images: int = Field(0, ge=0, description="images of the stage over which the blur fades; 0: no blur")
