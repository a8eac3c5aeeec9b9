"""The configuration of a training run: one typed tree, every field described where it is declared.

A YAML file holds it; `section.field=value` on the command line wins over the file; the resolved tree is saved with the
run. A field that does not exist, or a value out of range, is one error that names it.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from galip.errors import GalipError, InputError
from galip.evaluation.metrics.registry import METRICS, numbers_of

Precision = Literal["fp32", "bf16", "fp16"]
Tracker = Literal["tensorboard", "wandb", "trackio"]


class Section(BaseModel):
    """A part of the tree: unknown fields are errors, values cannot change once they are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(Section):
    """Which networks are trained, and through which CLIP they look."""

    preset: str = Field("b32-224", description="named sizes, see galip.models.presets")
    clip: str = Field("", description="CLIP: a folder or hub id; empty means the preset's usual one")
    generator: dict[str, Any] = Field(default_factory=dict, description="MateGenerator arguments that differ")
    discriminator: dict[str, Any] = Field(default_factory=dict, description="MateDiscriminator arguments that differ")
    start_from: str = Field("", description="model folder whose generator and discriminator are trained on")
    text: str = Field("", description="T5 (a folder or hub id) that conditions instead of CLIP's text encoder")
    text_scale: float | None = Field(
        None, gt=0, description="factor for T5's vectors; None: measured, so that their mean norm is 10"
    )
    second_clip: str = Field("", description="another CLIP, for loss.similarity_second and evaluation")


class DataConfig(Section):
    """The captioned pictures."""

    source: str = Field(description="folder of captioned pictures, shard folder, or pattern of (remote) shards")
    shorter_side: int | None = Field(
        None, gt=0, le=1 << 14, description="shorter side before the crop; None: the picture size"
    )
    flip: bool = Field(False, description="mirror half of the pictures, never where the caption says left or right")
    workers: int = Field(0, ge=0, description="loader processes; 0 reads in the training process")
    cache_mb: int = Field(512, ge=0, description="memory for decoded pictures that need no resizing")
    shuffle_buffer: int = Field(1000, ge=1, description="records held for shuffling; streamed shards only")
    channels: Literal[3, 4] = Field(3, description="3: RGB, transparent parts laid on white; 4: RGBA")
    weighted: bool = Field(False, description="draw records as often as the field weight in their JSON says")
    max_broken: float = Field(
        0.01,
        ge=0,
        le=1,
        validation_alias=AliasChoices("max_broken", "most_broken"),
        description="share of broken records that a run puts up with",
    )
    max_broken_shards: int = Field(
        1,
        ge=0,
        validation_alias=AliasChoices("max_broken_shards", "most_broken_shards"),
        description="broken shards that a run puts up with",
    )


class LossConfig(Section):
    """The objective's constants (paper, section 3.4)."""

    similarity: float = Field(4.0, ge=0, description="lambda, weight of the CLIP similarity")
    penalty_k: float = Field(2.0, ge=0, description="k, weight of the gradient penalty")
    penalty_p: float = Field(6.0, gt=0, description="p, its power")
    penalty_form: Literal["released", "paper"] = Field("released", description="formula of the penalty")
    similarity_second: float = Field(0.0, ge=0, description="weight of the similarity in model.second_clip")
    paired: float = Field(
        0.0,
        ge=0,
        description="weight of G's energy score: L1 to the caption's real picture, less L1 to another drawn one",
    )
    r1: float = Field(0.0, ge=0, description="gamma of R1 on the taps: gamma/2 |g_C|^2 of real pictures")
    shift: float = Field(
        0.0, ge=0, le=0.5, description="random translation, real and drawn alike, in parts of the side"
    )
    colour: float = Field(
        0.0,
        ge=0,
        le=1,
        description="random brightness, saturation and contrast, real and drawn alike; 1 is DiffAugment's",
    )
    cutout: float = Field(
        0.0, ge=0, lt=1, description="side of a grey square, real and drawn alike, in parts of the side"
    )


