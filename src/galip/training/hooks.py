"""What a run does beside its steps: log, guard against collapse, sample grids, evaluation, checkpoints."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from galip.generation.noise import noise
from galip.generation.output import on_background, to_pil
from galip.models.generator import MateGenerator
from galip.training.checkpoint import (
    CheckpointInfo,
    best_checkpoint,
    forget_beyond,
    last_sound_checkpoint,
    mark_best,
    read_info,
)
from galip.training.evaluating import QuickScores, RunEvaluation, better
from galip.training.forecast import Forecast
from galip.training.guards import CollapseWatch, TrainingDiedError
from galip.training.logs import Averages, RunLog
from galip.training.step_base import StepStats
from galip.utils.atomic import atomic_file
from galip.utils.progress import Progress, no_progress

if TYPE_CHECKING:
    from galip.training.loop import Trainer

logger = logging.getLogger(__name__)


class Hook:
    """Something that a run does beside its steps. Hooks are called in the order in which the trainer has them."""

    def start(self, trainer: Trainer) -> None:
        """Called before the first step, with the run folder made."""

    def enter_stage(self, trainer: Trainer) -> None:
        """Called when the run enters another stage than its first."""

    def after_step(self, trainer: Trainer, stats: StepStats) -> bool:
        """Called after each step.

        Returns:
            Whether the run has been put back to an earlier checkpoint: then nothing further is done about this step.
        """
        return False

    def finish(self, trainer: Trainer) -> None:
        """Called after the last step, unless the run died."""

    def close(self) -> None:
        """Called in the end, however the run ended."""

    def saved(self) -> dict[str, Any]:
        """Fields of `CheckpointInfo` that this hook fills."""
        return {}

    def restored(self, info: CheckpointInfo) -> None:
        """Called when the run goes on from a checkpoint."""


class LogHook(Hook):
    """Log rows of means, and what a person sees of the run's progress.

    Args:
        trackers: usable ones, see `check_trackers`.
        progress: told how many images have been seen.

    Attributes:
        row: the means of the latest row where this step wrote one, else None.
    """

    def __init__(self, trackers: Sequence[str], progress: Progress = no_progress) -> None:
        self.trackers, self.progress = trackers, progress
        self.averages = Averages()
        self.row: dict[str, float] | None = None
        self._log: RunLog | None = None
        self._told: set[str] = set()
        self._begun, self._start = 0.0, 0

    def enter_stage(self, trainer: Trainer) -> None:
        """Means are of one stage, and so is the speed."""
        self.averages = Averages()
        self._begun, self._start = time.monotonic(), trainer.state.seen

    def start(self, trainer: Trainer) -> None:
        """Open the log."""
        self._begun, self._start = time.monotonic(), trainer.state.seen
        if trainer.distributed.is_main:
            plain = trainer.config.model_dump(mode="json")
            self._log = RunLog(
                trainer.folder.path, trainer.state.seen, trainer.distributed.accelerator, self.trackers, plain
            )

    def after_step(self, trainer: Trainer, stats: StepStats) -> bool:
        """Take the step's numbers in, and write a row where one is due."""
        self.averages.add(stats.numbers())
        seen = trainer.state.seen
        if trainer.distributed.is_main:
            total = max(seen, trainer.config.schedule.images)
            self.progress("training", seen, total)
        self.row = None
        if trainer.passed(trainer.config.logging.every):
            self.row = self.averages.take()
            self._write_row(trainer, self.row)
        return False

    def _write_row(self, trainer: Trainer, means: dict[str, float]) -> None:
        seen, total = trainer.state.seen, trainer.config.schedule.images
        speed = (seen - self._start) / max(1e-9, time.monotonic() - self._begun)
        row = {"images": seen, **means, "rate": trainer.lr_multiplier, "images_per_second": speed}
        if trainer.config.stages:
            row["stage"] = trainer.state.stage.number
        loader = trainer.loader
        if loader.broken_count or loader.broken_shards:
            row |= {"broken_records": loader.broken_count, "broken_shards": len(loader.broken_shards)}
        self.write(row)
        for name, why in (loader.broken_shards | loader.broken).items():  # each process tells of its own
            if name not in self._told:
                self._told.add(name)
                logger.warning("passed over %s: %s", name, why)
        minutes = max(0, total - seen) / max(speed, 1e-9) / 60
        numbers = "  ".join(f"{name} {value:.3f}" for name, value in means.items())
        trainer.tell(f"{seen}/{max(seen, total)} images, {speed:.1f}/s, {minutes:.0f} min left; {numbers}")

    def write(self, row: dict[str, float]) -> None:
        """Append a row to the log; it must hold `images`."""
        if self._log is not None:
            self._log.write(row)

    def close(self) -> None:
        """End the log."""
        if self._log is not None:
            self._log.close()

    def saved(self) -> dict[str, Any]:
        """The sums since the last row."""
        return {"averages": self.averages.state()}

    def restored(self, info: CheckpointInfo) -> None:
        """Forget the rows beyond the checkpoint."""
        if info.averages:
            self.averages.load_state(info.averages)
        self._begun, self._start = time.monotonic(), info.images
        if self._log is not None:
            self._log.rewind(info.images)


