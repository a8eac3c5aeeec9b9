"""The small CLIP that the bundled model looks through: 128 px, 8 x 8 grid, its own byte-pair tokenizer.

    python recipes/emoji/train_clip.py --data recipes/emoji/work/data --out recipes/emoji/work/clip

Images, on random plain colours, are contrasted with captions twice: with the text tower's vectors, and with those of
the adapter, a small network over the frozen MiniLM teacher's vector of the subject. The text tower is pulled towards
the adapter over captions, words and phrases that no caption contains, so that "kitten" lands near "cat". Most of each
batch is what is easily confused: one emoji in its styles and skin tones, and captions whose vectors are near at the
time ("four o'clock", "eleven o'clock"). From both kinds of vectors a thumbnail of the image must be readable, so that
what looks different has different vectors, and from the features that D taps the pixels of their patch.

The rate is constant but for its beginning and the last quarter of `--steps`, which may be changed while the training is
stopped. SIGTERM stops it; the same command goes on. In the end the text projection is rescaled, once, so that the
un-normalised sentence vector has a mean norm of 10 (as released CLIP's has).
"""

from __future__ import annotations

import argparse
import json
import math
import random
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from clip_losses import (
    THUMBNAIL,
    Adapter,
    Confusing,
    ImageBank,
    PixelReader,
    ThumbnailReader,
    contrast,
    crowd_loss,
    seed_patches,
)
from clip_text import CONTEXT, NO_STYLE, Speaker, Text, seed_token_embeddings, text_vectors, token_ids
from emoji_common import WORK, Teacher, retrieval
from images import EmojiImages, colours, jittered, load_images, on_colour
from interruptible import Interruptible
from muon import Muon
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from galip.training.clip_training.tokenizer import train_tokenizer

EMBEDDING, IMAGE_SIZE, PATCH = 256, 128, 16
CROWD = 1024
"""Captions of other images that each image is contrasted with, besides those of its batch."""
SENTENCE_NORM = 10.0


def build_clip(tokenizer: CLIPTokenizer, seed: int) -> CLIPModel:
    """An untrained CLIP."""
    torch.manual_seed(seed)
    shape = {"hidden_act": "gelu", "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    shape |= {"intermediate_size": 1024, "projection_dim": EMBEDDING}
    text = shape | {"vocab_size": len(tokenizer), "max_position_embeddings": 32}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text |= {"pad_token_id": tokenizer.pad_token_id}
    vision = shape | {"image_size": IMAGE_SIZE, "patch_size": PATCH}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=EMBEDDING))


def image_features(model: CLIPModel, images: Tensor, kept: float = 1.0) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """Image vectors [B, D] of `images` in [-1, 1], all hidden states, and the numbers of the patches shown [B, K].

    With `kept` below 1 each image shows a random part of its patches only, which costs as much less (Li et al.,
    "Scaling Language-Image Pre-training via Masking", 2023).
    """
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    tower = model.vision_model
    hidden = tower.embeddings(((images + 1) / 2 - mean) / std)  # [B, 1 + 64, C]
    patches = hidden.shape[1] - 1
    shown = torch.arange(patches).expand(len(images), -1)
    if kept < 1:
        shown = torch.rand(len(images), patches).argsort(1)[:, : round(kept * patches)]
        rows = torch.cat([torch.zeros(len(images), 1, dtype=torch.long), shown + 1], dim=1)  # the class token always
        hidden = hidden.gather(1, rows[..., None].expand(-1, -1, hidden.shape[2]))
    states = [tower.pre_layrnorm(hidden)]
    for layer in tower.encoder.layers:
        hidden = states[-1] + layer.self_attn(hidden_states=layer.layer_norm1(states[-1]))[0]
        states.append(hidden + layer.mlp(layer.layer_norm2(hidden)))
    return model.visual_projection(tower.post_layernorm(states[-1][:, 0])), tuple(states[1:]), shown


@torch.inference_mode()
def see(model: CLIPModel, data: EmojiImages) -> Tensor:
    """Image vectors [N, D], on white."""
    parts = torch.arange(len(data.rows)).split(128)
    return torch.cat([image_features(model, on_colour(data.batch(part)))[0] for part in parts])