class OptimizerConfig(Section):
    """Adam for both networks."""

    lr_generator: float = Field(1e-4, gt=0)
    lr_discriminator: float = Field(4e-4, gt=0)
    betas: tuple[float, float] = (0.0, 0.9)
    warmup: int = Field(0, ge=0, description="images over which both rates rise from zero")
    decay: Literal["none", "linear", "cosine"] = Field("none", description="fall of both rates until run.images")
    decay_to: float = Field(0.0, ge=0, le=1, description="share of the rates that is left in the end")


class RunConfig(Section):
    """How long, how, and what is written when. Everything is counted in images seen."""

    seed: int = Field(0, ge=0, lt=2**63, description="of initial weights, order, crops, captions and noise")
    images: int = Field(gt=0, description="train until so many pictures have been seen")
    batch: int = Field(64, ge=2, description="pictures in one step, over all processes and micro-batches")
    micro_batch: int | None = Field(
        None, ge=1, description="pictures that one process holds at once; None: its whole share of the batch"
    )
    precision: Precision = "fp32"
    device: str = Field("auto", description="auto: CUDA if there is one, else CPU")
    threads: int = Field(0, ge=0, description="CPU threads; 0: torch's own choice")
    channels_last: bool | None = Field(
        None, description="memory layout; None: on a GPU only, as a CPU's weight gradients are slower in it"
    )
    compile: bool = Field(False, description="torch.compile for the generator and the ViT's two views")
    cuda_graph: bool = Field(
        False, description="record the step and replay it: for networks so small that launching them takes the time"
    )
    checkpoint_vit: bool = Field(False, description="recompute the ViT's blocks in the backward pass to save memory")
    text_cache: int = Field(500_000, ge=0, description="cache text vectors where there are at most so many captions")
    ema_half_life: int = Field(10_000, gt=0, description="of the averaged generator, in images")
    ema_ramp: float | None = Field(
        0.05, gt=0, description="half-life at most this share of the images seen; None: fixed"
    )
    log_every: int = Field(1_000, gt=0, description="images between two log rows")
    checkpoint_every: int = Field(10_000, gt=0, description="images between two checkpoints")
    keep: int = Field(2, ge=1, description="newest checkpoints kept")
    keep_every: int = Field(0, ge=0, description="also keep a checkpoint each time so many images have passed; 0: none")
    grid_every: int = Field(10_000, gt=0, description="images between two sample grids")
    grid_captions: tuple[str, ...] = Field((), description="captions of the grid; empty: the first of the data")
    grid_seeds: int = Field(4, ge=1, description="pictures per caption in the grid, seeds 0, 1, ...")
    keep_grids_as: Literal["png", "webp"] = "png"
    trackers: tuple[Tracker, ...] = Field(("tensorboard",), description="where the log goes besides log.jsonl")


class EvaluationConfig(Section):
    """Scores of the averaged generator while it trains."""

    every: int = Field(0, ge=0, description="images between two evaluations; 0: none")
    source: str = Field("", description="captioned pictures to evaluate on; empty: the training data")
    captions: int = Field(256, ge=2, description="captions drawn for the quick scores, seed 0")
    metrics: tuple[str, ...] = Field((), description="metrics of galip evaluate as well, e.g. [fid, clip_score]")
    pictures: int = Field(1000, ge=2, description="pictures drawn for these metrics")
    weights: dict[str, str] = Field({}, description="weights of their feature networks, by name")
    keep_best: str = Field("", description="score by which the best checkpoint is kept; empty: none")


class GuardConfig(Section):
    """What is done about collapse, judged by the means of each log row."""

    collapse: Literal["off", "warn", "return"] = Field(
        "warn", description="return: go back to the best (else the last sound) checkpoint with lower rates"
    )
    least_diversity: float = Field(
        0.4, ge=0, lt=1, description="drawn pictures' spread in CLIP space, share of its best"
    )
    least_similarity: float = Field(0.5, ge=0, lt=1, description="CLIP similarity, share of its best")
    most_margin: float = Field(12.0, gt=0, description="D's mean score of real minus that of drawn pictures")
    patience: int = Field(3, ge=1, description="log rows in a row beyond a bound before anything is done")
    lower_rates: float = Field(0.5, gt=0, le=1, description="what both rates are multiplied with at each return")
    most_returns: int = Field(3, ge=1, description="after so many returns the run stops")


