"""The configuration of a training run: one typed tree, a section for each owner, every field described where declared.

`galip.training.config_file` reads it from a YAML file and the command line. The resolved tree is saved with the run.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from galip._deprecated import renamed
from galip.training.evaluation_config import EvaluationConfig as EvaluationConfig
from galip.training.feature_config import FeatureAugmentationConfig, FeatureNetworkConfig
from galip.training.preparation_config import CLIPTrainingConfig, EyeConfig
from galip.training.section import Section as Section

Precision = Literal["fp32", "bf16", "fp16"]
Tracker = Literal["tensorboard", "wandb", "trackio"]


class ModelConfig(Section):
    """Which networks are trained, and through which CLIP they look."""

    preset: str = Field("b32-224", description="named sizes, see galip.models.presets")
    clip: str = Field("", description="CLIP: a folder or hub id; empty means the preset's usual one")
    start_from: str = Field("", description="model folder whose generator and discriminator are trained on")
    with_optimizers: bool = Field(
        False, description="go on with its optimisers too, which galip convert --with-optimizers keeps"
    )
    text: str = Field("", description="T5 (a folder or hub id) that conditions instead of CLIP's text encoder")
    text_scale: float | None = Field(
        None, gt=0, description="factor for T5's vectors; None: measured, so that their mean norm is 10"
    )
    second_clip: str = Field("", description="another CLIP, for loss.similarity_second and evaluation")
    feature_networks: tuple[FeatureNetworkConfig, ...] = Field(
        (), description="frozen networks whose features further discriminators judge; a name, or name, weights, ..."
    )
    head_channels: int = Field(64, gt=0, description="channels inside the discriminators on feature networks")

    @field_validator("feature_networks", mode="before")
    @classmethod
    def _names_alone(cls, networks: Any) -> Any:
        if not isinstance(networks, list | tuple):
            return networks
        return [{"name": one} if isinstance(one, str) else one for one in networks]

    @model_validator(mode="after")
    def _optimizers_have_a_model(self) -> ModelConfig:
        if self.with_optimizers and not self.start_from:
            raise ValueError("model.with_optimizers goes on with the optimisers of model.start_from, which is empty")
        return self


class GeneratorConfig(Section):
    """Arguments of `MateGenerator`. None: the preset's, or those of the model that is trained on."""

    z_dim: int | None = Field(None, gt=0, description="length of the noise z ~ N(0, I)")
    cond_dim: int | None = Field(None, gt=0, description="length of the sentence vector e")
    vision_width: int | None = Field(None, gt=0, description="width of the CLIP-ViT")
    grid: int | None = Field(None, gt=0, description="side of the CLIP-ViT's patch grid")
    bridge_channels: int | None = Field(None, gt=0, description="channels of the Bridge-FP's coarse map")
    bridge_hidden: int | None = Field(None, gt=0, description="channels in the middle of its residual blocks")
    bridge_blocks: int | None = Field(None, ge=0, description="number of its residual blocks")
    prompt_blocks: tuple[int, ...] | None = Field(None, description="transformer blocks that get prompt tokens")
    prompt_tokens: int | None = Field(
        None, ge=1, description="prompt tokens of each of these blocks; the paper has one"
    )
    concept_scale: float | None = Field(None, description="weight of the visual concepts beside the bridge feature")
    stem_channels: int | None = Field(None, gt=0, description="channels after the Image Generator's first convolution")
    block_sizes: tuple[int, ...] | None = Field(None, description="side of each up-block's output; the last: image's")
    block_channels: tuple[int, ...] | None = Field(None, description="channels of each up-block's output")
    clip_input: Literal["standard", "released"] | None = Field(None, description="how images become CLIP's input")
    bridge_input: Literal["noise", "condition"] | None = Field(
        None, description="what the coarse map is made of: noise alone (the paper), or noise and sentence vector"
    )
    image_channels: Literal[3, 4] | None = Field(None, description="3: RGB; 4: RGBA, images with an alpha channel")


class DiscriminatorConfig(Section):
    """Arguments of `MateDiscriminator`. None: the preset's, or those of the model that is trained on."""

    looks_at: Literal["clip", "pixels"] | None = Field(
        None, description="clip: Mate-D; pixels: a plain convolutional one of equal size, without CLIP"
    )

    vision_width: int | None = Field(None, gt=0, description="width of the CLIP-ViT")
    grid: int | None = Field(None, gt=0, description="side of the CLIP-ViT's patch grid, at least 4")
    tap_blocks: tuple[int, ...] | None = Field(None, description="transformer blocks after which features are tapped")
    out_channels: int | None = Field(None, gt=0, description="channels of the gathered image features")
    assessor_channels: int | None = Field(None, gt=0, description="channels inside the quality assessor")
    cond_dim: int | None = Field(None, gt=0, description="length of the sentence vector")
    dead_shortcuts: bool | None = Field(None, description="carry the released network's unused convolutions")


