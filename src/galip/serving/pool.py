"""What the HTTP app asks for images: worker processes of this machine, or a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from galip.errors import GalipError

ImageFormat = Literal["png", "webp", "jpeg", "rgb"]
"""How an image is encoded; "rgb" is its bytes as they are, row by row, for whoever makes a video of them."""

ImageFit = Literal["pad", "crop"]
"""How a square image fills a size that is not square: all of it between borders, or its middle without any."""

DEFAULT_QUALITY = 90
"""Of WebP and JPEG, out of 100."""


@dataclass(frozen=True)
class WeightedPrompt:
    """A prompt and a seed, that is, an image; or one of several between which an image lies.

    Attributes:
        prompt: cleaned text.
        seed: of the noise.
        weight: 0 or more; its share of the image, in proportion to the weights of the others.
    """

    prompt: str
    seed: int
    weight: float = 1.0


@dataclass(frozen=True)
class ImageRequest:
    """All that an image's bytes depend on beside the model.

    Attributes:
        prompts: what is blended; one of them is the ordinary case.
        truncation: multiplies the noise.
        size: width and height in pixels, reached by Lanczos resampling; None: the model's own.
        fit: how a size that is not square is filled.
        format: how it is encoded.
        quality: of WebP and JPEG, 0 to 100.
        transparent: whether the alpha channel of a model that has one is kept; else images are laid on white.
    """

    prompts: tuple[WeightedPrompt, ...]
    truncation: float = 1.0
    size: tuple[int, int] | None = None
    fit: ImageFit = "pad"
    format: ImageFormat = "png"
    quality: int = DEFAULT_QUALITY
    transparent: bool = False


@dataclass(frozen=True)
class EncodedImage:
    """A generated image.

    Attributes:
        data: the file's bytes.
        format: what they are.
        width, height: in pixels.
        prompt_tokens: of the request's prompts, as the model's tokenizer counts them.
    """

    data: bytes
    format: ImageFormat
    width: int
    height: int
    prompt_tokens: int = 0


@dataclass(frozen=True)
class ModelInfo:
    """What clients are told of the model.

    Attributes:
        name: what requests may call it.
        image_size: side of its images, in pixels.
        engine: what runs it.
        weights: their fingerprint (`galip.model_repo`): a request gives the same images as long as this is the same.
        has_alpha: whether its images have an alpha channel.
        about: what it generates, in a sentence of its model card; empty where that says nothing.
    """

    name: str
    image_size: int
    engine: str
    weights: str
    has_alpha: bool = False
    about: str = ""


@dataclass(frozen=True)
class EditRequest:
    """An image that a client brought, and what is generated from it.

    Attributes:
        image: the bytes of its file.
        images: one for each that is generated: of its prompt what it is to show, which may be empty: what it shows
            now; of its seed the noise that it is turned towards; and how it is encoded.
        amounts: for each of these how far it is turned, 0 to 1.
        strength: how far the prompt leads, 0 to 1.
    """

    image: bytes
    images: tuple[ImageRequest, ...]
    amounts: tuple[float, ...]
    strength: float = 1.0


class Editor(Protocol):
    """Generates from images that clients bring.

    Like `WorkerPool.generate`, `edit` gives its place back when it is cancelled.
    """

    async def edit(self, asked: EditRequest) -> list[EncodedImage]:
        """Generate the images of a request.

        Raises:
            InputError: the file is no image, or the model cannot see.
            QueueFullError: enough are being edited already.
            WorkerLostError: the process that was editing has died.
        """

    async def close(self) -> None:
        """End what was started."""


class WorkerPool(Protocol):
    """Workers that generate images.

    A call of `generate` that is cancelled gives its place in the queue back; the app cancels it when the client has
    gone away or the request's time is up, so a pool keeps no time itself.
    """

    async def start(self) -> None:
        """Begin to load the model; return when images can be generated.

        Raises:
            GalipError: the model cannot be loaded.
        """

    async def generate(self, requests: Sequence[ImageRequest]) -> list[EncodedImage]:
        """Generate images, in the order of the requests, all or none.

        Args:
            requests: at least one, checked by the app: prompts are clean, weights have a sum above 0.

        Raises:
            QueueFullError: there is no room for them now.
            WorkerLostError: the process that was generating them has died.
            UnavailableError: no worker is there at the moment, or the service is closing.
            InputError: an image cannot be generated as it was asked for.
            GalipError: the model failed.
        """

    def info(self) -> ModelInfo:
        """What model this is. Cheap.

        Raises:
            UnavailableError: `start` has not returned yet, so it is not known.
        """

    def ready(self) -> bool:
        """Whether an image that is asked for now would be generated."""

    async def close(self) -> None:
        """Stop everything that was started; calls of `generate` that are left end with `UnavailableError`."""


class QueueFullError(GalipError):
    """More images are waiting than is allowed.

    Args:
        retry_after: seconds after which there may be room.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many images are waiting to be generated; try again in {retry_after} s")
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type[QueueFullError], tuple[int]]:
        return type(self), (self.retry_after,)  # Exception would pass the message on


class WorkerLostError(GalipError):
    """The process that was generating has died; it is being replaced."""


class UnavailableError(GalipError):
    """No worker can generate now."""
