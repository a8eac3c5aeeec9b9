"""A generated image as the file that was asked for: its size, its format, and what is written into it."""

from __future__ import annotations

import io
from collections.abc import Mapping

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from galip.generation.resize import fit_to
from galip.serving.pool import EncodedImage, ImageRequest


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


def _texts_of(request: ImageRequest) -> dict[str, str]:
    texts = {
        "prompt": " | ".join(part.prompt for part in request.prompts),
        "seed": ",".join(str(part.seed) for part in request.prompts),
        "truncation": f"{request.truncation:g}",
    }
    if len(request.prompts) > 1:
        texts["weights of points"] = ",".join(f"{part.weight:g}" for part in request.prompts)
    return texts
