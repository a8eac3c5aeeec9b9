"""The second eye: a small convolutional network that learns on real images alone to tell the emoji apart.

    python recipes/emoji/train_eye.py --data recipes/emoji/work/data --out recipes/emoji/work/eye

A class is an emoji without its skin tones, in all styles. Images are moved, zoomed, turned a little, laid on random
colours, blurred, made brighter or darker, and partly covered: the eye has to recognise generated images, which it never
saw. How it does on held-out styles of an emoji is written into `eye.json`. It is used in no loss.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from emoji_common import WORK
from eyes import EyeNet
from images import EmojiImages, colours, load_images, on_colour
from interruptible import Interruptible
from safetensors.torch import save_file
from torch import Tensor

COVERED = 24
"""Side in pixels of the largest patch that is covered; half of the images have one."""


def disturbed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Premultiplied images [B, 4, 128, 128] as the eye is shown them in training: [B, 3, 64, 64] in [-1, 1]."""
    count = len(images)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator)

    angle, zoom = (uniform() - 0.5) * 0.35, 1 + (uniform() - 0.5) * 0.3
    theta = torch.stack([torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)], 1).view(-1, 2, 2)
    theta = torch.cat([theta * zoom[:, None, None], (uniform(2, 1) - 0.5) * 0.3], dim=2)
    small = F.avg_pool2d(images, 2)
    grid = F.affine_grid(theta, [count, 4, 64, 64], align_corners=False)
    shown = F.grid_sample(small, grid, padding_mode="zeros", align_corners=False)
    shown = on_colour(shown, colours(count, generator))
    soft = F.interpolate(F.avg_pool2d(shown, 2), scale_factor=2.0, mode="bilinear")
    amount = (uniform(1, 1, 1) * 2 - 1).clamp(min=0)
    shown = shown.lerp(soft, amount)
    contrast, brightness = 0.7 + 0.6 * uniform(1, 1, 1), 0.3 * (uniform(3, 1, 1) - 0.5)
    shown = (shown * contrast + brightness).clamp(-1, 1)
    length = (uniform() * 2 - 1).clamp(min=0) * COVERED
    corner = torch.rand(2, count, generator=generator) * (64 - length)
    place = torch.arange(64)
    inside = (place >= corner[..., None]) & (place < (corner + length)[..., None])
    cover = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
    return torch.where(cover, uniform(3, 1, 1) * 2 - 1, shown)


@torch.inference_mode()
def accuracy(eye: EyeNet, data: EmojiImages, classes: dict[str, int]) -> float:
    """Share of images on white whose class is the likeliest."""
    eye.eval()
    hits = []
    numbers = torch.arange(len(data.rows))
    for part in numbers.split(128):
        logits = eye(F.avg_pool2d(on_colour(data.batch(part)), 2))
        hits.append(logits.argmax(1) == torch.tensor([classes[data.rows[i]["base"]] for i in part.tolist()]))
    eye.train()
    return float(torch.cat(hits).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=WORK / "data")
    parser.add_argument("--out", type=Path, default=WORK / "eye")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    keeping = Interruptible(options.out / "progress.pt")
    torch.manual_seed(options.seed)
    train, pairs = load_images(options.data / "train"), load_images(options.data / "held_out_pairs")
    pairs = pairs.select(pairs.untoned())
    classes = {base: number for number, base in enumerate(sorted({row["base"] for row in train.rows}))}
    labels = torch.tensor([classes[row["base"]] for row in train.rows])
    eye = EyeNet(len(classes)).to(memory_format=torch.channels_last)
    matrices = [p for p in eye.parameters() if p.ndim > 1]
    vectors = [p for p in eye.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.98))
    first, log = 0, []
    if state := keeping.load():
        eye.load_state_dict(state["eye"])
        optimiser.load_state_dict(state["optimiser"])
        first, log = state["step"], state["log"]
    for step in range(first, options.steps):
        generator = torch.Generator().manual_seed(1000 * options.seed + step)
        torch.manual_seed(step)
        for group in optimiser.param_groups:
            group["lr"] = options.lr * min(1, step / 100) * (0.5 + 0.5 * math.cos(math.pi * step / options.steps))
        chosen = torch.multinomial(train.weights, options.batch, generator=generator)
        logits = eye(disturbed(train.batch(chosen), generator))
        loss = F.cross_entropy(logits, labels[chosen], label_smoothing=0.05)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        done = step + 1
        if done % 100 == 0 or done == options.steps:
            row = {"step": done, "loss": loss.item(), "accuracy": (logits.argmax(1) == labels[chosen]).float().mean()}
            row = {name: float(value) for name, value in row.items()}
            if done % 400 == 0 or done == options.steps:
                row["held_out_styles"] = accuracy(eye, pairs, classes)
            log.append(row | {"seconds": keeping.seconds_spent})
            print(" ".join(f"{name} {value:.3f}" for name, value in log[-1].items()), flush=True)
        if keeping.due() or done == options.steps:
            keeping.save({"eye": eye.state_dict(), "optimiser": optimiser.state_dict(), "step": done, "log": log})
    save_file({name: value.contiguous() for name, value in eye.state_dict().items()}, options.out / "eye.safetensors")
    (options.out / "eye.json").write_text(json.dumps({"config": eye.config, "log": log}, indent=1) + "\n")
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