class DataConfig(Section):
    """The captioned images."""

    source: str = Field(description="folder of captioned images, shard folder, or pattern of (remote) shards")
    shorter_side: int | None = Field(
        None, gt=0, le=1 << 14, description="shorter side before the crop; None: the image size"
    )
    flip: bool = Field(False, description="mirror half of the images, never where the caption says left or right")
    view: Literal["usual", "released"] = Field(
        "usual",
        description="released: as GALIP's authors cut training images, shorter side 304, bilinear, a square of 256, "
        "brought to the model's size by nearest neighbour, and mirrored whatever the caption says",
    )
    workers: int = Field(0, ge=0, description="loader processes; 0 reads in the training process")
    cache_mb: int = Field(512, ge=0, description="memory for decoded images that need no resizing")
    shuffle_buffer: int = Field(1000, ge=1, description="records held for shuffling; streamed shards only")
    channels: Literal[3, 4] | None = Field(
        None, description="3: RGB, transparent parts laid on white; 4: RGBA; None: what the generator makes"
    )
    weighted: bool = Field(False, description="draw records as often as the field weight in their JSON says")
    canonical: float = Field(
        0.0, ge=0, le=1, description="share of the samples that take their record's first caption, the canonical one"
    )
    max_broken: float = Field(0.01, ge=0, le=1, description="share of broken records that a run puts up with")
    max_broken_shards: int = Field(1, ge=0, description="broken shards that a run puts up with")

    @model_validator(mode="after")
    def _view_knows_its_side(self) -> DataConfig:
        if self.view == "released" and self.shorter_side is not None:
            raise ValueError(
                "data.shorter_side does nothing where data.view is released, which scales to 304; leave it out"
            )
        return self


class AugmentationConfig(Section):
    """Differentiable augmentation of what CLIP and D see, real and generated images alike."""

    shift: float = Field(0.0, ge=0, le=0.5, description="random translation, in parts of the side")
    colour: float = Field(0.0, ge=0, le=1, description="random brightness, saturation and contrast; 1 is DiffAugment's")
    cutout: float = Field(0.0, ge=0, lt=1, description="side of a grey square, in parts of the side")
    features: FeatureAugmentationConfig = FeatureAugmentationConfig()  # type: ignore[call-arg]


class LossConfig(Section):
    """The objective (paper, section 3.4) and its constants."""

    objective: Literal["adversarial", "reconstruct"] = Field(
        "adversarial", description="adversarial: the paper's; reconstruct: G alone, L1 to the caption's image"
    )
    similarity: float = Field(4.0, ge=0, description="lambda, weight of the CLIP similarity")
    similarity_ramp: int = Field(0, ge=0, description="images of the stage over which lambda rises from 0")
    heads: float = Field(1.0, ge=0, description="weight in L_G of the heads on model.feature_networks")
    heads_warmup: int = Field(0, ge=0, description="images of the stage in which the heads learn and G does not listen")
    penalty_k: float = Field(2.0, ge=0, description="k, weight of the gradient penalty")
    penalty_p: float = Field(6.0, gt=0, description="p, its power")
    penalty_form: Literal["released", "paper"] = Field("released", description="formula of the penalty")
    similarity_second: float = Field(0.0, ge=0, description="weight of the similarity in model.second_clip")
    paired: float = Field(
        0.0,
        ge=0,
        description="weight of G's energy score: L1 to the caption's real image, less L1 to another generated one",
    )
    penalty_on: Literal["features", "pixels"] = Field(
        "features", description="what the penalty's gradients, and R1's, are with respect to, beside e"
    )
    mismatch: float = Field(0.5, ge=0, description="weight of the mismatch term; 0 leaves it out")
    r1: float = Field(0.0, ge=0, description="gamma of R1 on the taps: gamma/2 |g_C|^2 of real images")
    noise: Literal["all", "open"] = Field(
        "all", description="open: z is 0 for a caption that one image alone has, as it leaves nothing open"
    )


class OptimizerConfig(Section):
    """Adam for both networks, or Muon for the generator's matrices and kernels."""

    lr_generator: float = Field(1e-4, gt=0)
    lr_discriminator: float = Field(4e-4, gt=0)
    betas: tuple[float, float] = (0.0, 0.9)
    generator: Literal["adam", "muon"] = Field(
        "adam", description="muon: matrices and kernels by Muon at lr_muon, gains and biases by Adam at lr_generator"
    )
    lr_muon: float = Field(0.006, gt=0)
    muon_momentum: float = Field(0.95, ge=0, lt=1)


