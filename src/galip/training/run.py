"""A run made of a configuration: everything is opened and checked, and nothing written, before it starts."""

from __future__ import annotations

from pathlib import Path

from galip.data.protocol import ImageSource
from galip.distributed import Distributed
from galip.training.checkpoint import starting_checkpoint
from galip.training.config import TrainConfig
from galip.training.evaluating import QuickScores, RunEvaluation
from galip.training.eye.scores import EyeScores
from galip.training.guards import CollapseWatch
from galip.training.hooks import CheckpointHook, CollapseHook, EvaluationHook, ForecastHook, GridHook, Hook, LogHook
from galip.training.inputs import TrainData
from galip.training.logs import check_trackers
from galip.training.loop import Trainer
from galip.training.run_folder import RunFolder
from galip.training.state import build_state
from galip.utils.progress import Progress, no_progress

_GRID_CAPTIONS = 8


def open_run(
    config: TrainConfig,
    out: Path,
    resume: str | None = None,
    progress: Progress = no_progress,
    source: ImageSource | None = None,
    graphs: bool = True,
) -> Trainer:
    """Make a run ready to be trained by `fit`.

    Args:
        config: the run.
        out: the run folder.
        resume: "latest", "best", or a checkpoint folder; None starts anew, which an existing run in `out` forbids.
        progress: told how many images have been seen.
        source: the captioned images, instead of those that `data.source` names.
        graphs: write graphs into the model in the end, from which it runs without torch.

    Raises:
        GalipError: data, CLIP, configuration, checkpoint or run folder are unusable, or another process trains in the
            folder.
    """
    log = LogHook(check_trackers(config.logging.trackers), progress)
    distributed = Distributed(config.performance.device, "performance.device")
    folder = RunFolder(out)
    distributed.from_main(folder.check_free)
    checkpoint = distributed.from_main(lambda: starting_checkpoint(out, resume))
    data = TrainData(config, distributed, source)
    state = build_state(config, distributed, data.captions)

    hooks: list[Hook] = [log, CollapseHook(CollapseWatch(state.config.guard), log)]
    hooks.append(GridHook(config.logging.grid_captions or data.captions(_GRID_CAPTIONS)))
    evaluation: EvaluationHook | None = None
    if (options := config.evaluation).every:
        captions = data.captions(options.captions, options.source)
        thorough = None
        if options.metrics:
            thorough = RunEvaluation(config, state.networks, distributed, out / "evaluations")
        eye = None
        if options.eye:
            eye = EyeScores(Path(options.eye), data.sized(), state.networks, options.captions, distributed)
        evaluation = EvaluationHook(QuickScores(state.networks, captions, distributed), thorough, log, eye)
        hooks.append(evaluation)
    hooks.append(CheckpointHook(evaluation))
    if config.stages:
        hooks.append(ForecastHook())

    trainer = Trainer(config, state, data, hooks, folder)
    trainer.graphs = graphs
    if checkpoint is not None:
        trainer.restore(checkpoint)
    data.loader(trainer.state.step.sample_rng, trainer.state.seen)  # what is wrong with the data shows now
    return trainer