@torch.inference_mode()
def read(model: CLIPModel, tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Sentence vectors [N, D]."""
    return torch.cat([text_vectors(model, part) for part in token_ids(tokenizer, texts).split(256)])


class Training(nn.Module):
    """The CLIP with what helps it to learn.

    Args:
        train: the training images.
        options: of the command.
    """

    def __init__(self, train: EmojiImages, options: argparse.Namespace) -> None:
        super().__init__()
        teacher = Teacher(options.teacher)
        words = teacher.words()
        self.speaker = Speaker(train.rows, words, options.phrases, options.seed)
        rng = random.Random(options.seed)
        said = [self.speaker.any(number, rng).words for number in range(len(train.rows))]
        # Words weigh more than captions in the vocabulary, so that most of them stay whole.
        self.tokenizer = train_tokenizer(said + 4 * words + 2 * self.speaker.subjects, options.vocabulary, CONTEXT)
        self.clip = build_clip(self.tokenizer, options.seed)
        seed_token_embeddings(self.clip, self.tokenizer, teacher)
        self.taught = teacher.encode_once(self.speaker.subjects)  # [subjects, 384]
        self.adapter, self.thumbnails = Adapter(EMBEDDING, NO_STYLE + 1), ThumbnailReader(EMBEDDING)
        self.pixels = PixelReader(256, PATCH)
        self.bank = ImageBank(len(train.rows), EMBEDDING)
        self.confusing = Confusing(train.rows, train.weights)
        self.train_images = train
        self.small, self.small_variance = self._small(options.out / "thumbnails.pt")
        some = torch.multinomial(train.weights, 600, generator=torch.Generator().manual_seed(0))
        patches = F.unfold(on_colour(train.batch(some)), PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1)
        seed_patches(self.clip.vision_model.embeddings.patch_embedding.weight, patches)
        untoned = {row["base"]: number for number, row in enumerate(train.rows)}
        untoned |= {row["base"]: number for number, row in enumerate(train.rows) if row["base"] == row["emoji"]}
        self.base_subjects = [self.speaker.said_of[untoned[base]][0] for base in self.confusing.bases]
        self.confusing.refresh(F.normalize(self.taught[self.base_subjects], dim=1))

    def _small(self, kept: Path) -> tuple[Tensor, float]:
        if not kept.exists():
            parts = torch.arange(len(self.train_images.rows)).split(256)
            pooled = [F.adaptive_avg_pool2d(self.train_images.batch(part), THUMBNAIL).flatten(1) for part in parts]
            torch.save(torch.cat(pooled).half(), kept)
        small = torch.load(kept, weights_only=True)
        return small, float(small[::7].float().var(0).mean())

    def texts(self, texts: list[Text]) -> tuple[Tensor, Tensor]:
        """The tower's and the adapter's vectors of texts."""
        said = text_vectors(self.clip, token_ids(self.tokenizer, [text.words for text in texts]))
        return said, self.adapt([text.subject for text in texts], [text.style for text in texts])

    def adapt(self, subjects: list[int], styles: list[int]) -> Tensor:
        """The adapter's vectors."""
        vectors: Tensor = self.adapter(self.taught[subjects], torch.tensor(styles))
        return vectors

    def losses(self, batch: int, kept: float, rng: random.Random, generator: torch.Generator) -> dict[str, Tensor]:
        """One step's terms, weighted."""
        speaker = self.speaker
        chosen, grouped = self.confusing.draw(batch, rng)
        images = jittered(self.train_images.batch(chosen), 0.06, generator)
        images = on_colour(images, colours(len(chosen), generator))
        numbers = chosen.tolist()
        captions = [
            speaker.naming_style(number, rng) if place < grouped else speaker.any(number, rng)
            for place, number in enumerate(numbers)
        ]
        # Further captions without their images, which cost little, and phrases that have none.
        others = torch.multinomial(self.confusing.weights, batch // 2, generator=generator)
        more, near = self.confusing.draw(batch // 2, rng)
        others = torch.cat([others, more[:near]])
        captions_alone = [speaker.naming_style(number, rng) for number in others.tolist()]
        phrases = [speaker.phrase(rng) for _ in range(batch)]
        said, target = self.texts(captions + captions_alone + phrases)
        alone = slice(batch, batch + len(others))
        own, own_target = said[:batch], target[:batch]
        seen, states, shown = image_features(self.clip, images, kept)
        scale = self.clip.logit_scale.clamp(max=math.log(100)).exp()
        crowd = torch.randint(len(self.speaker.styles), (CROWD,), generator=generator)
        crowd_list = crowd.tolist()
        canonical = self.adapt([speaker.said_of[n][0] for n in crowd_list], [speaker.styles[n] for n in crowd_list])
        small = self.small[others].float()
        distances = 1 - F.cosine_similarity(said, target.detach())
        # What the teacher tells apart too little the tower may tell apart better: captions are pulled less.
        result = {
            "text": contrast(seen, own, scale),
            "teacher": contrast(seen, own_target, scale) / 2,
            "crowd": crowd_loss(seen, own_target, canonical, chosen[:, None] == crowd[None], scale) / 2,
            "bank": self.bank.loss(said[alone], others, scale) / 2,
            "bank_teacher": self.bank.loss(target[alone], others, scale) / 4,
            "distil": distances[: alone.stop].mean(),
            "distil_phrases": 2 * distances[alone.stop :].mean(),
            "thumbnails": self.thumbnails(said[alone], small, self.small_variance),
            "thumbnails_teacher": self.thumbnails(target[alone], small, self.small_variance) / 2,
            "pixels": self.pixels(states, images, shown),
        }
        self.newest = chosen, seen.detach()
        return result

    def refresh(self) -> None:
        """Find anew which captions are near each other."""
        subjects = [self.speaker.subjects[number] for number in self.base_subjects]
        vectors = read(self.clip, self.tokenizer, [f"emoji of {subject}" for subject in subjects])
        self.confusing.refresh(F.normalize(vectors, dim=1))


def measured(training: Training, pairs: EmojiImages, whole: EmojiImages) -> dict[str, float]:
    """Retrieval of held-out images' canonical captions, and how near the captions of bases are to each other."""
    clip, tokenizer = training.clip, training.tokenizer
    result = {}
    for name, data, among in (("pairs_top1_of_500", pairs, 500), ("held_out_emoji_top1_of_100", whole, 100)):
        result[name] = retrieval(see(clip, data), read(clip, tokenizer, data.canonical), among)
    training.refresh()
    cosines = training.confusing.hardness.sqrt()
    result |= {"nearest_base_median": float(cosines.median()), "nearest_base_over_0.9": float((cosines > 0.9).sum())}
    return result


def rate_at(step: int, steps: int) -> float:
    """The rate as a part of its maximum: warm-up, constant, and a quarter of the steps down to 0.01."""
    return min(1.0, (step + 1) / 100, 0.01 + 0.99 * (steps - step) / (steps / 4))


def save(training: Training, out: Path, log: list[dict[str, float]]) -> None:
    """Write the CLIP as transformers reads it, its sentence vectors scaled."""
    clip = training.clip.eval()
    with torch.no_grad():
        sample = [training.speaker.canonical(number).words for number in range(0, len(training.speaker.styles), 9)]
        norm = read(clip, training.tokenizer, sample).norm(dim=1).mean()
        weight = clip.text_projection.weight.clone()
        clip.text_projection.weight.mul_(SENTENCE_NORM / norm)
        clip.config.text_config.sentence_norm = clip.config.sentence_norm = SENTENCE_NORM
        clip.save_pretrained(out)
        clip.text_projection.weight.copy_(weight)
    training.tokenizer.save_pretrained(out)
    (out / "log.json").write_text(json.dumps(log, indent=1) + "\n")
    clip.train()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=WORK / "data")
    parser.add_argument(
        "--teacher", type=Path, default=WORK / "teacher", help="folder that keeps the teacher's vectors"
    )
    parser.add_argument("--out", type=Path, default=WORK / "clip")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--phrases", type=int, default=30_000)
    parser.add_argument("--vocabulary", type=int, default=12288)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    keeping = Interruptible(options.out / "progress.pt")
    torch.manual_seed(options.seed)
    train = load_images(options.data / "train")
    pairs, whole = (load_images(options.data / name) for name in ("held_out_pairs", "held_out_emoji"))
    pairs = pairs.select(pairs.untoned())
    training = Training(train, options)
    print(f"{len(train.rows)} images, {len(training.speaker.subjects)} subjects", flush=True)
    inner = [p for name, p in training.clip.named_parameters() if ".encoder.layers." in name and p.ndim == 2]
    others = [p for p in training.parameters() if all(p is not one for one in inner)]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimisers = [torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.98)), Muon(inner, options.lr, 0.95, 0.1)]
    log: list[dict[str, float]] = []
    first = 0
    if state := keeping.load():
        training.load_state_dict(state["model"])
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        training.bank.vectors = state["bank"]
        log, first = state["log"], state["step"]
        training.refresh()
        print(f"going on after step {first}", flush=True)
    sums: dict[str, float] = {}
    for step in range(first, options.steps):
        rng, generator = random.Random(f"{options.seed} {step}"), torch.Generator().manual_seed(step)
        torch.manual_seed(step)
        for group in (group for optimiser in optimisers for group in optimiser.param_groups):
            group["lr"] = options.lr * rate_at(step, options.steps)
        # Whole images for the last fifth, so that the tower knows what it will be shown.
        terms = training.losses(options.batch, 0.4 if step < 0.8 * options.steps else 1.0, rng, generator)
        training.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(training.parameters(), 5.0)
        for optimiser in optimisers:
            optimiser.step()
        training.bank.put(*training.newest)
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + float(term) / 50
        done = step + 1
        if done % 50 == 0 or done == options.steps:
            row: dict[str, Any] = {"step": done, **sums}
            if done % 200 == 0 or done == options.steps:
                row |= measured(training, pairs, whole)
            row["seconds"] = keeping.seconds_spent
            log.append(row)
            sums = {}
            print(" ".join(f"{key} {value:.3f}" for key, value in row.items()), flush=True)
        if keeping.due() or done == options.steps:
            state = {"model": training.state_dict(), "bank": training.bank.vectors, "log": log, "step": done}
            keeping.save(state | {"optimisers": [optimiser.state_dict() for optimiser in optimisers]})
    save(training, options.out, log)
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
