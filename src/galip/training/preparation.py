"""What a run needs and does not have yet, trained before it: its CLIP, and the eye."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import torch

from galip.data.loader import Loader
from galip.data.protocol import ImageSource
from galip.data.samples import Batch
from galip.distributed import Distributed
from galip.errors import InputError
from galip.models.presets import PRESETS
from galip.torch_backend.loading import no_progress_bars
from galip.training.clip_training.learner import CLIPLearner
from galip.training.config import TrainConfig
from galip.training.eye.learner import FACTS, EyeLearner
from galip.training.inputs import TrainData
from galip.training.long_job import Learner, fit
from galip.training.preparation_config import JobConfig
from galip.training.signals import stop_on_signals
from galip.utils.progress import Progress, no_progress

_EXAMPLES = 256
_CLIP_CONFIG = "config.json"


def is_prepared(config: TrainConfig) -> bool:
    """Whether a run has the networks that it asks to be trained before it."""
    clip = config.clip_training is None or (Path(config.model.clip) / _CLIP_CONFIG).is_file()
    return clip and (config.eye is None or (Path(config.evaluation.eye) / FACTS).is_file())


def prepare(config: TrainConfig, progress: Progress = no_progress) -> bool:
    """Train what a run asks for (`clip_training`, `eye`) and does not have yet.

    Args:
        config: the run.
        progress: told how many images have been seen.

    Returns:
        Whether all of it is there; False where SIGTERM or SIGINT asked to stop, and calling it again goes on.

    Raises:
        GalipError: the data cannot be used, or several processes were launched.
    """
    if is_prepared(config):
        return True
    distributed = Distributed(config.performance.device, "performance.device")
    if distributed.world > 1:
        raise InputError("clip_training and eye are for one process; start once without accelerate and torchrun")
    if config.performance.threads:
        torch.set_num_threads(config.performance.threads)
    data = TrainData(config, distributed)
    source: ImageSource = data.sized()
    channels = config.generator.image_channels or 3
    preset = PRESETS[config.model.preset]
    with stop_on_signals() as stop, no_progress_bars():

        def done(options: JobConfig, folder: Path, learner: Learner, size: int, canonical: float) -> bool:
            batches = _batches(source, config, options, size, channels, canonical)
            return fit(learner, options, batches, folder, source.digest, stop, progress)

        if config.clip_training is not None and not (Path(config.model.clip) / _CLIP_CONFIG).is_file():
            captions = source.distinct_captions(config.performance.text_cache) or source.some_captions(100_000)
            size, clip_options = preset.vision["image_size"], config.clip_training
            examples = _examples(_batches(source, config, clip_options, size, channels, 0.0)(0))
            clip = CLIPLearner(clip_options, preset, captions, examples, config.seed, distributed.device)
            if not done(clip_options, Path(config.model.clip), clip, size, 0.0):
                return False
        if config.eye is not None and not (Path(config.evaluation.eye) / FACTS).is_file():
            firsts = sorted({source.captions_at(number)[0] for number in range(len(source))})
            eye = EyeLearner(config.eye, firsts, config.seed, distributed.device)
            return done(config.eye, Path(config.evaluation.eye), eye, preset.image_size, 1.0)
    return True


def _batches(
    source: ImageSource, config: TrainConfig, options: JobConfig, size: int, channels: int, canonical: float
) -> Callable[[int], Iterable[Batch]]:
    """A job's batches from a sample number on."""
    return lambda start: Loader(
        source,
        run_seed=config.seed,
        size=size,
        shorter_side=config.data.shorter_side or size,
        flip=config.data.flip,
        batch=options.batch,
        start=start,
        workers=config.data.workers,
        cache_bytes=config.data.cache_mb << 20,
        channels=channels,
        canonical=canonical,
        max_broken=config.data.max_broken,
    )


def _examples(batches: Iterable[Batch]) -> torch.Tensor:
    """Some images of the data, uint8 [N, C, S, S]."""
    first = next(iter(batches)).images
    wanted = -(-_EXAMPLES // len(first))
    return torch.cat([batch.images for batch in islice(batches, wanted)])[:_EXAMPLES]
