"""A generated image as the file that was asked for: its size, its format, and what is written into it."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from galip.serving.pool import EncodedImage, ImageFit, ImageRequest


def encode_image(
    image: Image.Image, request: ImageRequest, texts: Mapping[str, str], prompt_tokens: int = 0
) -> EncodedImage:
    """Resize an image and encode it.

    Args:
        image: square, as the model made it, RGB or RGBA.
        request: what it was made of, and how it is wanted.
        texts: what a PNG file says beside the request's own prompts, seeds and truncation.
        prompt_tokens: for the answer.
    """
    if image.mode == "RGBA" and not request.transparent:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if request.size is not None:
        image = fit_to(image, request.size, request.fit)
    if request.format == "rgb":
        return EncodedImage(image.tobytes(), "rgb", *image.size, prompt_tokens)
    file = io.BytesIO()
    if request.format == "png":
        info = PngInfo()
        for key, value in {**texts, **_texts_of(request)}.items():
            info.add_itxt(key, value)
        image.save(file, "PNG", pnginfo=info, compress_level=1)  # several times faster, files a little larger
    else:
        image.save(file, request.format.upper(), quality=request.quality)
    return EncodedImage(file.getvalue(), request.format, *image.size, prompt_tokens)


def fit_to(image: Image.Image, size: tuple[int, int], fit: ImageFit) -> Image.Image:
    """A square image at another size, by Lanczos resampling.

    Args:
        image: the image.
        size: width and height in pixels.
        fit: where these differ, "pad" sets the whole image in the middle of its border's most typical colour, and
            "crop" cuts from its middle what has the wanted shape.
    """
    if image.size == size:
        return image
    side = min(size) if fit == "pad" else max(size)
    resized = image.resize((side, side), Image.Resampling.LANCZOS)  # Pillow premultiplies the alpha channel itself
    if size[0] == size[1]:
        return resized
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    if fit == "crop":
        return resized.crop((left, top, left + size[0], top + size[1]))
    canvas = Image.new(image.mode, size, _border_colour(image))
    canvas.paste(resized, (-left, -top))  # without a mask: RGBA stays what it is
    return canvas


def _border_colour(image: Image.Image) -> tuple[int, ...]:
    """The median of the outermost pixels, channel by channel."""
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return tuple(int(value) for value in np.median(border, axis=0))


def _texts_of(request: ImageRequest) -> dict[str, str]:
    texts = {
        "prompt": " | ".join(part.prompt for part in request.prompts),
        "seed": ",".join(str(part.seed) for part in request.prompts),
        "truncation": f"{request.truncation:g}",
    }
    if len(request.prompts) > 1:
        texts["weights of points"] = ",".join(f"{part.weight:g}" for part in request.prompts)
    return texts
