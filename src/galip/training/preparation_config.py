"""The sections of what is trained before a run: its CLIP, and the eye that chooses its best checkpoint."""

from __future__ import annotations

from pydantic import Field

from galip.training.section import Section


class JobConfig(Section):
    """How long a network is trained, in which steps, at which rate. The rate warms up, and falls along a cosine."""

    images: int = Field(gt=0, description="images seen; each comes as often as the others")
    batch: int = Field(128, ge=2, description="images in a step")
    lr: float = Field(1e-3, gt=0, description="AdamW's rate")


class CLIPTrainingConfig(JobConfig):
    """A CLIP that is trained on the run's data, of the preset's sizes. Only where `model.clip` is empty."""

    vocabulary: int = Field(4096, ge=300, description="entries of the tokenizer, which is learnt from the captions")
    context: int = Field(32, ge=8, description="tokens of the longest caption; longer ones are truncated")
    text_layers: int = Field(4, ge=1, description="transformer blocks of the text encoder")


class EyeConfig(JobConfig):
    """The eye: a small convolutional network that learns from real images alone which caption they have."""

    lr: float = Field(2e-3, gt=0, description="AdamW's rate")
    width: int = Field(32, gt=0, multiple_of=8, description="channels of its first stage")