class ScheduleConfig(Section):
    """How long, in which steps, at which learning rates. Everything is counted in images seen."""

    images: int = Field(gt=0, description="train until so many images have been seen")
    batch: int = Field(64, ge=2, description="images in one step, over all processes and micro-batches")
    warmup: int = Field(0, ge=0, description="images over which both rates rise from zero")
    decay: Literal["none", "linear", "cosine"] = Field("none", description="fall of both rates until schedule.images")
    decay_to: float = Field(0.0, ge=0, le=1, description="share of the rates that is left in the end")


class EMAConfig(Section):
    """The exponential moving average of the generator's weights, which is what users get."""

    half_life: int = Field(10_000, ge=0, description="in images; 0: no average, users get the weights as they are")
    ramp: float | None = Field(0.05, gt=0, description="half-life at most this share of the images seen; None: fixed")


class GuardConfig(Section):
    """What is done about collapse, judged by the means of each log row."""

    collapse: Literal["off", "warn", "return"] = Field(
        "warn", description="return: go back to the best (else the last sound) checkpoint with lower rates"
    )
    min_diversity: float = Field(
        0.4, ge=0, lt=1, description="generated images' spread in CLIP space, share of its best"
    )
    min_similarity: float = Field(0.5, ge=0, lt=1, description="CLIP similarity, share of its best")
    max_margin: float = Field(12.0, gt=0, description="D's mean score of real minus that of generated images")
    patience: int = Field(3, ge=1, description="log rows in a row beyond a bound before anything is done")
    lower_rates: float = Field(0.5, gt=0, le=1, description="what both rates are multiplied with at each return")
    max_returns: int = Field(3, ge=1, description="after so many returns the run stops")


class CheckpointConfig(Section):
    """When checkpoints are written, and which stay."""

    every: int = Field(10_000, gt=0, description="images between two checkpoints")
    keep: int = Field(2, ge=1, description="newest checkpoints kept")
    keep_every: int = Field(0, ge=0, description="also keep a checkpoint each time so many images have passed; 0: none")


class LoggingConfig(Section):
    """What is written for people to look at while the run goes on."""

    every: int = Field(1_000, gt=0, description="images between two log rows")
    trackers: tuple[Tracker, ...] = Field(("tensorboard",), description="where the log goes besides log.jsonl")
    grid_every: int = Field(10_000, gt=0, description="images between two sample grids")
    grid_captions: tuple[str, ...] = Field((), description="captions of the grid; empty: the first of the data")
    grid_seeds: int = Field(4, ge=1, description="images per caption in the grid, seeds 0, 1, ...")
    grid_format: Literal["png", "webp"] = "png"


