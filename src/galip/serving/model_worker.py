"""What draws a batch: a pipeline, made to take pictures of any kind together and to hand out files."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from galip import __version__
from galip.errors import GalipError, InputError
from galip.generation.load import load, model_name, weights_of
from galip.generation.noise import noise
from galip.latent.interpolation import blend_noise, blend_sentences
from galip.latent.pipelines import Drawing, draw, embed, sizes
from galip.serving.backend import EncodedImage, Facts, Picture, Point
from galip.utils import image_io

Array = NDArray[np.float32]

_SENTENCES = 4096
"""Captions whose sentence vectors are kept: a hand on a slider asks for the same two again and again."""

_WARM_UP = ("a red heart", "a blue car")


@dataclass(frozen=True)
class Order:
    """What to load.

    Attributes:
        model: a bundled model's name, a folder, or a hub id.
        name: what clients call it; None: its own name.
        engine, device, threads: as for `galip.load`.
        batch: pictures that will be drawn at once at the most.
    """

    model: str
    name: str | None = None
    engine: str | None = None
    device: str | None = None
    threads: int | None = None
    batch: int = 16


class Artist:
    """Draws pictures as a service needs them.

    Args:
        order: what to load.
        say: is told, in a line, what takes long.

    Attributes:
        facts: what clients are told of the model.

    Raises:
        GalipError: it cannot be loaded, or it draws from no captions.
    """

    def __init__(self, order: Order, say: Callable[[str], None] | None = None) -> None:
        self._pipe: Drawing = load(
            order.model, engine=order.engine, device=order.device, threads=order.threads, say=say
        )  # type: ignore[assignment]
        self._sizes = sizes(self._pipe)
        self._sentences: OrderedDict[str, Array] = OrderedDict()
        self.facts = Facts(
            model=order.name or model_name(order.model),
            side=self._sizes.image_size,
            engine=getattr(self._pipe, "engine", order.engine if order.engine == "compile" else "torch"),
            weights=weights_of(order.model),
        )
        self._texts = {"model": self.facts.model, "weights": self.facts.weights, "galip": __version__}
        self._warm_up(order.batch)

    def draw(self, pictures: Sequence[Picture]) -> list[EncodedImage | GalipError]:
        """Draw pictures in one batch.

        Returns:
            For each of them the file, or why it cannot be drawn; one that cannot does not hinder the others.
        """
        try:
            return list(self._draw(pictures))
        except GalipError as error:
            if len(pictures) == 1:
                return [error]
        # One of them is to blame. That is rare, so it may take its time to find it.
        return [result for picture in pictures for result in self.draw([picture])]

    def _draw(self, pictures: Sequence[Picture]) -> list[EncodedImage]:
        sentences = self._embed({point.prompt for picture in pictures for point in picture.points})
        z = np.stack([self._noise(picture) for picture in pictures])
        e = np.stack(
            [
                blend_sentences(
                    [sentences[point.prompt] for point in picture.points], [point.weight for point in picture.points]
                )
                for picture in pictures
            ]
        )
        images = draw(self._pipe, z, e, batch_size=len(pictures))
        return [self._encode(image, picture) for image, picture in zip(images, pictures, strict=True)]

    def _noise(self, picture: Picture) -> Array:
        z = blend_noise(
            noise([point.seed for point in picture.points], self._sizes.z_dim),
            [point.weight for point in picture.points],
        )
        with np.errstate(over="ignore"):  # what is not finite is refused below
            scaled = z * np.float32(picture.truncation)
        if not np.isfinite(scaled).all():
            raise InputError(f"truncation {picture.truncation:g} makes noise that is not finite; give a smaller one")
        return scaled

    def _embed(self, prompts: set[str]) -> dict[str, Array]:
        """Sentence vectors [cond_dim] of captions, those from before not encoded again."""
        missing = sorted(prompts - self._sentences.keys())
        if missing:
            self._sentences.update(zip(missing, embed(self._pipe, missing), strict=True))
        for prompt in prompts:
            self._sentences.move_to_end(prompt)
        found = {prompt: self._sentences[prompt] for prompt in prompts}
        while len(self._sentences) > _SENTENCES:
            self._sentences.popitem(last=False)
        return found

    def _encode(self, image: Image.Image, picture: Picture) -> EncodedImage:
        image = image_io.resized(image, picture.size)
        if picture.format == "rgb":
            return EncodedImage(image.tobytes(), "rgb", image.width)
        texts = self._texts | {
            "prompt": " | ".join(point.prompt for point in picture.points),
            "seed": ",".join(str(point.seed) for point in picture.points),
            "truncation": f"{picture.truncation:g}",
        }
        if len(picture.points) > 1:
            texts["weights of points"] = ",".join(f"{point.weight:g}" for point in picture.points)
        file = io.BytesIO()
        if picture.format == "png":
            info = PngInfo()
            for key, value in texts.items():
                info.add_itxt(key, value)
            image.save(file, "PNG", pnginfo=info, compress_level=1)  # several times faster, files a little larger
        else:
            image.save(file, picture.format.upper(), quality=picture.quality)
        return EncodedImage(file.getvalue(), picture.format, image.width)

    def _warm_up(self, batch: int) -> None:
        """Draw once with every kind of batch, since engines prepare what they need when they meet it."""
        for size in {1, min(batch, 8), batch}:
            for result in self.draw([_warming(number) for number in range(size)]):
                if isinstance(result, GalipError):
                    raise result


def _warming(number: int) -> Picture:
    return Picture((Point(_WARM_UP[number % len(_WARM_UP)], number),), format="rgb")