class TrainConfig(Section):
    """A whole run. `name` is what the trained model will call itself."""

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    description: str = ""
    licence: str = Field("", description="licence of the trained weights, for the model card")
    model: ModelConfig = ModelConfig()  # type: ignore[call-arg]
    data: DataConfig
    loss: LossConfig = LossConfig()  # type: ignore[call-arg]
    optimizer: OptimizerConfig = OptimizerConfig()  # type: ignore[call-arg]
    run: RunConfig
    evaluation: EvaluationConfig = EvaluationConfig()  # type: ignore[call-arg]
    guard: GuardConfig = GuardConfig()  # type: ignore[call-arg]

    @model_validator(mode="after")
    def _second_clip_is_named(self) -> TrainConfig:
        asked = self.loss.similarity_second > 0 or self.evaluation.keep_best == "clip_score_second"
        if asked and not self.model.second_clip:
            raise ValueError(
                "loss.similarity_second or evaluation.keep_best asks for model.second_clip, which is empty; "
                "name a CLIP folder or hub id"
            )
        return self

    @model_validator(mode="after")
    def _best_needs_evaluation(self) -> TrainConfig:
        if self.evaluation.keep_best and not self.evaluation.every:
            raise ValueError("evaluation.keep_best is set, but evaluation.every is 0; say after how many images")
        return self

    @model_validator(mode="after")
    def _scores_are_known(self) -> TrainConfig:
        unknown = [name for name in self.evaluation.metrics if name not in METRICS or METRICS[name].space == "judge"]
        if unknown:
            known = ", ".join(name for name, metric in METRICS.items() if metric.space != "judge")
            raise ValueError(f"evaluation.metrics: there is no metric {unknown[0]} for a run; known: {known}")
        scores = ["clip_score_own", "drawn_diversity", "clip_score_second", *numbers_of(self.evaluation.metrics)]
        if self.evaluation.keep_best not in ("", *scores):
            raise ValueError(
                f"evaluation.keep_best is {self.evaluation.keep_best!r}; known: {', '.join(scores)}, and others that "
                "evaluation.metrics names"
            )
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file and put `section.field=value` overrides over it.

    Args:
        path: the file.
        overrides: each "section.field=value", the value in YAML ("run.batch=16", "optimizer.betas=[0, 0.99]").

    Raises:
        GalipError: the file cannot be read, or is no mapping; a field is unknown (with the nearest known name) or a
            value is wrong. The message names file, field and value.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GalipError(
            f"{path}: cannot be read ({error.strerror}); name a YAML file, e.g. configs/emoji.yaml"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise GalipError(f"{path}: not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise GalipError(f"{path}: holds no `section: ...` mapping; see configs/emoji.yaml for an example")
    for override in overrides:
        _override(tree, override)
    return parse_config(tree, str(path))


def parse_config(tree: dict[str, Any], origin: str) -> TrainConfig:
    """Validate a tree of plain values; `origin` is named in errors."""
    try:
        return TrainConfig.model_validate(tree)
    except ValidationError as error:
        raise GalipError("\n".join(f"{origin}: {line}" for line in _explain(error))) from error


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    *sections, name = key.strip().split(".")
    if not equals or not name:
        raise InputError(f"override {override!r} is not section.field=value, e.g. run.batch=16")
    for section in sections:
        child = tree.setdefault(section, {})
        if not isinstance(child, dict):
            raise InputError(f"override {override!r}: {section} is a value, not a section")
        tree = child
    try:
        tree[name] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"override {override!r}: the value is not YAML") from error


def _explain(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors():
        where = [str(part) for part in problem["loc"]]
        name = ".".join(where) or "the file"
        if problem["type"] == "extra_forbidden":
            known = _fields(where[:-1])
            near = difflib.get_close_matches(where[-1], known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            lines.append(f"unknown field {name}; {hint}")
        elif problem["type"] == "missing":
            lines.append(f"{name} is missing; add it to the file or give {name}=... on the command line")
        else:
            lines.append(f"{name} is {problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}")
    return lines


def _fields(sections: list[str]) -> list[str]:
    model: Any = TrainConfig
    for section in sections:
        model = model.model_fields[section].annotation
    return sorted(model.model_fields)
