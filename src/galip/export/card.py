"""The model card of an exported model: what it is, how near to the original, and the original's own card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from galip.model_repo.export_folder import Manifest

_ENGINES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
_KEPT = ("license", "license_name", "license_link", "language", "datasets")

_CARD = """\
---
{matter}---
# {name} for {engine}

`{name}`, exported by galip {version} for {engine}: text encoder, generator and the frozen transformer inside it. It
generates {size} x {size} images without torch.

```python
import galip

pipe = galip.load("PATH/TO/THIS/FOLDER")
pipe("a caption", seed=0).images[0].save("image.png")
```

| | |
| --- | --- |
| weights | {weights} |
| ONNX operator set | {opset} |
| inputs | any batch size, captions of up to {max_tokens} tokens |
| hash of the original | `{digest}` |
{quality}
`export.json` says the same to programs, with the sizes and hashes of all files. The licence is the original's.
{original}"""

_WEIGHTS = {
    "fp32": "fp32",
    "fp16": "stored in fp16, computed in fp32",
    "int8": "the generator's convolutions compute in int8, calibrated with captions; all else is stored in fp16",
}


_JUDGED = """\
| CLIP score, by its own CLIP | {clip_score}; in fp32 {clip_score_fp32}; {pictures} images |
| Fréchet distance to the images in fp32, by that CLIP | {frechet}; of other seeds to these {frechet_seeds} |
"""


def export_card(manifest: Manifest, source: Path) -> str:
    """The text of `README.md`.

    Args:
        manifest: of the exported model.
        source: the original's folder; what its card says of licence, language and data is taken over, and its text is
            added below.
    """
    matter, text = _split_card(source / "README.md")
    kept = {"library_name": "galip", "pipeline_tag": "text-to-image"} | {k: matter[k] for k in _KEPT if k in matter}
    quality = ""
    if manifest.quality is not None:
        quality = (
            "| against fp32 | PSNR {psnr_mean} dB in the mean, {psnr_lowest} dB at the lowest, "
            "over {captions} captions |\n"
        ).format(**manifest.quality)
        if "frechet" in manifest.quality:
            quality += _JUDGED.format(**manifest.quality)
    return _CARD.format(
        matter=yaml.safe_dump(kept | {"tags": ["galip", manifest.kind]}, sort_keys=False, allow_unicode=True),
        name=manifest.source["name"],
        engine=_ENGINES[manifest.kind],
        version=manifest.version,
        size=manifest.image_size,
        weights=_WEIGHTS[manifest.precision],
        opset=manifest.opset,
        max_tokens=manifest.max_tokens,
        digest=manifest.source["digest"],
        quality=quality,
        original=f"\n---\n\n*The original's own card:*\n\n{text.strip()}\n" if text.strip() else "",
    )


def _split_card(file: Path) -> tuple[dict[str, Any], str]:
    """Front matter and text of a model card; both empty where there is none."""
    if not file.is_file():
        return {}, ""
    text = file.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---\n") or "\n---" not in text[4:]:
        return {}, text
    matter, rest = text[4:].split("\n---", 1)
    try:
        loaded = yaml.safe_load(matter)
    except yaml.YAMLError:
        loaded = None
    return loaded if isinstance(loaded, dict) else {}, rest
