"""The judge: a second, differently shaped CLIP that scores the bundled model. It is used in no loss.

    python recipes/emoji/train_judge.py --out recipes/emoji/work/judge

Neither the CLIP nor the GAN takes a gradient or a feature from it; all that it may decide is which checkpoint is kept.
Its picture side is a small convolutional network (the trained CLIP's is a transformer), its text side two layers over
the frozen MiniLM vectors; another seed, the same split. It learns from the training pictures alone; how it does on the
held-out ones is written into its log, `judge.json`.

What it learns from is moved, zoomed, made brighter or darker and partly covered, and a part of its features is left out
at random: it has to recognise pictures that it never saw, held-out and drawn ones.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from emoji_common import WORK, Pictures, Teacher, index_captions, load_pictures, retrieval, shift_and_scale, to_float
from safetensors.torch import load_file, save_file
from torch import nn

from galip.evaluation.extractors.judge import JudgeNetwork

TEACHER_DIM = 384
SHIFT = 0.1
"""Pictures are moved by up to twice this part of their side, and zoomed by up to this part."""
COVERED = 24
"""Side in pixels of the largest patch that is covered; half of the pictures have one."""


class Judge(nn.Module):
    """Pictures [B, 3, 64, 64] in [-1, 1] and MiniLM vectors [B, 384] into one space.

    Args:
        width: channels after the first stage; they double at each of the next three.
        dim: length of the vectors.
        dropout: share of the features, and of the teacher's numbers, that are left out in training.
    """

    def __init__(self, width: int = 32, dim: int = 192, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = {"width": width, "dim": dim, "dropout": dropout}
        self.dropout = dropout
        self.pictures = JudgeNetwork(width, dim, dropout)
        self.texts = nn.Sequential(nn.Linear(TEACHER_DIM, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def see(self, images: torch.Tensor) -> torch.Tensor:
        """Unit vectors [B, dim] of pictures."""
        return F.normalize(self.pictures(images), dim=1)

    def read(self, taught: torch.Tensor) -> torch.Tensor:
        """Unit vectors [B, dim] of MiniLM vectors."""
        return F.normalize(self.texts(F.dropout(taught, self.dropout, self.training)), dim=1)


def load_judge(folder: Path) -> Judge:
    """Read a judge that this script wrote."""
    if not (folder / "judge.json").exists():
        raise SystemExit(f"{folder}: no judge there; run recipes/emoji/train_judge.py first")
    judge = Judge(**json.loads((folder / "judge.json").read_text())["config"])
    judge.load_state_dict(load_file(folder / "judge.safetensors"))
    return judge.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def texts_of(row: dict[str, object]) -> list[str]:
    """What the judge learns to read beside a picture: the canonical caption, the label, the label with its tags."""
    canonical, label = row["captions"][0], str(row["label"])  # type: ignore[index]
    return [canonical, label, ", ".join([label, *row["tags"]])]  # type: ignore[misc]


def disturb(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pictures [B, 3, S, S] in [-1, 1], moved, zoomed, of other brightness and contrast, half with a white patch."""
    count, _, side, _ = images.shape
    images = shift_and_scale(images, SHIFT, generator)
    contrast, brightness = 0.8 + 0.4 * torch.rand(2, count, 1, 1, 1, generator=generator)
    images = (images * contrast + brightness - 1).clamp(-1, 1)
    length = (torch.rand(count, generator=generator) * 2 - 1).clamp(min=0) * COVERED
    corner = torch.rand(2, count, generator=generator) * (side - length)
    place = torch.arange(side)
    inside = (place >= corner[..., None]) & (place < (corner + length)[..., None])  # [2, B, S]
    return images.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 1.0)


@torch.inference_mode()
def evaluate(judge: Judge, teacher: Teacher, data: Pictures, among: int) -> float:
    """Top-1 retrieval of the canonical caption of real pictures."""
    judge.eval()
    seen = torch.cat([judge.see(to_float(part)) for part in data.images.split(256)])
    score = retrieval(seen, judge.read(teacher.encode_once(data.canonical)), among)
    judge.train()
    return score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=WORK / "data")
    parser.add_argument("--out", type=Path, default=WORK / "judge")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--decay", type=float, default=0.2, help="weight decay of the matrices")
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    train = load_pictures(options.data / "train")
    pairs, whole = load_pictures(options.data / "held_out_pairs"), load_pictures(options.data / "held_out_emoji")
    teacher, judge = Teacher(), Judge(dropout=options.dropout)
    captions, caption_index = index_captions([texts_of(row) for row in train.rows])
    taught = teacher.encode_once(captions)
    matrices = [p for p in judge.parameters() if p.ndim > 1]
    others = [p for p in judge.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": options.decay}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.lr, options.steps, pct_start=0.05)
    start, order, log = time.time(), torch.empty(0, dtype=torch.long), []
    judge.to(memory_format=torch.channels_last)
    for step in range(options.steps):
        if len(order) < options.batch:
            order = torch.randperm(len(train.rows), generator=generator)
        chosen, order = order[: options.batch], order[options.batch :]
        images = disturb(to_float(train.images[chosen]), generator)
        variant = torch.randint(caption_index.shape[1], (options.batch,), generator=generator)
        scale = judge.log_scale.clamp(max=math.log(100)).exp()
        logits = scale * judge.see(images) @ judge.read(taught[caption_index[chosen, variant]]).T
        own = torch.arange(options.batch)
        loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 200 == 199 or step + 1 == options.steps:
            row = {"step": step + 1, "loss": loss.item(), "pairs_top1_of_100": evaluate(judge, teacher, pairs, 100)}
            row |= {"held_out_emoji_top1_of_100": evaluate(judge, teacher, whole, 100), "seconds": time.time() - start}
            log.append(row)
            print({key: round(value, 3) for key, value in row.items()}, flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in judge.state_dict().items()}, options.out / "judge.safetensors")
    (options.out / "judge.json").write_text(json.dumps({"config": judge.config, "log": log}, indent=1) + "\n")
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
