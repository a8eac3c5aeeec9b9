"""The settings of metrics, each of which changes a number."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

InceptionResize = Literal["tensorflow", "pytorch", "clean"]
"""How images reach Inception's 299 px: bilinear at the corners that TensorFlow 1 samples, as in the original FID code;
bilinear as in pytorch-fid; bicubic with antialiasing, each channel in floats by Pillow, as in clean-fid (Parmar et al.,
"On Aliased Resizing and Surprising Subtleties in GAN Evaluation", CVPR 2022)."""


class MetricSettings(BaseModel):
    """How metrics are computed. A protocol has these fields among its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, loc_by_alias=False)

    kid_subsets: int = Field(100, ge=1)
    kid_subset_size: int = Field(1000, ge=2)
    # The alias is the name in result files, which do not change with the code's words.
    manifold_images: int = Field(
        10000, ge=2, alias="manifold_pictures", description="at most so many of each side, as in the literature"
    )
    neighbours: int = Field(3, ge=1, description="k of precision and recall")
    coverage_neighbours: int = Field(5, ge=1, description="k of density and coverage")
    among: int = Field(100, ge=2, description="captions to choose from for R-precision")
