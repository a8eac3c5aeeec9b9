"""The training loop, a short list of named steps around the formulas of `objective.py`.

Progress is counted in images seen. Everything random about a sample is a function of (run seed, sample number), so a
run that is stopped and resumed on one process repeats an uninterrupted one bit for bit.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

import galip
from galip.data.folder import CaptionedFolder
from galip.data.samples import Batch, Samples, batches, sample_noise, sample_shifts
from galip.errors import GalipError, InputError
from galip.loading import no_progress_bars
from galip.noise import noise
from galip.outputs import to_pil
from galip.training import objective
from galip.training.augment import shift
from galip.training.checkpoints import find_checkpoint, list_checkpoints, load_checkpoint, save_checkpoint
from galip.training.config import TrainConfig
from galip.training.ema import frozen_copy, update_ema
from galip.training.export import export_model
from galip.training.networks import Networks, build_networks
from galip.training.reporting import Averages, ProgressLine, RunLog, save_grid
from galip.training.text_vectors import TextVectors

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TrainingDiedError(GalipError):
    """A loss term became infinite or not a number; the message names it and the last good checkpoint."""


class Trainer:
    """Trains Mate-G and Mate-D as a configuration says, into a run folder.

    Args:
        config: the run.
        out: the run folder; created.
        resume: "latest", or a checkpoint folder; None starts anew, which an existing run in `out` forbids.

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
        self.device = _device(run.device)
        if run.precision == "fp16" and self.device.type == "cpu":
            raise InputError("run.precision is fp16, but there is no GPU; use bf16 or fp32 on a CPU")
        if run.threads:
            torch.set_num_threads(run.threads)
        self.source = CaptionedFolder(config.data.source)
        with no_progress_bars():
            self.networks = self._build(build_networks(config.model, run.seed))
        self.average = frozen_copy(self.networks.generator)
        self._compile()
        self.optimizers = self._optimizers()
        scaled = run.precision == "fp16"
        self.scalers = {
            name: torch.amp.GradScaler(self.device.type, enabled=scaled) for name in ("generator", "discriminator")
        }
        if checkpoint is not None:
            self._load(checkpoint)
        self._prepare_folder()

    # ---- set-up

    def _build(self, networks: Networks) -> Networks:
        layout = torch.channels_last if self.config.run.channels_last else torch.contiguous_format
        for network in (networks.vision, networks.generator, networks.discriminator):
            network.to(self.device).to(memory_format=layout)
        networks.text_encoder.to(self.device)
        networks.generator.fold()
        networks.vision.checkpointing = self.config.run.checkpoint_vit
        return networks

    def _compile(self) -> None:
        networks, wanted = self.networks, self.config.run.compile
        # Mate-D stays as it is: its gradient penalty is differentiated twice, which compiled graphs cannot do.
        self._draw: Any = torch.compile(networks.generator) if wanted else networks.generator
        self._look: Any = torch.compile(networks.vision.taps_and_embed) if wanted else networks.vision.taps_and_embed
        self._look_at_real: Any = torch.compile(networks.vision.taps) if wanted else networks.vision.taps

    def _optimizers(self) -> dict[str, torch.optim.Adam]:
        options, on_gpu = self.config.optimizer, self.device.type == "cuda"
        rates = {"generator": options.lr_generator, "discriminator": options.lr_discriminator}
        return {
            name: torch.optim.Adam(getattr(self.networks, name).parameters(), lr=lr, betas=options.betas, fused=on_gpu)
            for name, lr in rates.items()
        }

    def _prepare_folder(self) -> None:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / "config.yaml").write_text(yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False))
        except OSError as error:
            raise GalipError(f"{self.out}: cannot be written ({error.strerror}); choose another --out") from error

    # ---- the run

    def fit(self) -> Path:
        """Train until `run.images`, or until SIGTERM or SIGINT ask to stop; either way everything is saved.

        Returns:
            The model folder `out/model`.

        Raises:
            TrainingDiedError: a loss term is not finite.
        """
        run, data = self.config.run, self.config.data
        size = self.networks.generator.image_size
        samples = Samples(
            self.source, run.seed, size, data.shorter_side or size, data.flip, cache_bytes=data.cache_mb << 20
        )
        self.text = TextVectors(self.networks.sentence_encoder, self.source.captions, run.text_cache)
        log, averages, progress = RunLog(self.out, self.seen), Averages(), ProgressLine(run.images, self.seen)
        with _stop_on_signals() as stop, contextlib.closing(log), contextlib.closing(progress):
            for batch in batches(samples, self.seen, run.batch, data.workers):
                if self.seen >= run.images or stop.is_set():
                    break
                row = self.step(batch)
                self._guard(row)
                averages.add(row)
                before, self.seen = self.seen, self.seen + run.batch
                progress.update(self.seen)
                if self._passed(before, run.log_every):
                    means = averages.take()
                    log.write({"images": self.seen, **means, "images_per_second": progress.rate(self.seen)})
                    progress.note(self.seen, "  ".join(f"{name} {value:.3f}" for name, value in means.items()))
                if self._passed(before, run.grid_every):
                    self.grid()
                if self._passed(before, run.checkpoint_every):
                    self.save()
            self.save()
        if stop.is_set():
            progress.console.print(f"stopped at {self.seen} of {run.images} images; go on with --resume latest")
        return self.export()

    def _passed(self, before: int, every: int) -> bool:
        return before // every < self.seen // every

    def step(self, batch: Batch) -> dict[str, float]:
        """One iteration: G draws once, D steps on the detached features, G steps on the same pictures.

        Returns:
            Every loss term and the discriminator's mean scores.
        """
        config, vision = self.config, self.networks.vision
        taps = self.networks.discriminator.tap_blocks
        e = self.text(batch.captions, self.device)
        ids = {caption: number for number, caption in enumerate(dict.fromkeys(batch.captions))}
        others = objective.mismatched([ids[caption] for caption in batch.captions])
        z = sample_noise(config.run.seed, batch.indices, self.networks.generator.z_dim).to(self.device)
        shifts: Any = (None, None)
        if largest := round(config.loss.shift * self.networks.generator.image_size):
            shifts = sample_shifts(config.run.seed, batch.indices, largest)
        with self._autocast():
            with torch.no_grad():
                real = batch.images.to(self.device, torch.float32).div_(127.5).sub_(1)
                real_taps = self._look_at_real(shift(real, shifts[0]), taps)
            fake = self._draw(z, e, vision)
            fake_taps, fake_vectors = self._look(shift(fake, shifts[1]), taps)
        row = self._step_discriminator(real_taps, [tap.detach() for tap in fake_taps], e, others)
        row |= self._step_generator(fake_taps, fake_vectors, e)
        run = config.run
        update_ema(
            self.average, self.networks.generator, run.batch, self.seen + run.batch, run.ema_half_life, run.ema_ramp
        )
        return {name: float(value) for name, value in row.items()}

    def _step_discriminator(
        self, real_taps: list[Tensor], fake_taps: list[Tensor], e: Tensor, others: list[int]
    ) -> dict[str, Tensor]:
        discriminator, weights = self.networks.discriminator, self.config.loss
        # Only the taps and e are differentiated, in fp32: the ViT before them is not part of the penalty.
        real_taps = [tap.detach().float().requires_grad_() for tap in real_taps]
        e_real = e.detach().clone().requires_grad_()
        with torch.autocast(self.device.type, enabled=False):
            features = discriminator.features(real_taps)
            real = discriminator.assess(features, e_real)
            mismatch = discriminator.assess(features, e[others])
            penalty = objective.matching_aware_penalty(
                real, real_taps, e_real, weights.penalty_k, weights.penalty_p, weights.penalty_form
            )
        with self._autocast():
            fake = discriminator(fake_taps, e).float()
        terms = {
            "d_real": objective.hinge_real(real),
            "d_fake": objective.hinge_fake(fake),
            "d_mismatch": objective.hinge_fake(mismatch),
            "penalty": penalty,
        }
        loss = terms["d_real"] + (terms["d_fake"] + terms["d_mismatch"]) / 2 + penalty
        self._optimize("discriminator", loss)
        scores = {"score_real": real.mean(), "score_fake": fake.mean(), "score_mismatch": mismatch.mean()}
        return {"loss_d": loss.detach()} | {name: term.detach() for name, term in (terms | scores).items()}

    def _step_generator(self, fake_taps: list[Tensor], fake_vectors: Tensor, e: Tensor) -> dict[str, Tensor]:
        discriminator, weight = self.networks.discriminator, self.config.loss.similarity
        discriminator.requires_grad_(False)  # its weights' gradients would be thrown away
        try:
            with self._autocast():
                adversarial = objective.adversarial(discriminator(fake_taps, e).float())
            similarity = objective.similarity(fake_vectors, e)
            loss = adversarial - weight * similarity
            self._optimize("generator", loss)
        finally:
            discriminator.requires_grad_(True)
        return {"loss_g": loss.detach(), "adversarial": adversarial.detach(), "similarity": similarity.detach()}

    def _optimize(self, name: str, loss: Tensor) -> None:
        optimizer, scaler = self.optimizers[name], self.scalers[name]
        optimizer.zero_grad(set_to_none=True)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        torch.autograd.backward(scaler.scale(loss), inputs=parameters)
        scaler.step(optimizer)
        scaler.update()

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        dtype = _DTYPES[self.config.run.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32)

    # ---- what is kept

    def _guard(self, row: dict[str, float]) -> None:
        broken = [name for name, value in row.items() if not math.isfinite(value)]
        if broken:
            good = list_checkpoints(self.out / "checkpoints")
            remedy = f"the last good checkpoint is {good[-1]}" if good else "there is no checkpoint yet"
            raise TrainingDiedError(
                f"after {self.seen} images {', '.join(broken)} became {row[broken[0]]}; {remedy}; "
                "resume from it with lower learning rates"
            )

    def save(self) -> Path:
        """Write a checkpoint of this moment."""
        states = {
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "scalers": {name: scaler.state_dict() for name, scaler in self.scalers.items()},
            "random": _random_state(self.device),
        }
        about = {"version": galip.__version__, "config": self.config.model_dump(mode="json")}
        folder = self.out / "checkpoints"
        return save_checkpoint(folder, self.seen, self._saved_networks(), states, about, self.config.run.keep)

    def _saved_networks(self) -> dict[str, nn.Module]:
        networks = self.networks
        return {"generator": networks.generator, "ema": self.average, "discriminator": networks.discriminator}

    def _load(self, checkpoint: Path) -> None:
        about, states = load_checkpoint(checkpoint, self._saved_networks(), self.device)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(states["optimizers"][name])
            for group, lr in zip(optimizer.param_groups, [self._rate(name)], strict=True):
                group["lr"] = lr  # the configuration's, which may have been lowered for this resume
        for name, scaler in self.scalers.items():
            scaler.load_state_dict(states["scalers"][name])
        _set_random_state(states["random"])
        self.seen = about["images"]
        self.differences = _differences(about["config"], self.config.model_dump(mode="json"))

    def _rate(self, name: str) -> float:
        return float(getattr(self.config.optimizer, f"lr_{name}"))

    @torch.no_grad()
    def grid(self) -> Path:
        """Draw the averaged generator's sample grid: a row per caption, a column per seed."""
        run = self.config.run
        captions = run.grid_captions or tuple(self.source.captions[:: max(1, len(self.source.captions) // 8)][:8])
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
        with no_progress_bars():
            return export_model(self.networks, self.average, self.config, self.seen, self.out / "model")


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"run.device is {name!r}; use auto, cpu, cuda or cuda:0") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"run.device is {name}, but torch finds no CUDA GPU; use auto or cpu")
    return device


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
