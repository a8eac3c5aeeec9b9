"""What galip makes of captions, for the page's tests to compare with. A process of its own: an engine is loaded here.

python by_python.py EXPORTED < {"pictures": [[caption, seed], ...], "captions": [...]} > answer.json
"""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from tokenizers import Tokenizer

import galip
from galip.errors import InputError
from galip.generation.onnx_backend import ONNXBackend
from galip.generation.pipeline import TextToImage
from galip.generation.prompts import clean_caption


def tokens(tokenizer: Tokenizer, limit: int, caption: str) -> dict[str, Any]:
    """The cleaned caption and its tokens, cut as a pipeline cuts them, or why there are none."""
    try:
        text = clean_caption(caption)
    except InputError as error:
        return {"refused": str(error)}
    ids = tokenizer.encode(text).ids
    return {"text": text, "ids": ids if len(ids) <= limit else ids[: limit - 1] + ids[-1:]}


def png(image: Image.Image) -> str:
    """A picture as a PNG in base64."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def main() -> None:
    """Answer what is asked on standard input."""
    folder = Path(sys.argv[1])
    asked = json.load(sys.stdin)
    exported = TextToImage(ONNXBackend(folder, threads=1))
    original = galip.load("emoji-64", device="cpu", engine="torch")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    limit = exported.backend.manifest.max_tokens
    answer = {
        "exported": [png(exported(caption, seed=seed).images[0]) for caption, seed in asked["pictures"]],
        "original": [png(original(caption, seed=seed).images[0]) for caption, seed in asked["pictures"]],
        "captions": [tokens(tokenizer, limit, caption) for caption in asked["captions"]],
    }
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