class CollapseHook(Hook):
    """Warns of a collapse, or goes back to a checkpoint from before it with lower rates.

    Args:
        watch: judges the log rows.
        log: whose rows are judged.
    """

    def __init__(self, watch: CollapseWatch, log: LogHook) -> None:
        self.watch, self.log = watch, log

    def enter_stage(self, trainer: Trainer) -> None:
        """Another objective has other numbers: nothing is compared with the stage before."""
        self.watch = CollapseWatch(trainer.state.config.guard)
        self.watch.sound_until = trainer.state.stage.start

    def after_step(self, trainer: Trainer, stats: StepStats) -> bool:
        """Judge the row that this step wrote, if it did."""
        if self.log.row is None:
            return False
        wrong = self.watch.look(trainer.state.seen, self.log.row)
        if wrong is None:
            return False
        if self.watch.config.collapse == "warn":
            trainer.warn(f"{wrong}; consider --resume best with lower optimizer rates")
            return False
        self._return(trainer, wrong)
        return True

    def _return(self, trainer: Trainer, wrong: str) -> None:
        guard, folder, returns = self.watch.config, trainer.folder.checkpoints, self.watch.returns + 1
        target = trainer.distributed.from_main(lambda: last_sound_checkpoint(folder, self.watch.sound_until))
        if target is not None and read_info(target).stage != trainer.state.stage.number:
            target = None  # another stage's networks are others
        if target is None or returns > guard.max_returns:
            why = "no sound checkpoint is there" if target is None else f"it has returned {returns - 1} times already"
            raise TrainingDiedError(f"{wrong}; {why} (guard.max_returns, checkpoints.every); lower the rates")
        lowered = trainer.state.lr_scale * guard.lower_rates
        trainer.restore(target)
        self.watch.returns, trainer.state.lr_scale = returns, lowered
        trainer.distributed.wait()
        if trainer.distributed.is_main:
            forget_beyond(folder, trainer.state.seen)
        trainer.save()  # the lower rates, and how often the run has returned, outlive a kill
        trainer.warn(f"{wrong}; returned to {target.name}, rates now {lowered:g} of the configuration's")

    def saved(self) -> dict[str, Any]:
        """What the watch knows."""
        return {"guard": self.watch.state()}

    def restored(self, info: CheckpointInfo) -> None:
        """Take up what the watch knew."""
        if info.guard:
            self.watch.load_state(info.guard)


class GridHook(Hook):
    """Sample grids of the averaged generator, a row per caption, a column per seed.

    Args:
        captions: of the rows.
    """

    def __init__(self, captions: Sequence[str]) -> None:
        self.captions = captions

    def after_step(self, trainer: Trainer, stats: StepStats) -> bool:
        """Write a grid where one is due."""
        if trainer.distributed.is_main and trainer.passed(trainer.config.logging.grid_every):
            options = trainer.config.logging
            path = trainer.folder.path / "grids" / f"images-{trainer.state.seen:09d}.{options.grid_format}"
            save_grid(self.generate(trainer), options.grid_seeds, path)
        return False

    @torch.no_grad()
    def generate(self, trainer: Trainer) -> list[Image.Image]:
        """The grid's images, row by row."""
        networks, average, device = trainer.state.networks, trainer.state.average, trainer.distributed.device
        seeds = list(range(trainer.config.logging.grid_seeds))
        e = networks.sentence_encoder.encode(self.captions).to(device)
        images: list[Image.Image] = []
        for vector in e:
            z = torch.from_numpy(noise(seeds, average.z_dim)).to(device)
            fakes = average(z, vector.expand(len(seeds), -1), networks.vision)
            shown = on_background(((fakes.float() + 1) / 2).clamp(0, 1).cpu().numpy(), "white")
            images += to_pil(shown.transpose(0, 2, 3, 1))
        return images


