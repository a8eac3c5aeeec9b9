"""The training loop, a short list of named things around the step.

Progress is counted in images seen. Everything random about a sample is a function of (run seed, sample number), so a
run that is stopped and resumed repeats an uninterrupted one bit for bit, and how many processes share the batch changes
no more than the order of sums.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

import galip
from galip.data.loader import Loader
from galip.data.source import open_source
from galip.errors import GalipError, InputError
from galip.loading import no_progress_bars
from galip.models.text import measure_scale
from galip.noise import noise
from galip.outputs import to_pil
from galip.training.checkpoints import (
    Keep,
    best_checkpoint,
    find_checkpoint,
    images_of,
    list_checkpoints,
    load_checkpoint,
    mark_best,
    save_checkpoint,
)
from galip.training.config import TrainConfig
from galip.training.ema import frozen_copy, update_ema
from galip.training.evaluating import RunScores
from galip.training.export import export_model
from galip.training.guards import CollapseWatch, TrainingDiedError, broken_terms
from galip.training.memory import keep_freed_memory
from galip.training.networks import Networks, build_networks
from galip.training.parallel import Processes
from galip.training.reporting import Averages, NoLog, ProgressLine, RunLog, check_trackers, environment, save_grid
from galip.training.schedule import rate_factor
from galip.training.step import GANStep, lay_out
from galip.training.text_vectors import RunSentences

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
        checkpoint = find_checkpoint(out, resume) if resume else None
        if checkpoint is None and list_checkpoints(out / "checkpoints"):
            raise InputError(f"{out}: a run with checkpoints is there already; add --resume latest, or another --out")
        self._trackers = check_trackers(run.trackers)
        if run.threads:
            torch.set_num_threads(run.threads)
        self.processes = Processes(run.device)
        self.device = self.processes.device
        if self.device.type == "cpu":
            keep_freed_memory()
        self.local_batch = _share(config, self.processes.world)
        self.source = open_source(config.data.source)
        with no_progress_bars():
            self.networks = self._build(build_networks(config.model, run.seed))
        self.average = frozen_copy(self.networks.generator)
        self.step = GANStep(self.networks, config, self.processes)
        self.watch, self.averages = CollapseWatch(config.guard), Averages()
        self._lowered = 1.0
        self._told: set[str] = set()
        self.scores: dict[str, float] = {}
        if checkpoint is not None:
            self._load(checkpoint)
        self._evaluated = self._captions_to_evaluate()

    # ---- set-up

    def _build(self, networks: Networks) -> Networks:
        lay_out(networks, self.device, self.config.run.channels_last)
        networks.text_encoder.to(self.device)
        networks.vision.checkpointing = self.config.run.checkpoint_vit
        if networks.second is not None:
            networks.second.vision.to(self.device)
            networks.second.encoder.model.to(self.device)
        if networks.t5 is not None:
            networks.t5.model.to(self.device)
            if self.config.model.text_scale is None:
                networks.t5.scale = measure_scale(networks.t5, self.source.some_captions(_SCALE_CAPTIONS))
        return networks

    def _captions_to_evaluate(self) -> list[str]:
        options = self.config.evaluation
        if not options.every:
            return []
        source = open_source(options.source) if options.source else self.source
        captions = source.some_captions(options.captions)
        if len(captions) < 2:
            raise InputError(f"{options.source or self.config.data.source}: fewer than 2 captions to evaluate with")
        return captions

    def _prepare_folder(self) -> None:
        if not self.processes.is_main:
            return
        config = self.config.model_dump(mode="json")
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
            about = {"data": self.source.digest, "processes": self.processes.world, "device": str(self.device)}
            environment(self.out, about | {"threads": torch.get_num_threads()})
        except OSError as error:
            raise GalipError(f"{self.out}: cannot be written ({error.strerror}); choose another --out") from error

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
            most_broken=data.most_broken,
            most_broken_shards=data.most_broken_shards,
        )

    def sentences(self) -> RunSentences:
        """The vectors of the data's captions: a table where they are few enough (`run.text_cache`)."""
        return RunSentences(self.networks, self.source.distinct_captions(self.config.run.text_cache), self.processes)

    def sentences_on_demand(self) -> RunSentences:
        """The same without the table: for a few steps."""
        return RunSentences(self.networks, None, self.processes)

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
        self.sentences_of = self.sentences()
        self._score = RunScores(self.networks, self._evaluated, self.processes) if self._evaluated else None
        main = self.processes.is_main
        plain = self.config.model_dump(mode="json")
        self.log: RunLog | NoLog = NoLog()
        if main:
            self.log = RunLog(self.out, self.seen, self.processes.accelerator, self._trackers, plain)
        self.progress = ProgressLine(run.images, self.seen, shown=main)
        with _stop_on_signals() as stop, contextlib.closing(self.log), contextlib.closing(self.progress):
            while not self._train_on(stop):
                pass  # it returned to an earlier checkpoint; the samples start there again
            self.save()
        if stop.is_set() and main:
            self.progress.console.print(f"stopped at {self.seen} of {run.images} images; go on with --resume latest")
        return self.export()

    def _train_on(self, stop: threading.Event) -> bool:
        """Train from the present place; True when the run is over, False after a return to a checkpoint."""
        run = self.config.run
        loader = self.loader()
        for batch in loader:
            if self.seen >= run.images or self._anyone(stop.is_set()):
                return True
            factor = self._lowered * rate_factor(self.config.optimizer, self.seen, run.images)
            row = self.step(batch, self.sentences_of(batch.captions), factor)
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
                self.progress.console.print(f"passed over {name}: {why}", soft_wrap=True)

    def _return(self, wrong: str) -> None:
        """Go back to the best checkpoint, or to the last sound one, with lower rates."""
        guard, folder = self.config.guard, self.out / "checkpoints"
        best = best_checkpoint(folder)
        sound = [path for path in list_checkpoints(folder) if images_of(path) <= self.watch.sound_until]
        target = best[0] if best else (sound[-1] if sound else None)
        returns = self.watch.returns + 1
        if target is None or returns > guard.most_returns:
            why = "no sound checkpoint is there" if target is None else f"it has returned {returns - 1} times already"
            raise TrainingDiedError(f"{wrong}; {why} (guard.most_returns, run.checkpoint_every); lower the rates")
        lowered = self._lowered * guard.lower_rates
        self.processes.wait()
        self._load(target)
        self.watch.returns, self._lowered = returns, lowered
        self.log.rewind(self.seen)
        self._say(f"{wrong}; returned to {target.name}, rates now {lowered:g} of the configuration's")

    def _say(self, text: str) -> None:
        if self.processes.is_main:
            self.progress.console.print(text, soft_wrap=True)

    def _check_finite(self, row: dict[str, float]) -> None:
        if broken := broken_terms(row):
            good = list_checkpoints(self.out / "checkpoints")
            remedy = f"the last good checkpoint is {good[-1]}" if good else "there is no checkpoint yet"
            raise TrainingDiedError(
                f"after {self.seen} images {', '.join(broken)} became {row[broken[0]]}; {remedy}; "
                "resume from it with lower learning rates"
            )

    def _evaluate(self) -> bool:
        """Score the averaged generator; True if it is the best so far by `evaluation.keep_best`."""
        assert self._score is not None
        self.scores = self._score(self.average)
        self.log.write({"images": self.seen, **self.scores})
        metric = self.config.evaluation.keep_best
        if not metric:
            return False
        best = best_checkpoint(self.out / "checkpoints")
        return best is None or self.scores[metric] > best[1]

    # ---- what is kept

    def save(self, best: bool = False) -> Path:
        """Write a checkpoint of this moment; with `best`, mark it as the best by the chosen score."""
        states = self.step.state() | {"random": self.processes.collect([_random_state(self.device)])}
        folder = self.out / "checkpoints" / f"images-{self.seen:09d}"
        if self.processes.is_main:
            run = self.config.run
            about: dict[str, Any] = {
                "version": galip.__version__,
                "config": self.config.model_dump(mode="json"),
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
        self.processes.wait()
        return folder

    def _saved_networks(self) -> dict[str, nn.Module]:
        networks = self.networks
        return {"generator": networks.generator, "ema": self.average, "discriminator": networks.discriminator}

    def _load(self, checkpoint: Path) -> None:
        about, states = load_checkpoint(checkpoint, self._saved_networks(), self.device)
        self.step.load_state(states)
        random = states["random"]
        # A process that the checkpoint does not know keeps its fresh state; samples do not depend on it.
        if self.processes.rank < len(random):
            _set_random_state(random[self.processes.rank])
        self.seen = about["images"]
        self.scores = about["scores"]
        self.averages.load_state(about["averages"])
        self.watch.load_state(about["guard"])
        self._lowered = float(about["guard"]["lowered"])
        if self.networks.t5 is not None:
            self.networks.t5.scale = float(about["text_scale"])
        self.differences = _differences(about["config"], self.config.model_dump(mode="json"))

    @torch.no_grad()
    def grid(self) -> Path | None:
        """Draw the averaged generator's sample grid, a row per caption, a column per seed; the main process does."""
        if not self.processes.is_main:
            return None
        run = self.config.run
        captions = run.grid_captions or tuple(self.source.some_captions(8))
        seeds = list(range(run.grid_seeds))
        e = self.networks.sentence_encoder.encode(captions).to(self.device)
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


def _share(config: TrainConfig, world: int) -> int:
    """This process's pictures of each step.

    Raises:
        InputError: the batch cannot be dealt out evenly.
    """
    run = config.run
    if run.batch % world:
        raise InputError(
            f"run.batch is {run.batch}, which {world} processes cannot share evenly; use a multiple of {world}"
        )
    share = run.batch // world
    if run.micro_batch and share % run.micro_batch:
        raise InputError(
            f"run.micro_batch is {run.micro_batch}, but each process's share of the batch is {share}; "
            f"use a divisor of {share}"
        )
    return share


def _random_state(device: torch.device) -> dict[str, Any]:
    state: dict[str, Any] = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def _differences(before: Any, now: Any, path: str = "") -> list[str]:
    """Where two trees of plain values differ: "run.batch: 32 -> 64"."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [
            line for key in keys for line in _differences(before.get(key), now.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if before == now else [f"{path}: {before} -> {now}"]


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; a second SIGINT interrupts at once, as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    earlier = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def ask(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, earlier[signal.SIGINT])

    for number in earlier:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