class PerformanceConfig(Section):
    """How it is computed; only `precision` changes more than the last digits."""

    device: str = Field("auto", description="auto: CUDA if there is one, else CPU")
    precision: Precision = "fp32"
    loss_scale: Literal["dynamic", "released"] = Field(
        "dynamic", description="of fp16; released: once it falls below 64 it is set to 16384, as GALIP's authors do"
    )
    micro_batch: int | None = Field(
        None, ge=1, description="images that one process holds at once; None: its whole share of the batch"
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0: torch's own choice")
    channels_last: bool | None = Field(
        None, description="memory layout; None: on a GPU only, as a CPU's weight gradients are slower in it"
    )
    compile: bool = Field(False, description="torch.compile for the generator and the ViT's two views")
    cuda_graph: bool = Field(
        False, description="capture the step and replay it: for networks so small that launching them takes the time"
    )
    checkpoint_vit: bool = Field(False, description="recompute the ViT's blocks in the backward pass to save memory")
    text_cache: int = Field(500_000, ge=0, description="cache text vectors where there are at most so many captions")
    text_store: str = Field("", description="folder on disk for text vectors of data with more captions than that")


class StageConfig(Section):
    """A stage of a run: what holds in it otherwise than in the run, section by section.

    `schedule.images` are the stage's own, and warm-up and decay are counted from its beginning.
    """

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    generator: dict[str, Any] = Field({})
    discriminator: dict[str, Any] = Field({})
    data: dict[str, Any] = Field({}, description="all but the source, which is the run's")
    augmentation: dict[str, Any] = Field({})
    loss: dict[str, Any] = Field({})
    optimizer: dict[str, Any] = Field({})
    schedule: dict[str, Any]
    ema: dict[str, Any] = Field({})
    guard: dict[str, Any] = Field({})
    performance: dict[str, Any] = Field({})


class TrainConfig(Section):
    """A whole run. `name` is what the trained model will call itself."""

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    description: str = ""
    licence: str = Field("", description="licence of the trained weights, for the model card")
    seed: int = Field(0, ge=0, lt=2**63, description="of initial weights, order, crops, captions and noise")
    model: ModelConfig = ModelConfig()  # type: ignore[call-arg]
    generator: GeneratorConfig = GeneratorConfig()  # type: ignore[call-arg]
    discriminator: DiscriminatorConfig = DiscriminatorConfig()  # type: ignore[call-arg]
    data: DataConfig
    augmentation: AugmentationConfig = AugmentationConfig()  # type: ignore[call-arg]
    loss: LossConfig = LossConfig()  # type: ignore[call-arg]
    optimizer: OptimizerConfig = OptimizerConfig()  # type: ignore[call-arg]
    schedule: ScheduleConfig
    ema: EMAConfig = EMAConfig()  # type: ignore[call-arg]
    guard: GuardConfig = GuardConfig()  # type: ignore[call-arg]
    checkpoints: CheckpointConfig = CheckpointConfig()  # type: ignore[call-arg]
    logging: LoggingConfig = LoggingConfig()  # type: ignore[call-arg]
    performance: PerformanceConfig = PerformanceConfig()  # type: ignore[call-arg]
    evaluation: EvaluationConfig = EvaluationConfig()  # type: ignore[call-arg]
    clip_training: CLIPTrainingConfig | None = Field(
        None, description="train the CLIP of the folder model.clip on the data before the run, unless it is there"
    )
    eye: EyeConfig | None = Field(
        None, description="train the eye of the folder evaluation.eye on the data before the run, unless it is there"
    )
    stages: tuple[StageConfig, ...] = Field((), description="one after the other; schedule.images is their sum")

    @model_validator(mode="before")
    @classmethod
    def _images_of_stages(cls, tree: Any) -> Any:
        """A run of stages sees as many images as all of them."""
        stages = tree.get("stages") if isinstance(tree, dict) else None
        if not stages or not isinstance(stages, list | tuple):
            return tree
        schedules = [stage.get("schedule") if isinstance(stage, dict) else None for stage in stages]
        images = [schedule.get("images") if isinstance(schedule, dict) else None for schedule in schedules]
        counts = [count for count in images if isinstance(count, int)]
        if len(counts) < len(stages):
            raise ValueError("every stage needs schedule.images, how many images it sees")
        schedule = tree.get("schedule") or {}
        return tree | {"schedule": schedule | {"images": sum(counts)}} if isinstance(schedule, dict) else tree

    @model_validator(mode="after")
    def _stages_are_sound(self) -> TrainConfig:
        if len({stage.name for stage in self.stages}) < len(self.stages):
            raise ValueError("stages: two have the same name")
        for number, stage in enumerate(self.stages):
            if "source" in stage.data:
                raise ValueError(f"stages.{stage.name}.data.source: all stages learn from the run's data; leave it out")
            try:
                stage_config(self, number)
            except ValidationError as error:
                problem = error.errors()[0]
                where = ".".join(map(str, (stage.name, *problem["loc"])))
                raise ValueError(f"stages.{where}: {problem['msg'].removeprefix('Value error, ')}") from error
        return self

    @model_validator(mode="after")
    def _what_is_prepared_has_a_place(self) -> TrainConfig:
        if self.clip_training is not None and not self.model.clip:
            raise ValueError("clip_training: name the folder that the CLIP is written to, model.clip")
        if self.eye is not None and not self.evaluation.eye:
            raise ValueError("eye: name the folder that the eye is written to, evaluation.eye")
        return self

    @model_validator(mode="after")
    def _second_clip_is_named(self) -> TrainConfig:
        asked = self.loss.similarity_second > 0 or self.evaluation.keep_best == "clip_score_second"
        if asked and not self.model.second_clip:
            raise ValueError(
                "loss.similarity_second or evaluation.keep_best asks for model.second_clip, which is empty; "
                "name a CLIP folder or hub id"
            )
        return self


def stage_config(config: TrainConfig, number: int) -> TrainConfig:
    """What holds in a stage: the run's configuration with the stage's values over it.

    Sizes of the networks are kept from stage to stage; everything else is the run's again where the stage is silent.

    Raises:
        ValidationError: one of the stage's values cannot be.
    """
    tree = config.model_dump(exclude={"stages"})
    for earlier in config.stages[:number]:
        tree["generator"] |= earlier.generator
        tree["discriminator"] |= earlier.discriminator
    for section, values in config.stages[number].model_dump(exclude={"name"}).items():
        tree[section] = _merged(tree[section], values)
    return TrainConfig.model_validate(tree)


def _merged(tree: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """`tree` with `values` over it, section within section."""
    both = {key: (tree[key], value) for key, value in values.items() if isinstance(tree.get(key), dict)}
    inner = {key: _merged(*pair) for key, pair in both.items() if isinstance(pair[1], dict)}
    return tree | values | inner


def __getattr__(name: str) -> Any:
    return renamed(__name__, name)
