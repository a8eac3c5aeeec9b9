"""The small CLIP that the bundled model looks through: 64 px, 8 x 8 grid, its own byte-pair tokenizer.

    python recipes/emoji/train_clip.py --out recipes/emoji/work/clip

Pictures are contrasted with captions of the training split twice: with the text tower's vectors, and with the frozen
MiniLM teacher's, mapped by one learned matrix. The text tower is pulled towards that mapped teacher over captions and
over a list of words and phrases that no caption contains, so that "kitten" lands near "cat". In the end the text
projection is rescaled, once, so that the un-normalised sentence vector has a mean norm of 10 (as released CLIP's has).

A third of each batch are groups of look-alikes (one emoji in its styles and skin tones), which random batches hardly
ever bring together, and each picture is also contrasted with the mapped teacher vectors of a few thousand captions of
other pictures. Every 100 steps the state is written into `--out`; the same command goes on from it.

In a last stage (`--detail-steps`) the features that D taps also have to say, by one linear map each, what the pixels of
their patch are. Contrast alone keeps 3/4 of the detail within a patch; what the features leave out D cannot see, and G
then draws as it likes.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from clip_losses import LookAlikes, PixelReader, contrast, crowd_loss
from common import STYLES, WORK, Pictures, Teacher, index_captions, load_pictures, retrieval, shift_and_scale, to_float
from tokenizers import Tokenizer, models, trainers
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
EMBEDDING = 256
CONTEXT = 32
CROWD = 2048
"""Captions of other pictures that each picture is contrasted with, besides those of its batch."""
NAMING_STYLE = 8
"""The first captions of each picture, which name its style: without it, look-alikes would share a caption."""
PROGRESS = "progress.pt"
SENTENCE_NORM = 10.0
COLOURS = "red orange yellow green blue purple brown black white pink grey crimson golden turquoise".split()


def train_tokenizer(texts: list[str], size: int) -> CLIPTokenizer:
    """A byte-pair vocabulary in CLIP's own format, learned on `texts`."""
    reference = CLIPTokenizer()
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = reference.backend_tokenizer.normalizer
    learner.pre_tokenizer = reference.backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=size - 2,
        end_of_word_suffix="</w>",
        initial_alphabet=byte_alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    state = json.loads(learner.to_str())["model"]
    vocab = dict(sorted(state["vocab"].items(), key=lambda item: item[1]))
    for symbol in byte_alphabet():  # every byte can end a word too, so nothing is ever unknown
        vocab.setdefault(symbol + "</w>", len(vocab))
    for special in (BOS, EOS):
        vocab[special] = len(vocab)
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in state["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=CONTEXT)


def byte_alphabet() -> list[str]:
    """The 256 symbols that byte-level pairs are made of."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def build_clip(tokenizer: CLIPTokenizer, seed: int) -> CLIPModel:
    """An untrained CLIP of the preset `mini-64`'s shape."""
    torch.manual_seed(seed)
    vision = {
        "hidden_act": "gelu",
        "hidden_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "intermediate_size": 768,
    }
    vision |= {"image_size": 64, "patch_size": 8, "projection_dim": EMBEDDING}
    text = {
        "hidden_act": "gelu",
        "hidden_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
    }
    text |= {"vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT, "projection_dim": EMBEDDING}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text |= {"pad_token_id": tokenizer.pad_token_id}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=EMBEDDING))


def seed_token_embeddings(model: CLIPModel, tokenizer: CLIPTokenizer, teacher: Teacher) -> None:
    """Start each token's embedding at the teacher's vector of its spelling, reduced to the tower's width by PCA.

    Most words are one token, so that the tower begins with the teacher's notion of which words are near each other.
    """
    spellings = [""] * len(tokenizer)
    for token, index in tokenizer.get_vocab().items():
        spellings[index] = token.removesuffix("</w>") or "</w>"
    vectors = teacher.encode_once(spellings)
    centred = vectors - vectors.mean(0)
    weight = model.text_model.embeddings.token_embedding.weight
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    reduced = centred @ directions[: weight.shape[1]].T
    with torch.no_grad():
        weight.copy_(reduced / reduced.std() * 0.05)


def phrases(words: list[str], data: Pictures, count: int, seed: int) -> list[str]:
    """Words and phrases beyond the captions: every word, coloured and styled words, recombined labels and tags."""
    rng = random.Random(seed)
    names = sorted({str(row["label"]) for row in data.rows} | {tag for row in data.rows for tag in row["tags"]})
    made = list(words)
    while len(made) < count:
        noun = rng.choice(words if rng.random() < 0.5 else names)
        shape = rng.randrange(5)
        if shape == 0:
            made.append(f"{rng.choice(COLOURS)} {noun}")
        elif shape == 1:
            made.append(f"{rng.choice(STYLES)} emoji of {noun}")
        elif shape == 2:
            made.append(f"{rng.choice(STYLES)} emoji of {rng.choice(COLOURS)} {noun}")
        elif shape == 3:
            made.append(f"a {rng.choice(words)} {noun}")
        else:
            made.append(f"{noun} and {rng.choice(names)}")
    return made


class TextCache:
    """Token rows and teacher vectors of a list of texts, made once."""

    def __init__(self, texts: list[str], tokenizer: CLIPTokenizer, teacher: Teacher) -> None:
        rows = tokenizer(texts, truncation=True, max_length=CONTEXT, padding=True, return_tensors="pt")
        self.ids = rows["input_ids"]
        self.vectors = teacher.encode_once(texts)

    def batch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.ids[index], self.vectors[index]


def text_vectors(model: CLIPModel, ids: torch.Tensor) -> torch.Tensor:
    """Sentence vectors [B, D] of token rows padded with the end token; run in four groups of like length."""
    lengths = (ids != ids[:, -1:]).sum(1) + 1  # the start token to the first end token
    order = lengths.argsort()
    parts = []
    for group in order.chunk(4):
        rows = ids[group, : int(lengths[group].max())]
        parts.append(model.text_projection(model.text_model(input_ids=rows).pooler_output))
    return torch.cat(parts)[order.argsort()]


def image_vectors(model: CLIPModel, images: torch.Tensor, kept: float = 1.0) -> torch.Tensor:
    """Image vectors [B, D]: the first of `image_features`."""
    return image_features(model, images, kept)[0]


def image_features(
    model: CLIPModel, images: torch.Tensor, kept: float = 1.0
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Image vectors [B, D] of `images` in [-1, 1], mapped with CLIP's own mean and deviation, and all hidden states.

    With `kept` below 1 each picture shows a random part of its patches only, which costs as much less (Li et al.,
    "Scaling Language-Image Pre-training via Masking", 2023).
    """
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    tower = model.vision_model
    hidden = tower.embeddings(((images + 1) / 2 - mean) / std)  # [B, 1 + 64, C]
    if kept < 1:
        count = round(kept * (hidden.shape[1] - 1))
        shown = torch.rand(len(images), hidden.shape[1] - 1).argsort(1)[:, :count] + 1
        shown = torch.cat([torch.zeros(len(images), 1, dtype=torch.long), shown], dim=1)  # the class token always
        hidden = hidden.gather(1, shown[..., None].expand(-1, -1, hidden.shape[2]))
    states = [tower.pre_layrnorm(hidden)]
    for layer in tower.encoder.layers:
        hidden = states[-1] + layer.self_attn(hidden_states=layer.layer_norm1(states[-1]))[0]
        states.append(hidden + layer.mlp(layer.layer_norm2(hidden)))
    return model.visual_projection(tower.post_layernorm(states[-1][:, 0])), tuple(states[1:])


@torch.inference_mode()
def evaluate(model: CLIPModel, tokenizer: CLIPTokenizer, data: Pictures, among: int) -> float:
    """Top-1 retrieval of the canonical caption among `among` of the folder's captions."""
    model.eval()
    images = torch.cat([image_vectors(model, to_float(part)) for part in data.images.split(256)])
    ids = tokenizer(data.canonical, truncation=True, max_length=CONTEXT, padding=True, return_tensors="pt")["input_ids"]
    texts = torch.cat([text_vectors(model, part) for part in ids.split(256)])
    model.train()
    return retrieval(images, texts, among)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=WORK / "data")
    parser.add_argument("--out", type=Path, default=WORK / "clip")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--detail-steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--vocabulary", type=int, default=12288)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    train = load_pictures(options.data / "train")
    pairs, whole = load_pictures(options.data / "held_out_pairs"), load_pictures(options.data / "held_out_emoji")
    teacher = Teacher()
    words = teacher.words()
    captions, caption_index = index_captions(train.captions)
    # Words weigh more than captions in the vocabulary, so that most of them stay whole.
    tokenizer = train_tokenizer(captions + 40 * words, options.vocabulary)
    model = build_clip(tokenizer, options.seed)
    seed_token_embeddings(model, tokenizer, teacher)
    print(
        f"{len(train.rows)} pictures, {len(captions)} captions, {len(words)} words; encoding with the teacher",
        flush=True,
    )
    caption_cache = TextCache(captions, tokenizer, teacher)
    extra_cache = TextCache(phrases(words, train, 50_000, options.seed), tokenizer, teacher)
    mapping = torch.nn.Linear(384, EMBEDDING, bias=False)
    decayed = [p for p in model.parameters() if p.ndim > 1] + list(mapping.parameters())
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.98))

    def rate(step: int) -> float:
        share, length, top = step, options.steps, 1.0
        if step >= options.steps:  # the detail stage has its own, lower hill
            share, length, top = step - options.steps, options.detail_steps, 0.3
        warm = min(1.0, (share + 1) / (100 * top))
        return top * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share / length)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    log: list[dict[str, float]] = []
    progress, first, spent = options.out / PROGRESS, 0, 0.0
    look_alikes = LookAlikes(train)
    emoji_numbers = {key: number for number, key in enumerate(sorted({str(row["emoji"]) for row in train.rows}))}
    emoji_of = torch.tensor([emoji_numbers[str(row["emoji"])] for row in train.rows])
    if progress.exists():
        state = torch.load(progress, weights_only=True)
        model.load_state_dict(state["model"])
        mapping.load_state_dict(state["mapping"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        look_alikes.order, first, log, spent = state["order"], state["step"], state["log"], state["seconds"]
        print(f"going on after step {first}", flush=True)
    reader = PixelReader(model.config.vision_config.hidden_size, model.config.vision_config.patch_size)
    reader_optimiser = torch.optim.Adam(reader.parameters(), lr=0.3 * options.lr)
    if progress.exists() and "reader" in state:
        reader.load_state_dict(state["reader"])
        reader_optimiser.load_state_dict(state["reader_optimiser"])
    start, last = time.time() - spent, options.steps + options.detail_steps
    for step in range(first, last):
        chosen = look_alikes.draw(options.batch, generator)
        images = shift_and_scale(to_float(train.images[chosen]), 0.06, generator)
        variant = torch.randint(caption_index.shape[1], (options.batch,), generator=generator)
        variant[: look_alikes.grouped(options.batch)] %= NAMING_STYLE
        ids, taught = caption_cache.batch(caption_index[chosen, variant])
        extra = torch.randint(len(extra_cache.ids), (options.batch // 2,), generator=generator)
        extra_ids, extra_taught = extra_cache.batch(extra)
        # Whole pictures for the last quarter, so that the tower knows what it will be shown.
        kept = 0.5 if step < 0.75 * options.steps else 1.0
        seen, states = image_features(model, images, kept)
        said, target = text_vectors(model, ids), mapping(taught)
        extra_said, extra_target = text_vectors(model, extra_ids), mapping(extra_taught).detach()
        scale = model.logit_scale.clamp(max=math.log(100)).exp()
        loss_text, loss_teacher = contrast(seen, said, scale), contrast(seen, target, scale)
        distance = 1 - F.cosine_similarity(said, target.detach())
        extra_distance = 1 - F.cosine_similarity(extra_said, extra_target)
        loss_distil = distance.mean() + extra_distance.mean()
        others = torch.randint(len(train.rows), (CROWD,), generator=generator)
        same = emoji_of[chosen][:, None] == emoji_of[others][None]
        canonical = caption_cache.vectors[caption_index[others, 0]]
        loss_crowd = crowd_loss(seen, target, mapping(canonical), same, scale)
        loss = loss_text + (loss_teacher + loss_crowd) / 2 + 2 * loss_distil
        if step == options.steps:
            reader.solve(states, images)
        if step >= options.steps:
            loss_detail = reader(states, images)
            loss = loss + 2 * loss_detail
        optimiser.zero_grad(set_to_none=True)
        reader_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        reader_optimiser.step()
        schedule.step()
        if step % 50 == 49 or step + 1 == last:
            row = {"step": step + 1, "text": loss_text.item(), "teacher": loss_teacher.item()}
            row["crowd"] = loss_crowd.item()
            row |= {"distance": distance.mean().item(), "distance_words": extra_distance.mean().item()}
            if step >= options.steps:
                row["detail"] = loss_detail.item()
            if step % 200 == 199 or step + 1 == last:
                row["pairs_top1_of_500"] = evaluate(model, tokenizer, pairs, 500)
                row["held_out_emoji_top1_of_100"] = evaluate(model, tokenizer, whole, 100)
            row["seconds"] = time.time() - start
            log.append(row)
            print({key: round(value, 3) for key, value in row.items()}, flush=True)
        if step % 100 == 99:
            state = {"model": model.state_dict(), "mapping": mapping.state_dict(), "optimiser": optimiser.state_dict()}
            state |= {"schedule": schedule.state_dict(), "generator": generator.get_state()}
            state |= {"torch": torch.get_rng_state(), "order": look_alikes.order}
            state |= {"reader": reader.state_dict(), "reader_optimiser": reader_optimiser.state_dict()}
            state |= {"step": step + 1, "log": log, "seconds": time.time() - start}
            options.out.mkdir(parents=True, exist_ok=True)
            torch.save(state, progress.with_suffix(".writing"))
            progress.with_suffix(".writing").rename(progress)
    with torch.no_grad():
        model.eval()
        norms = torch.cat([text_vectors(model, part).norm(dim=1) for part in caption_cache.ids[::7].split(256)])
        model.text_projection.weight.mul_(SENTENCE_NORM / norms.mean())
    model.config.text_config.sentence_norm = model.config.sentence_norm = SENTENCE_NORM
    options.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    (options.out / "log.json").write_text(json.dumps(log, indent=1) + "\n")
    progress.unlink(missing_ok=True)
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
