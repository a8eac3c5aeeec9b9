"""What requests and answers look like: OpenAI's fields where it has one, and this project's own beside them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from galip.generation.noise import SEED_LIMIT
from galip.latent.interpolation import Easing
from galip.serving.pool import ImageFit

MAX_POINTS = 32
"""Points that an image may be blended of."""

Seed = Annotated[int, Field(ge=0, lt=SEED_LIMIT)]
Truncation = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False, description="Scale of the noise.")]
Format = Literal["png", "jpeg", "webp"]
Quality = Annotated[int, Field(ge=0, le=100, description="Of JPEG and WebP.")]
Background = Literal["auto", "transparent", "opaque"]

WITHOUT_EFFECT = ("quality", "style", "user", "safety_identifier", "moderation", "partial_images")
"""Fields of OpenAI's that are taken and change no image: a GAN has one quality, and says by prompts what it shows."""


class StrictRequest(BaseModel):
    """A body of this project's own page. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Request(BaseModel):
    """A body as OpenAI's clients send it: null is the same as leaving a field out, and unknown fields are taken."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, values: Any) -> Any:
        return (
            {name: value for name, value in values.items() if value is not None} if isinstance(values, dict) else values
        )

    def unknown(self) -> list[str]:
        """Names of fields that this service does not know."""
        return sorted(self.model_extra or {})


class ImageOptions(Request):
    """What `generations`, `edits` and `variations` have in common."""

    model: str | None = Field(None, description="The served model's name, or an alias; may be left out.")
    n: int = Field(1, ge=1, description="Number of images.")
    size: str = Field(
        "auto", description='"auto", or width and height such as "1024x1536", reached by Lanczos resampling.'
    )
    fit: ImageFit = Field(
        "pad", description="How a size that is not square is filled: all of the image between borders, or its middle."
    )
    response_format: Literal["b64_json", "url"] = "b64_json"
    output_format: Format = "png"
    output_compression: Quality = 100
    background: Background = Field("auto", description="`transparent` where the model has an alpha channel.")
    seed: Seed | None = Field(
        None, description="Of the first image, the next ones count on from it; left out: random ones."
    )
    truncation: Truncation = 1.0
    stream: bool = Field(False, description="Answer by events, one for each image.")
    partial_images: int = Field(0, ge=0, le=3, description="Without effect: an image is there in one step.")
    quality: str | None = Field(None, description="Without effect.")
    style: str | None = Field(None, description="Without effect: say it in the prompt.")
    user: str | None = Field(None, description="Without effect.")
    safety_identifier: str | None = Field(None, description="Without effect; the answer repeats it.")
    moderation: str | None = Field(None, description="Without effect: nothing is filtered.")


class GenerationRequest(ImageOptions):
    """`POST /v1/images/generations`."""

    prompt: str = Field(description="What the images show.")


class VariationForm(ImageOptions):
    """`POST /v1/images/variations`, beside the image."""

    amount: float = Field(
        0.3, ge=0, le=1, allow_inf_nan=False, description="How far images are from the given one: 0 not, 1 anything."
    )


class EditForm(VariationForm):
    """`POST /v1/images/edits`, beside the image."""

    prompt: str = Field(description="What the image is to show.")
    strength: float = Field(1.0, ge=0, le=1, allow_inf_nan=False, description="How far the prompt leads.")
    input_fidelity: str | None = Field(None, description="Without effect: see `strength`.")


class PointRequest(StrictRequest):
    """A prompt, a seed, and its share of a blend."""

    prompt: str
    seed: Seed = 0
    weight: float = Field(1.0, ge=0, le=1e6, allow_inf_nan=False)


class BlendRequest(StrictRequest):
    """`POST /app/draw`."""

    points: list[PointRequest] = Field(min_length=1, max_length=MAX_POINTS)
    truncation: Truncation = 1.0
    size: int | None = Field(None, ge=1, description="Side in pixels; left out: the model's own.")
    format: Format = "png"
    quality: Quality = 90


class KeyframeRequest(StrictRequest):
    """An image that a video passes through."""

    prompt: str
    seed: Seed = 0


class VideoRequest(Request):
    """`POST /v1/images/interpolations`."""

    keyframes: list[KeyframeRequest] = Field(min_length=2, max_length=256)
    model: str | None = Field(None, description="The served model's name, or an alias; may be left out.")
    frames: int = Field(24, ge=1, description="From each keyframe to the next.")
    fps: float = Field(24.0, gt=0, le=120, allow_inf_nan=False, description="Frames per second; GIF has at most 50.")
    loop: bool = Field(False, description="Lead back to the first keyframe, and end one step before it.")
    easing: Easing = "linear"
    truncation: Truncation = 1.0
    size: int | str = Field("auto", description='"auto", a square such as "512x512", or its side.')
    output_format: Literal["mp4", "webp", "gif", "png"] = Field(
        "mp4", description='A video; "png" gives the frames one by one, in the shape of `/v1/images/generations`.'
    )


class ImageData(BaseModel):
    """One image of an answer."""

    b64_json: str | None = None
    url: str | None = None
    seed: int | None = None


class TokenDetails(BaseModel):
    """Tokens by kind; images have no tokens here."""

    text_tokens: int
    image_tokens: int = 0


class Usage(BaseModel):
    """Tokens of a request: those of its prompt."""

    input_tokens: int
    input_tokens_details: TokenDetails
    output_tokens: int = 0
    output_tokens_details: TokenDetails
    total_tokens: int


class ImagesResponse(BaseModel):
    """The answer of `/v1/images/generations`."""

    created: int
    data: list[ImageData]
    background: Literal["transparent", "opaque"] = "opaque"
    output_format: Format
    size: str
    quality: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    safety_identifier: str | None = None
    usage: Usage | None = None


class ImageEvent(BaseModel):
    """An event of a stream: an image is complete."""

    type: Literal["image_generation.completed", "image_edit.completed"]
    created_at: int
    b64_json: str
    seed: int | None = None
    background: Literal["transparent", "opaque"]
    output_format: Format
    quality: Literal["low", "medium", "high", "xhigh", "max", "auto"]
    size: str
    safety_identifier: str | None = None
    usage: Usage


class ErrorDetails(BaseModel):
    """What is wrong, and what to do."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorResponse(BaseModel):
    """Every error's answer."""

    error: ErrorDetails


class ModelCard(BaseModel):
    """An entry of `/v1/models`."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "galip"


class ModelList(BaseModel):
    """The answer of `/v1/models`."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class AppInfo(BaseModel):
    """The answer of `/app/facts`: what the page must know."""

    model: str
    weights: str
    side: int
    engine: str
    version: str
    max_size: int
    max_prompt: int
    max_n: int
    max_frames: int
    edits: bool
    about: str
