"""The training loop, a short list of named things around the step.

Progress is counted in images seen. Everything random about a sample is a function of (run seed, sample number), so a
run that is stopped and resumed repeats an uninterrupted one, on a CPU bit for bit (a GPU adds in any order), and how
many processes share the batch changes no more than the order of sums.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sized
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from torch import nn

import galip
from galip.data.loader import Loader
from galip.data.open import open_source
from galip.distributed import Distributed
from galip.errors import GalipError, InputError
from galip.generation.noise import noise
from galip.generation.output import to_pil
from galip.models.text import measure_scale
from galip.torch_backend.loading import no_progress_bars
from galip.training.batches import per_rank_batch_size
from galip.training.checkpoint import (
    Keep,
    best_checkpoint,
    forget_beyond,
    list_checkpoints,
    load_checkpoint,
    mark_best,
    place_to_start,
    save_checkpoint,
    sound_checkpoint,
)
from galip.training.config import TrainConfig
from galip.training.cuda_graph import CUDAGraphStep, check_capturable
from galip.training.ema import frozen_copy, update_ema
from galip.training.evaluating import RunEvaluation, RunScores, better
from galip.training.export import export_model
from galip.training.guards import CollapseWatch, TrainingDiedError, broken_terms
from galip.training.memory import keep_freed_memory
from galip.training.networks import Networks, build_networks
from galip.training.reporting import (
    Averages,
    NoLog,
    ProgressLine,
    RunLog,
    check_trackers,
    environment,
    remember_start,
    save_grid,
)
from galip.training.resuming import differences, random_state, set_random_state
from galip.training.schedule import lr_multiplier
from galip.training.signals import stop_on_signals
from galip.training.step import GANStep, TakesSteps, prepare_models
from galip.training.text_vectors import CaptionVectors

_SCALE_CAPTIONS = 2048


class Trainer:
    """Trains Mate-G and Mate-D as a configuration says, into a run folder.

    Args:
        config: the run.
        out: the run folder; nothing is written before `fit`.
        resume: "latest", "best", or a checkpoint folder; None starts anew, which an existing run in `out` forbids.

    Attributes:
        seen: images seen.
        differences: where the configuration differs from the resumed checkpoint's, one line each.

    Raises:
        GalipError: data, CLIP, configuration, checkpoint or run folder are unusable; found before training starts.
    """

    def __init__(self, config: TrainConfig, out: Path, resume: str | None = None) -> None:
        self.config, self.out = config, out
        self.seen = 0
        self.differences: list[str] = []
        run = config.run
        self._trackers = check_trackers(run.trackers)
        if run.threads:
            torch.set_num_threads(run.threads)
        self.processes = Distributed(run.device, "run.device")
        if run.cuda_graph:
            check_capturable(run, self.processes)
        checkpoint = self.processes.from_main(lambda: place_to_start(out, resume))
        self.device = self.processes.device
        if self.device.type == "cpu":
            keep_freed_memory()
        self.local_batch = per_rank_batch_size(run.batch, run.micro_batch, self.processes.world)
        self.source = open_source(config.data.source)
        self._evaluated = self._captions_to_evaluate()
        self._grid_captions = list(run.grid_captions) or self._captions(8)
        with no_progress_bars():
            self.networks = self._build(build_networks(config.model, run.seed))
        self.average = frozen_copy(self.networks.generator)
        self.step = GANStep(self.networks, config, self.processes)
        self.take_step = self._stepper()
        self.console = Console(stderr=True)
        self.watch, self.averages = CollapseWatch(config.guard), Averages()
        self._lowered = 1.0
        self._told: set[str] = set()
        self._saved_at: int | None = None
        self.scores: dict[str, float] = {}
        self._measure: RunEvaluation | None = None
        if config.evaluation.every and config.evaluation.metrics:
            self._measure = RunEvaluation(config, self.networks, self.processes, out / "evaluations")
        if checkpoint is not None:
            self._load(checkpoint)
        self.loader()  # what is wrong with the data shows now

    # ---- set-up

    def _build(self, networks: Networks) -> Networks:
        prepare_models(networks, self.device, self.config.run.channels_last)
        networks.text_encoder.to(self.device)
        networks.vision.checkpointing = self.config.run.checkpoint_vit
        if networks.second is not None:
            networks.second.vision.to(self.device)
            networks.second.encoder.model.to(self.device)
        if networks.t5 is not None:
            networks.t5.model.to(self.device)
            if not networks.t5_scale_known:
                networks.t5.scale = measure_scale(networks.t5, self._captions(_SCALE_CAPTIONS))
        return networks

    def _captions_to_evaluate(self) -> list[str]:
        options = self.config.evaluation
        if not options.every:
            return []
        return self._captions(options.captions, options.source)

    def _captions(self, count: int, other: str = "") -> list[str]:
        """Captions spread over the data, or over another source; the same on every process, whatever a stream gives."""
        source = open_source(other) if other else self.source
        captions: list[str] = self.processes.from_main(lambda: source.some_captions(count))
        if len(captions) < 2:
            raise InputError(f"{other or self.config.data.source}: fewer than 2 captions can be read from it")
        return captions

    def _prepare_folder(self) -> None:
        if not self.processes.is_main:
            return
        config = self.config.model_dump(mode="json")
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            unfinished = self.out / ".unfinished-config.yaml"
            unfinished.write_text(yaml.safe_dump(config, sort_keys=False))
            os.replace(unfinished, self.out / "config.yaml")
            about = {"data": self.source.digest, "processes": self.processes.world, "device": str(self.device)}
            about["threads"] = torch.get_num_threads()
            if self.device.type == "cuda":
                about["gpu"] = torch.cuda.get_device_name(self.device)
            environment(self.out, about)
            if self.config.model.start_from and not self.seen:
                remember_start(self.out, Path(self.config.model.start_from))
        except OSError as error:
            raise GalipError(f"{self.out}: cannot be written ({error.strerror}); choose another --out") from error

    def _stepper(self) -> TakesSteps:
        return CUDAGraphStep(self.step) if self.config.run.cuda_graph else self.step

    def loader(self) -> Loader:
        """This process's batches from the present place of the run on."""
        run, data, processes = self.config.run, self.config.data, self.processes
        size = self.networks.generator.image_size
        return Loader(
            self.source,
            run_seed=run.seed,
            size=size,
            shorter_side=data.shorter_side or size,
            flip=data.flip,
            batch=self.local_batch,
            start=self.seen,
            rank=processes.rank,
            world=processes.world,
            workers=data.workers,
            cache_bytes=data.cache_mb << 20,
            shuffle_buffer=data.shuffle_buffer,
            channels=data.channels,
            weighted=data.weighted,
            max_broken=data.max_broken,
            max_broken_shards=data.max_broken_shards,
            extra=self.step.sample_rng,
        )

    def sentences(self) -> CaptionVectors:
        """The vectors of the data's captions: a table where they are few enough (`run.text_cache`)."""
        return CaptionVectors(self.networks, self.source.distinct_captions(self.config.run.text_cache), self.processes)

    def sentences_on_demand(self) -> CaptionVectors:
        """The same without the table: for a few steps."""
        return CaptionVectors(self.networks, None, self.processes)

    @property
    def records(self) -> int | None:
        """Captioned pictures of the data; None if it is streamed."""
        return len(self.source) if isinstance(self.source, Sized) else None

    # ---- the run

    def fit(self) -> Path:
        """Train until `run.images`, or until SIGTERM or SIGINT ask to stop; either way everything is saved.

        Returns:
            The model folder `out/model`.

        Raises:
            TrainingDiedError: a loss term is not finite, or the run collapsed once too often.
            GalipError: too much of the data is broken.
        """
        run = self.config.run
        self._prepare_folder()
        if self.processes.is_main:
            for path in forget_beyond(self.out / "checkpoints", self.seen):
                self._say(f"removed {path.name}, which lies beyond the checkpoint that this run goes on from")
        self._say_skipped()
        self.sentences_of = self.sentences()
        self._score = RunScores(self.networks, self._evaluated, self.processes) if self._evaluated else None
        main = self.processes.is_main
        plain = self.config.model_dump(mode="json")
        self.log: RunLog | NoLog = NoLog()
        if main:
            self.log = RunLog(self.out, self.seen, self.processes.accelerator, self._trackers, plain)
        self.progress = ProgressLine(run.images, self.seen, shown=main, console=self.console)
        with stop_on_signals() as stop, contextlib.closing(self.log), contextlib.closing(self.progress):
            while not self._train_on(stop):
                pass  # it returned to an earlier checkpoint; the samples start there again
            if self._saved_at != self.seen:
                self.save()
            if self.seen < run.images:
                self._say(f"stopped at {self.seen} of {run.images} images; go on with --resume latest")
            return self.export()

    def _train_on(self, stop: threading.Event) -> bool:
        """Train from the present place; True when the run is over, False after a return to a checkpoint."""
        run = self.config.run
        loader = self.loader()
        for batch in loader:
            if self.seen >= run.images or self._anyone(stop.is_set()):
                return True
            factor = self._lowered * lr_multiplier(self.config.optimizer, self.seen, run.images)
            row = self.take_step(batch, self.sentences_of(batch.captions), factor).numbers()
            self._check_finite(row)
            before, self.seen = self.seen, self.seen + run.batch
            update_ema(self.average, self.networks.generator, run.batch, self.seen, run.ema_half_life, run.ema_ramp)
            self.averages.add(row)
            self.progress.update(self.seen)
            if self._passed(before, run.log_every) and self._report(factor, loader):
                return False
            if self._passed(before, run.grid_every):
                self.grid()
            best = self._passed(before, self.config.evaluation.every) and self._evaluate()
            if best or self._passed(before, run.checkpoint_every):
                self.save(best)
        raise AssertionError("the loader never ends")

    def _passed(self, before: int, every: int) -> bool:
        return every > 0 and before // every < self.seen // every

    def _anyone(self, asked: bool) -> bool:
        """Whether any process was asked to stop: all must stop at the same step."""
        if self.processes.world == 1:
            return asked
        return bool(self.processes.total(torch.tensor([float(asked)], device=self.device)).item())

    def _report(self, factor: float, loader: Loader) -> bool:
        """Write a log row; True if it showed a collapse and the run returned to an earlier checkpoint."""
        means = self.averages.take()
        row = {"images": self.seen, **means, "rate": factor, "images_per_second": self.progress.rate(self.seen)}
        if loader.broken_count or loader.broken_shards:
            row |= {"broken_records": loader.broken_count, "broken_shards": len(loader.broken_shards)}
        self.log.write(row)
        self._tell_broken(loader)
        self.progress.note(self.seen, "  ".join(f"{name} {value:.3f}" for name, value in means.items()))
        wrong = self.watch.look(self.seen, means)
        if wrong is None:
            return False
        if self.config.guard.collapse == "warn":
            self._say(f"{wrong}; consider --resume best with lower optimizer rates")
            return False
        self._return(wrong)
        return True

    def _tell_broken(self, loader: Loader) -> None:
        """Name each broken record and shard once (each process its own)."""
        for name, why in (loader.broken_shards | loader.broken).items():
            if name not in self._told:
                self._told.add(name)
                self.console.print(f"passed over {name}: {why}", soft_wrap=True)

    def _return(self, wrong: str) -> None:
        """Go back to the best checkpoint before the collapse, or to the last one, with lower rates."""
        guard, folder, returns = self.config.guard, self.out / "checkpoints", self.watch.returns + 1
        target = self.processes.from_main(lambda: sound_checkpoint(folder, self.watch.sound_until))
        if target is None or returns > guard.most_returns:
            why = "no sound checkpoint is there" if target is None else f"it has returned {returns - 1} times already"
            raise TrainingDiedError(f"{wrong}; {why} (guard.most_returns, run.checkpoint_every); lower the rates")
        lowered = self._lowered * guard.lower_rates
        self._load(target)
        self.watch.returns, self._lowered = returns, lowered
        self.processes.wait()
        if self.processes.is_main:
            forget_beyond(folder, self.seen)
        self.log.rewind(self.seen)
        self.progress.restart(self.seen)
        self.save()  # the lower rates, and how often the run has returned, outlive a kill
        self._say(f"{wrong}; returned to {target.name}, rates now {lowered:g} of the configuration's")

    def _say(self, text: str) -> None:
        if self.processes.is_main:
            self.console.print(text, soft_wrap=True)

    def _say_skipped(self) -> None:
        for line in self.source.skipped.described():
            self._say(f"{self.config.data.source}: left out, {line}")

    def _check_finite(self, row: dict[str, float]) -> None:
        if broken := broken_terms(row):
            self._die(f"{', '.join(broken)} became {row[broken[0]]}")

    def _die(self, what: str) -> None:
        good = list_checkpoints(self.out / "checkpoints")
        remedy = f"the last good checkpoint is {good[-1]}" if good else "there is no checkpoint yet"
        raise TrainingDiedError(f"after {self.seen} images {what}; {remedy}; resume from it with lower learning rates")

    def _evaluate(self) -> bool:
        """Score the averaged generator; True if it is the best so far by `evaluation.keep_best`."""
        assert self._score is not None
        self.scores = self._score(self.average)
        if self._measure is not None:
            self.scores |= self._measure(self.average, self.seen)
        self.log.write({"images": self.seen, **self.scores})
        metric = self.config.evaluation.keep_best
        if metric not in self.scores:
            if metric:
                self._say(f"evaluation.keep_best: there is no score {metric}; these are: {', '.join(self.scores)}")
            return False
        best = self.processes.from_main(lambda: best_checkpoint(self.out / "checkpoints"))
        return best is None or best.metric != metric or better(metric, self.scores[metric], best.value)

    # ---- what is kept

    def save(self, best: bool = False) -> Path:
        """Write a checkpoint of this moment; with `best`, mark it as the best by the chosen score.

        Raises:
            TrainingDiedError: a weight is not finite; nothing is written.
        """
        if not self.step.weights_are_finite():
            self._die("weights became infinite or not a number")
        states = self.step.state_dict() | {"random": self.processes.collect([random_state(self.device)])}
        folder = self.out / "checkpoints" / f"images-{self.seen:09d}"
        if self.processes.is_main:
            run = self.config.run
            about: dict[str, Any] = {
                "version": galip.__version__,
                "config": self.config.model_dump(mode="json"),
                "data": self.source.digest,
                "scores": self.scores,
                "averages": self.averages.state(),
                "guard": self.watch.state() | {"lowered": self._lowered},
            }
            if self.networks.t5 is not None:
                about["text_scale"] = self.networks.t5.scale
            keep = Keep(run.keep, run.keep_every)
            folder = save_checkpoint(folder.parent, self.seen, self._saved_networks(), states, about, keep)
            if best:
                metric = self.config.evaluation.keep_best
                mark_best(folder, metric, self.scores[metric])
        self._saved_at = self.seen
        self.processes.wait()
        return folder

    def _saved_networks(self) -> dict[str, nn.Module]:
        networks = self.networks
        return {"generator": networks.generator, "ema": self.average, "discriminator": networks.discriminator}

    def _load(self, checkpoint: Path) -> None:
        about, states = load_checkpoint(checkpoint, self._saved_networks(), self.device)
        self.step.load_state_dict(states)
        self.take_step = self._stepper()
        set_random_state(states["random"], self.processes.rank)
        self.seen = about["images"]
        self._saved_at = self.seen if checkpoint.parent == self.out / "checkpoints" else None
        self.scores = about["scores"]
        self.averages.load_state(about["averages"])
        self.watch.load_state(about["guard"])
        self._lowered = float(about["guard"]["lowered"])
        if self.networks.t5 is not None and self.config.model.text_scale is None:
            self.networks.t5.scale = float(about["text_scale"])
        self.differences = differences(about["config"], self.config.model_dump(mode="json"))
        self.differences += differences(about["data"], self.source.digest, "the data's hash")

    @torch.no_grad()
    def grid(self) -> Path | None:
        """Draw the averaged generator's sample grid, a row per caption, a column per seed; the main process does."""
        if not self.processes.is_main:
            return None
        run = self.config.run
        seeds = list(range(run.grid_seeds))
        e = self.networks.sentence_encoder.encode(self._grid_captions).to(self.device)
        pictures = []
        for vector in e:
            z = torch.from_numpy(noise(seeds, self.average.z_dim)).to(self.device)
            drawn = self.average(z, vector.expand(len(seeds), -1), self.networks.vision)
            pictures += to_pil(((drawn.float() + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy())
        path = self.out / "grids" / f"images-{self.seen:09d}.{run.keep_grids_as}"
        save_grid(pictures, len(seeds), path)
        return path

    def export(self) -> Path:
        """Write the averaged generator with its CLIP and D as a model folder, `out/model`."""
        folder = self.out / "model"
        if self.processes.is_main:
            with no_progress_bars():
                export_model(self.networks, self.average, self.config, self.seen, folder)
        self.processes.wait()
        return folder
