"""The training loop: steps, and hooks after each.

Progress is counted in images seen. Everything random about a sample is a function of (run seed, sample number), so a
run that is stopped and resumed repeats an uninterrupted one, on a CPU bit for bit (a GPU adds in any order), and how
many processes share the batch changes no more than the order of sums.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from galip.data.loader import Loader
from galip.errors import GalipError
from galip.torch_backend.loading import no_progress_bars
from galip.training.checkpoint import STATE, forget_beyond, list_checkpoints, read_info
from galip.training.config import TrainConfig
from galip.training.config_file import parse_config
from galip.training.export import export_model
from galip.training.guards import NotFiniteError, TrainingDiedError
from galip.training.hooks import Hook
from galip.training.inputs import TrainData
from galip.training.run_folder import RunFolder
from galip.training.signals import stop_on_signals
from galip.training.stages import Stage, check_stage, stages_of
from galip.training.state import TrainState
from galip.training.text_vectors import CaptionVectors

logger = logging.getLogger(__name__)


class Trainer:
    """Trains a state on data, with hooks after each step. `galip.training.run.open_run` makes one of a configuration.

    Args:
        config: the run.
        state: networks, optimisers and progress.
        data: what is learnt from.
        hooks: what is done beside the steps, in order.
        folder: the run folder; nothing is written before `fit`.

    Attributes:
        differences: where the configuration differs from the resumed checkpoint's, one line each.
        loader: the batches of the present stretch.
        lr_multiplier: of the latest step.
        saved_at: images seen at the latest checkpoint; None: this run has none.
    """

    def __init__(
        self, config: TrainConfig, state: TrainState, data: TrainData, hooks: Sequence[Hook], folder: RunFolder
    ) -> None:
        self.state, self.data, self.hooks, self.folder = state, data, list(hooks), folder
        self.config, self.stages, self.distributed = config, stages_of(config), state.distributed
        self.differences: list[str] = []
        self.loader: Loader
        self.lr_multiplier = 1.0
        self.graphs = True  # write them into the model in the end
        self.saved_at: int | None = None
        self._seen_before = state.seen

    # ---- the run

    def fit(self) -> Path:
        """Train until `schedule.images`, or until SIGTERM or SIGINT ask to stop; either way everything is saved.

        Returns:
            The model folder `RUN/model`.

        Raises:
            TrainingDiedError: a loss term is not finite, or the run collapsed once too often.
            GalipError: too much of the data is broken, or another run trains in the folder.
        """
        with ExitStack() as stack:
            self._own_folder(stack)
            self.data.tell_skipped()
            vectors = self._caption_vectors()
            stop = stack.enter_context(stop_on_signals())
            for hook in self.hooks:
                stack.callback(hook.close)
                hook.start(self)
            while not self._train_on(stop, vectors):
                if self.state.seen >= self.state.stage.end:
                    self._begin_stage(self.stages[self.state.stage.number + 1])
                    vectors = self._caption_vectors()
            for hook in self.hooks:
                hook.finish(self)
            if self.state.seen < self.config.schedule.images:
                seen, images = self.state.seen, self.config.schedule.images
                self.tell(f"stopped at {seen} of {images} images; go on with --resume latest")
            return self.export()

    def _own_folder(self, stack: ExitStack) -> None:
        """Take the run folder, and write what is known before the first step."""
        self.distributed.from_main(lambda: stack.enter_context(self.folder.owned()))
        if not self.distributed.is_main:
            return
        device = self.distributed.device
        facts = {"data": self.data.source.digest, "processes": self.distributed.world, "device": str(device)}
        facts["threads"] = torch.get_num_threads()
        if device.type == "cuda":
            facts["gpu"] = torch.cuda.get_device_name(device)
        start_from = "" if self.state.seen else self.config.model.start_from
        self.folder.describe(self.config.model_dump(mode="json"), facts, start_from)
        for path in forget_beyond(self.folder.checkpoints, self.state.seen):
            self.tell(f"removed {path.name}, which lies beyond the checkpoint that this run goes on from")

    def _caption_vectors(self) -> CaptionVectors:
        return self.data.caption_vectors(self.state.networks, self.state.config)

    def _begin_stage(self, stage: Stage) -> None:
        """Go on with the next stage, and leave a checkpoint of its first moment in the place of the last one's."""
        self.tell(f"stage {stage.name}: {stage.end - stage.start:,} images, {stage.config.loss.objective}")
        self.state = self.state.next_stage(stage)
        for hook in self.hooks:
            hook.enter_stage(self)
        self.save()

    def _train_on(self, stop: threading.Event, vectors: CaptionVectors) -> bool:
        """Train from the present place.

        Returns:
            Whether the run is over; if not, its samples start anew: after a return to a checkpoint they start there,
            at the end of a stage with the next one.
        """
        state, last = self.state, self.state.stage.number + 1 == len(self.stages)
        self.loader = self.data.loader(state.step.sample_rng, state.seen)
        for batch in self.loader:
            if self._anyone(stop.is_set()):
                return True
            if state.seen >= state.stage.end:
                return last
            self._seen_before, self.lr_multiplier = state.seen, state.lr_multiplier()
            try:
                stats = state.advance(batch, vectors(batch.captions))
            except NotFiniteError as error:
                raise self._died(str(error)) from error
            if any(hook.after_step(self, stats) for hook in self.hooks):
                return False
        raise AssertionError("the loader never ends")

    def _anyone(self, asked: bool) -> bool:
        """Whether any process was asked to stop: all must stop at the same step."""
        if self.distributed.world == 1:
            return asked
        return bool(self.distributed.total(torch.tensor([float(asked)], device=self.distributed.device)).item())

    # ---- what hooks ask of it

    def passed(self, every: int) -> bool:
        """Whether the latest step passed a multiple of `every` images; never where that is 0."""
        return every > 0 and self._seen_before // every < self.state.seen // every

    def tell(self, text: str) -> None:
        """Say something of the run, once however many processes there are."""
        if self.distributed.is_main:
            logger.info("%s", text)

    def warn(self, text: str) -> None:
        """The same of something that should not be."""
        if self.distributed.is_main:
            logger.warning("%s", text)

    def save(self) -> Path | None:
        """Write a checkpoint of this moment; the main process returns its folder.

        Raises:
            TrainingDiedError: a weight is not finite; nothing is written.
        """
        if not self.state.step.weights_are_finite():
            raise self._died("weights became infinite or not a number")
        about = {name: value for hook in self.hooks for name, value in hook.saved().items()}
        checkpoint = self.state.save(self.folder.checkpoints, self.config, data=self.data.source.digest, **about)
        self.saved_at = self.state.seen
        self.distributed.wait()
        return checkpoint

    def restore(self, checkpoint: Path) -> None:
        """Go on from a checkpoint: state and hooks.

        Raises:
            GalipError: it is damaged, or of other networks.
        """
        number = read_info(checkpoint).stage
        check_stage(self.stages, number)
        for stage in self.stages[self.state.stage.number + 1 : number + 1]:
            self.state = self.state.next_stage(stage)
            for hook in self.hooks:
                hook.enter_stage(self)
        info = self.state.load(checkpoint)
        try:
            for hook in self.hooks:
                hook.restored(info)
        except (KeyError, TypeError, ValueError) as error:
            raise GalipError(f"{checkpoint / STATE}: damaged ({error!r}); resume from another checkpoint") from error
        self.saved_at = info.images if checkpoint.parent == self.folder.checkpoints else None
        before = parse_config(info.config, str(checkpoint / STATE)).model_dump(mode="json")
        self.differences = differences(before, self.config.model_dump(mode="json"))
        self.differences += differences(info.data, self.data.source.digest, "the data's hash")

    def export(self) -> Path:
        """Write the averaged generator with its CLIP and D as a model folder, `RUN/model`."""
        folder, state = self.folder.path / "model", self.state
        if self.distributed.is_main:
            with no_progress_bars():
                export_model(state.networks, state.average, self.config, state.seen, folder, graphs=self.graphs)
        self.distributed.wait()
        return folder

    def _died(self, what: str) -> TrainingDiedError:
        """The error of a run that cannot go on, with advice that fits."""
        good, seen = list_checkpoints(self.folder.checkpoints), self.state.seen
        if good:
            advice = f"the last good checkpoint is {good[-1]}; resume from it with lower learning rates"
        elif seen == 0:
            advice = (
                "no rate is too high before the first step: look for such numbers in the CLIP's weights and in "
                "model.start_from; where performance.precision is fp16, try bf16 or fp32"
            )
        else:
            advice = "there is no checkpoint yet; start again with lower learning rates"
        return TrainingDiedError(f"after {seen} images {what}; {advice}")


def differences(before: Any, now: Any, path: str = "") -> list[str]:
    """Where two trees of plain values differ: "schedule.batch: 32 -> 64"."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [
            line for key in keys for line in differences(before.get(key), now.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if before == now else [f"{path}: {before} -> {now}"]
