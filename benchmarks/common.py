"""What the measurements share: networks of a preset's true shape, batches, a stopwatch, results."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerFast,
)

from galip.data.samples import Batch
from galip.distributed import Distributed
from galip.models.clip import FrozenCLIPVision
from galip.models.discriminator import MateDiscriminator
from galip.models.generator import MateGenerator
from galip.models.presets import PRESETS, Preset
from galip.training.config import TrainConfig
from galip.training.networks import Networks
from galip.training.step import GANStep
from galip.training.step_base import prepare_models
from galip.utils.atomic import write_json

RESULTS = Path(__file__).parent / "results"

_TINY_SHARED = {"vision_width": 32, "grid": 4, "cond_dim": 24}
_TINY = Preset(
    name="tiny",
    clip="",
    vision={
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "projection_dim": 24,
    },
    generator=_TINY_SHARED
    | {
        "z_dim": 8,
        "bridge_channels": 6,
        "bridge_hidden": 4,
        "bridge_blocks": 2,
        "prompt_blocks": (1, 2),
        "stem_channels": 16,
        "block_sizes": (8, 16, 32),
        "block_channels": (16, 12, 8),
        "clip_input": "standard",
    },
    discriminator=_TINY_SHARED | {"tap_blocks": (0, 1, 3), "out_channels": 20, "assessor_channels": 8},
    image_size=32,
)
SIZES: dict[str, Preset] = {"tiny": _TINY, **PRESETS}
"""The package's presets, and one that is all overhead."""

# Width, MLP width, depth, heads, context and vocabulary of the text towers that come with the presets' ViTs.
_TEXT = dict.fromkeys(("released-b32-224", "b32-224", "b16-224"), (512, 2048, 12, 8, 77, 49408))
_TEXT |= {"l14-256": (768, 3072, 12, 12, 77, 49408), "mini-64": (256, 1024, 3, 4, 32, 12493)}
_TEXT |= {"tiny": (32, 64, 2, 2, 77, 64)}

# Captions about as long as COCO's: ten words, a dozen tokens.
_WORDS = {
    "colour": "red blue green yellow black white brown pink".split(),
    "thing": "dog cat bus train horse bird boat kite pizza clock bench surfer".split(),
    "does": "beside behind above near facing under".split(),
    "place": "street kitchen park harbour field station".split(),
}
_GLUE = "a in the".split()
_STRIDE = 7919  # shares no factor with any group


# ---- networks and batches


def random_networks(size: str, seed: int = 0) -> Networks:
    """Networks of a named size with random weights, none of them all zero, as `build_networks` would hand them out.

    Args:
        size: a key of `SIZES`.
        seed: of the weights.
    """
    preset, (width, mlp, depth, heads, context, vocabulary) = SIZES[size], _TEXT[size]
    torch.manual_seed(seed)
    text = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        max_position_embeddings=context,
        vocab_size=vocabulary,
        projection_dim=preset.vision["projection_dim"],
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=0,
    )
    text_encoder = CLIPTextModelWithProjection(text).requires_grad_(False).eval()
    vision = CLIPVisionModelWithProjection(CLIPVisionConfig(**preset.vision))
    generator, discriminator = MateGenerator(**preset.generator), MateDiscriminator(**preset.discriminator)
    with torch.no_grad():  # what starts at zero would hide mistakes in what is multiplied with it
        for parameter in (*generator.parameters(), *discriminator.parameters()):
            if not parameter.any():
                parameter.normal_(std=0.1)
    for name, parameter in discriminator.named_parameters():
        parameter.requires_grad_(".dead_shortcut." not in name)
    return Networks(
        _tokenizer(vocabulary, context),
        text_encoder,
        FrozenCLIPVision(vision, preset.generator["clip_input"]),
        generator,
        discriminator,
    )


def _tokenizer(vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """A token for each word of the captions; start and end have CLIP's places at the vocabulary's end."""
    words = ["<pad>", "<unk>", *_GLUE, *(word for group in _WORDS.values() for word in group)]
    places = {word: place for place, word in enumerate(words)}
    places |= {"<start>": vocabulary - 2, "<end>": vocabulary - 1}
    core = Tokenizer(models.WordLevel(places, unk_token="<unk>"))
    core.normalizer, core.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[(token, places[token]) for token in ("<start>", "<end>")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", eos_token="<end>", model_max_length=context
    )


def captions(count: int, start: int = 0) -> list[str]:
    """`count` captions, all different."""
    return [_caption(number) for number in range(start, start + count)]


def _caption(number: int) -> str:
    groups = [_WORDS[name] for name in ("colour", "thing", "does", "colour", "thing", "place")]
    several = math.prod(map(len, groups))
    if number >= several:
        raise ValueError(f"caption {number}: there are {several}")
    place = number * _STRIDE % several  # neighbours differ in more than a word
    words = []
    for group in groups:
        place, which = divmod(place, len(group))
        words.append(group[which])
    return "a {} {} {} a {} {} in the {}".format(*words)


def random_batch(networks: Networks, size: int, number: int, rank: int = 0, world: int = 1) -> Batch:
    """One process's part of the run's batch with this number: random pixels, captions that are all different.

    Args:
        networks: tell the size of the pictures.
        size: samples of this process.
        number: of the batch.
        rank, world: which process this is, and of how many.
    """
    side = networks.generator.image_size
    random = torch.Generator().manual_seed(number * world + rank)
    images = torch.randint(256, (size, 3, side, side), generator=random, dtype=torch.uint8)
    first = number * size * world + rank
    indices = [first + world * place for place in range(size)]
    return Batch(images, [captions(1, index)[0] for index in indices], indices)


def run_config(batch: int, device: str = "cpu", **performance: Any) -> TrainConfig:
    """A run with the paper's constants and this batch; `performance` is more of that section."""
    sections = {"schedule": {"images": batch, "batch": batch}, "performance": {"device": device, **performance}}
    return TrainConfig.model_validate({"name": "benchmark", "data": {"source": "."}, **sections})


def our_step(networks: Networks, batch: int, distributed: Distributed) -> GANStep:
    """The trainer's step on these networks, which are prepared as the trainer does it."""
    prepare_models(networks, distributed.device)
    networks.text_encoder.to(distributed.device)
    return GANStep(networks, run_config(batch), distributed)


# ---- measuring


class Stopwatch:
    """Seconds spent in labelled blocks, or in chosen methods of an object, call by call."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def timing(self, label: str) -> Iterator[None]:
        """Time what happens in a `with` block."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[label].append(time.perf_counter() - begun)

    def watch(self, holder: Any, method: str, *labels: str | None) -> None:
        """Time `holder.method` from now on; its calls get the labels in turn, and one labelled None is not timed."""
        plain: Callable[..., Any] = getattr(holder, method)
        calls = 0

        def timed(*args: Any, **options: Any) -> Any:
            nonlocal calls
            label = labels[calls % len(labels)]
            calls += 1
            with nullcontext() if label is None else self.timing(label):
                return plain(*args, **options)

        setattr(holder, method, timed)

    def medians(self, skip: int = 0) -> dict[str, float]:
        """Median seconds of each label, without its first `skip` calls."""
        return {label: median(times[skip:]) for label, times in self.seconds.items()}


def median(values: Sequence[float]) -> float:
    """The middle value; of an even number the mean of the two in the middle."""
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


# ---- results


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result)
    print(f"\nwritten to {path}")


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A markdown table; numbers with three figures."""
    lines = [list(head), ["---"] * len(head), *([_cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