def save_grid(images: Sequence[Image.Image], columns: int, path: Path) -> None:
    """Lay images of one size out in rows of `columns`, on white, and write them whole."""
    width, height = images[0].size
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for number, image in enumerate(images):
        sheet.paste(image, (number % columns * width, number // columns * height))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, suffix=path.suffix) as unfinished:
        sheet.save(unfinished)


class EvaluationHook(Hook):
    """Scores of the averaged generator.

    Args:
        quick: in CLIP space, by the networks that train.
        thorough: by `galip.evaluation`; None: not asked for.
        eye: by the eye; None: not asked for.
        log: where they are written.

    Attributes:
        scores: the latest.
        is_best: whether this step's are the best so far by `evaluation.keep_best`.
    """

    def __init__(
        self,
        quick: QuickScores,
        thorough: RunEvaluation | None,
        log: LogHook,
        eye: Callable[[MateGenerator], dict[str, float]] | None = None,
    ) -> None:
        self.quick, self.thorough, self.log, self.eye = quick, thorough, log, eye
        self.scores: dict[str, float] = {}
        self.is_best = False

    def after_step(self, trainer: Trainer, stats: StepStats) -> bool:
        """Evaluate where it is due."""
        self.is_best = False
        if trainer.passed(trainer.config.evaluation.every):
            self.scores = self.quick(trainer.state.average)
            if self.eye is not None:
                self.scores |= self.eye(trainer.state.average)
            if self.thorough is not None:
                self.scores |= self.thorough(trainer.state.average, trainer.state.seen)
            self.log.write({"images": trainer.state.seen, **self.scores})
            self.is_best = self._is_best(trainer)
        return False

    def _is_best(self, trainer: Trainer) -> bool:
        metric = trainer.config.evaluation.keep_best
        if metric not in self.scores:
            if metric:
                trainer.warn(f"evaluation.keep_best: there is no score {metric}; these are: {', '.join(self.scores)}")
            return False
        best = trainer.distributed.from_main(lambda: best_checkpoint(trainer.folder.checkpoints))
        return best is None or best.metric != metric or better(metric, self.scores[metric], best.value)

    def saved(self) -> dict[str, Any]:
        """The latest scores."""
        return {"scores": self.scores}

    def restored(self, info: CheckpointInfo) -> None:
        """Take up the latest scores."""
        self.scores = dict(info.scores)


class CheckpointHook(Hook):
    """Checkpoints at intervals, of the best scores, and in the end.

    Args:
        evaluation: says which moments are the best; None: the run has no scores.
    """

    def __init__(self, evaluation: EvaluationHook | None) -> None:
        self.evaluation = evaluation

    def after_step(self, trainer: Trainer, stats: StepStats) -> bool:
        """Save where it is due."""
        best = self.evaluation is not None and self.evaluation.is_best
        if best or trainer.passed(trainer.config.checkpoints.every):
            checkpoint = trainer.save()
            if best and checkpoint is not None and self.evaluation is not None:
                metric = trainer.config.evaluation.keep_best
                mark_best(checkpoint, metric, self.evaluation.scores[metric])
        return False

    def finish(self, trainer: Trainer) -> None:
        """Save the last moment, unless it has been."""
        if trainer.saved_at != trainer.state.seen:
            trainer.save()


class ForecastHook(Hook):
    """Says of each stage how long it will take, from its first few steps."""

    def start(self, trainer: Trainer) -> None:
        """Begin with the stage that the run is in."""
        self.enter_stage(trainer)

    def enter_stage(self, trainer: Trainer) -> None:
        """Begin anew."""
        self.forecast = Forecast(trainer.state.stage.end - trainer.state.seen)

    def after_step(self, trainer: Trainer, stats: StepStats) -> bool:
        """Say it after the fourth step."""
        if (expected := self.forecast.step(trainer.state.config.schedule.batch)) is not None:
            stage = trainer.state.stage
            trainer.tell(f"{stage.name}: {stage.end - stage.start:,} images, {expected}")
        return False
