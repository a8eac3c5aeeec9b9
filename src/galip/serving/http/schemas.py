"""What requests and answers look like: OpenAI's fields where it has one, and this project's own beside them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from galip.generation.noise import SEED_LIMIT
from galip.latent.interpolation import Easing

MAX_POINTS = 32
"""Points that an image may be blended of."""

Seed = Annotated[int, Field(ge=0, lt=SEED_LIMIT)]
Truncation = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False, description="Scale of the noise.")]
Format = Literal["png", "jpeg", "webp"]
Quality = Annotated[int, Field(ge=0, le=100, description="Of JPEG and WebP.")]


class Request(BaseModel):
    """A body. Unknown fields are refused: a misspelt one would be ignored otherwise."""

    model_config = ConfigDict(extra="forbid")


class GenerationRequest(Request):
    """`POST /v1/images/generations`."""

    prompt: str = Field(description="What the images show.")
    model: str | None = Field(None, description="The served model's name; may be left out.")
    n: int = Field(1, ge=1, description="Number of images.")
    size: str = Field("auto", description='"auto", or a square such as "512x512", to which the image is enlarged.')
    response_format: Literal["b64_json", "url"] = "b64_json"
    output_format: Format = "png"
    output_compression: Quality = 90
    seed: Seed | None = Field(
        None, description="Of the first image, the next ones count on from it; left out: random ones."
    )
    truncation: Truncation = 1.0
    # What follows is OpenAI's, means nothing to this model, and is taken so that clients need not be changed.
    quality: str | None = Field(None, description="Without effect.")
    style: str | None = Field(None, description="Without effect: say it in the prompt.")
    user: str | None = Field(None, description="Without effect.")
    moderation: str | None = Field(None, description="Without effect: nothing is filtered.")
    background: Literal["auto", "opaque"] | None = Field(None, description="Always opaque.")
    stream: Literal[False] | None = Field(None, description="An image is there in one step; there is no stream.")
    partial_images: Literal[0] | None = Field(None, description="See `stream`.")


class PointRequest(Request):
    """A prompt, a seed, and its share of a blend."""

    prompt: str
    seed: Seed = 0
    weight: float = Field(1.0, ge=0, le=1e6, allow_inf_nan=False)


class BlendRequest(Request):
    """`POST /app/draw`."""

    points: list[PointRequest] = Field(min_length=1, max_length=MAX_POINTS)
    truncation: Truncation = 1.0
    size: int | None = Field(None, ge=1, description="Side in pixels; left out: the model's own.")
    format: Format = "png"
    quality: Quality = 90


class KeyframeRequest(Request):
    """An image that a video passes through."""

    prompt: str
    seed: Seed = 0


class VideoRequest(Request):
    """`POST /v1/images/interpolations`."""

    keyframes: list[KeyframeRequest] = Field(min_length=2, max_length=256)
    model: str | None = Field(None, description="The served model's name; may be left out.")
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
    seed: int


class ImagesResponse(BaseModel):
    """The answer of `/v1/images/generations`."""

    created: int
    data: list[ImageData]
    background: Literal["opaque"] = "opaque"
    output_format: Format
    size: str


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
