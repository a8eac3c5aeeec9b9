"""What the HTTP app asks of whatever draws: worker processes of this machine, or a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from galip.errors import GalipError

ImageFormat = Literal["png", "webp", "jpeg", "rgb"]
"""What a picture is encoded as; "rgb" is its bytes as they are, row by row, for whoever makes a video of them."""

QUALITY = 90
"""Of WebP and JPEG, out of 100."""


@dataclass(frozen=True)
class Point:
    """A caption and a seed, that is, a picture; or a corner between which pictures lie.

    Attributes:
        prompt: the caption, cleaned.
        seed: of the noise.
        weight: 0 or more; how much of it is in the picture, in proportion to the other points' weights.
    """

    prompt: str
    seed: int
    weight: float = 1.0


@dataclass(frozen=True)
class Picture:
    """All that a picture's bytes depend on beside the model.

    Attributes:
        points: what is blended; one point is the ordinary case.
        truncation: multiplies the noise.
        size: side in pixels, reached by Lanczos resampling; None: the model's own.
        format: how it is encoded.
        quality: of WebP and JPEG, 0 to 100.
    """

    points: tuple[Point, ...]
    truncation: float = 1.0
    size: int | None = None
    format: ImageFormat = "png"
    quality: int = QUALITY


@dataclass(frozen=True)
class EncodedImage:
    """A drawn picture.

    Attributes:
        data: the file's bytes.
        format: what they are.
        side: width and height in pixels.
    """

    data: bytes
    format: ImageFormat
    side: int


@dataclass(frozen=True)
class Facts:
    """What clients are told of the model.

    Attributes:
        model: the name that requests may give.
        side: of its pictures, in pixels.
        engine: what runs it.
        weights: `model_folder.fingerprint`: pictures of the same request are the same as long as this is.
    """

    model: str
    side: int
    engine: str
    weights: str


class Backend(Protocol):
    """What draws.

    A call of `draw` that is cancelled gives its place in the queue back; the app cancels it when the client has gone
    away or the request's time is up, so a backend keeps no time itself.
    """

    async def start(self) -> None:
        """Begin to load the model; return when pictures can be drawn.

        Raises:
            GalipError: the model cannot be loaded.
        """

    async def draw(self, pictures: Sequence[Picture]) -> list[EncodedImage]:
        """Draw pictures, in their order, all or none.

        Args:
            pictures: at least one, checked by the app: captions are clean, weights have a sum above 0.

        Raises:
            QueueFullError: there is no room for them now.
            WorkerLostError: the process that was drawing them has died.
            UnavailableError: nothing can draw at the moment, or the service is closing.
            InputError: a picture cannot be drawn as it was asked for.
            GalipError: the model failed.
        """

    def facts(self) -> Facts:
        """What model this is. Cheap.

        Raises:
            UnavailableError: `start` has not returned yet, so it is not known.
        """

    def ready(self) -> bool:
        """Whether a picture that is asked for now would be drawn."""

    async def close(self) -> None:
        """Stop everything that was started; calls of `draw` that are left end with `UnavailableError`."""


class QueueFullError(GalipError):
    """More pictures are waiting than is allowed.

    Args:
        retry_after: seconds after which there may be room.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many pictures are waiting to be drawn; try again in {retry_after} s")
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type[QueueFullError], tuple[int]]:
        return type(self), (self.retry_after,)  # Exception would pass the message on


class WorkerLostError(GalipError):
    """The process that was drawing has died; it is being replaced."""


class UnavailableError(GalipError):
    """Nothing can draw now."""
