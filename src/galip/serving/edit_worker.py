"""What the process does that edits images: it inverts them by torch, and generates from what was found."""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict

import numpy as np

from galip import __version__
from galip.data.images import decode_image
from galip.data.protocol import BrokenRecordError
from galip.errors import InputError
from galip.generation.load import load
from galip.latent.editing import edit, variations
from galip.latent.inversion import Inversion, invert
from galip.model_repo.resolve import model_name, weights_of
from galip.serving.encoding import encode_image
from galip.serving.model_worker import ModelSpec
from galip.serving.pool import EditRequest, EncodedImage
from galip.utils.arrays import FloatArray

_MAX_KEPT = 16
"""Images whose inversion is kept: whoever tries several prompts on one waits once."""


class EditWorker:
    """Edits images with a model.

    Args:
        spec: what to load; its engine is torch, whatever it names.
        steps: of an inversion.

    Raises:
        GalipError: it cannot be loaded.
    """

    def __init__(self, spec: ModelSpec, steps: int) -> None:
        self._pipe = load(spec.model, engine="torch", device=spec.device, dtype="float32", threads=spec.threads)
        self._pipe.set_progress_bar_config(disable=True)
        self._steps = steps
        self._found: OrderedDict[str, Inversion] = OrderedDict()
        name = spec.name or model_name(spec.model)
        self._texts = {"model": name, "weights": weights_of(spec.model), "galip": __version__}

    def edit(self, asked: EditRequest) -> list[EncodedImage]:
        """Generate what was asked for.

        Raises:
            InputError: the file is no image, or the model has no CLIP of its own that sees images.
        """
        found = self._invert(asked.image)
        prompts = {image.prompts[0].prompt for image in asked.images}
        vectors = {prompt: self._vector(found, prompt, asked.strength) for prompt in prompts}
        z = np.concatenate(
            [
                variations(found.z, 1, amount, image.prompts[0].seed)
                for image, amount in zip(asked.images, asked.amounts, strict=True)
            ]
        )
        images = self._pipe.generate(z, np.stack([vectors[image.prompts[0].prompt] for image in asked.images]))
        texts = self._texts | {"made of": f"an image, found with a PSNR of {found.psnr:.1f} dB"}
        return [encode_image(image, request, texts) for image, request in zip(images, asked.images, strict=True)]

    def _vector(self, found: Inversion, prompt: str, strength: float) -> FloatArray:
        return edit(self._pipe, found.e, prompt, strength=strength) if prompt else found.e

    def _invert(self, file: bytes) -> Inversion:
        """The noise and the sentence vector of an image, those from before not searched again."""
        key = hashlib.sha256(file).hexdigest()
        if key not in self._found:
            try:
                image = decode_image(io.BytesIO(file), "image", self._pipe.sizes.image_size)
            except BrokenRecordError as error:
                raise InputError(f"image: {error.why.partition(';')[0]}; give a PNG, JPEG or WebP file") from error
            self._found[key] = invert(self._pipe, image, steps=self._steps)
        self._found.move_to_end(key)
        while len(self._found) > _MAX_KEPT:
            self._found.popitem(last=False)
        return self._found[key]
