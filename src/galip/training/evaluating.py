"""Scores of the averaged generator while it trains: to choose a checkpoint by, and to see where a run goes."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from galip.distributed import Distributed
from galip.errors import GalipError, InputError
from galip.evaluation.evaluated import EvaluatedModel
from galip.evaluation.evaluation import Evaluation
from galip.evaluation.metrics.registry import METRICS, meaning_of
from galip.evaluation.protocols import get_protocol
from galip.evaluation.references import References
from galip.generation.noise import noise
from galip.models.generator import MateGenerator
from galip.torch_backend.pipeline import GALIPPipeline
from galip.training.augment import lay_on
from galip.training.config import TrainConfig
from galip.training.networks import Networks

_AT_ONCE = 32


OWN, SECOND = "clip_score_own", "clip_score_second"
EYE_RECOGNISED, EYE_DISTANCE, EYE_SCORE = "eye_recognised", "eye_distance", "eye_score"


class QuickScores:
    """Generates one image per caption (seed 0) and compares the two in CLIP space.

    Each process generates its share of the captions; the scores do not depend on how many processes there are.

    Args:
        networks: the run's networks.
        captions: what is generated.
        distributed: the processes of the run.
    """

    def __init__(self, networks: Networks, captions: list[str], distributed: Distributed) -> None:
        self.networks, self.distributed = networks, distributed
        self.captions = captions[distributed.rank :: distributed.world]

    @torch.no_grad()
    def __call__(self, average: MateGenerator) -> dict[str, float]:
        """The scores of `average`.

        Returns:
            `clip_score_own`, the mean cosine of clamped images and captions in the CLIP that the loss uses, too (so
            it flatters); `drawn_diversity`, the images' mean pairwise cosine distance in it; and, where there is a
            second CLIP, `clip_score_second`.
        """
        networks, device = self.networks, self.distributed.device
        rows = []
        for start in range(0, len(self.captions), _AT_ONCE):
            captions = self.captions[start : start + _AT_ONCE]
            e = networks.sentence_encoder.encode(captions).to(device)
            z = torch.from_numpy(noise([0], average.z_dim)).to(device).expand(len(captions), -1)
            images = lay_on(average(z, e, networks.vision).float().clamp(-1, 1), None)
            vectors = F.normalize(networks.vision.embed(images).float(), dim=1)
            said = e if networks.t5 is None else networks.clip_encoder.encode(captions).to(device)
            columns = [_cosine(vectors, said)[:, None]]
            if networks.second is not None:
                seen = networks.second.vision.embed(images).float()
                columns.append(_cosine(seen, networks.second.encoder.encode(captions).to(device))[:, None])
            rows.append(torch.cat([*columns, vectors], dim=1).cpu())
        table = torch.stack([row for part in self.distributed.collect(rows) for row in part.unbind()]).double()
        scores = {OWN: table[:, 0].mean().item()}
        if networks.second is not None:
            scores[SECOND] = table[:, 1].mean().item()
        first, count = len(scores), len(table)
        centre = table[:, first:].mean(0)
        scores["drawn_diversity"] = ((1 - centre.square().sum()) * count / (count - 1)).item()
        return scores


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a, b.float(), dim=1)


class RunEvaluation:
    """The metrics of `evaluation.metrics` by `galip.evaluation`, against real images; one result file each time.

    Args:
        config: the run.
        networks: its networks.
        distributed: the processes of the run.
        folder: where results are written; `galip evaluate --compare folder/*.json --report` plots their curves.

    Raises:
        InputError: the images are streamed, a metric is unknown, or the model has no CLIP for it.
        GalipError: a feature network's weights cannot be had.
    """

    def __init__(self, config: TrainConfig, networks: Networks, distributed: Distributed, folder: Path) -> None:
        options = config.evaluation
        self.name, self.networks, self.distributed, self.folder = config.name, networks, distributed, folder
        rules = get_protocol("custom").changed(metrics=options.metrics, images=options.images)
        if networks.t5 is not None and any(METRICS[name].space in ("own", "released") for name in options.metrics):
            raise InputError("evaluation.metrics: a model that is conditioned by a T5 has no CLIP score of its own")
        source = options.source or config.data.source
        try:
            self.evaluation = Evaluation(rules, References(data=source, weights=options.weights), distributed)
        except GalipError as error:
            raise type(error)(f"evaluation.metrics, on evaluation.source {source}: {error}") from error

    @torch.no_grad()
    def __call__(self, average: MateGenerator, images: int) -> dict[str, float]:
        """The numbers of `average` after so many images, on every process; none of a dead generator."""
        networks = self.networks
        text = (networks.tokenizer, networks.text_encoder)
        if networks.t5 is not None:
            text = (networks.t5.tokenizer, networks.t5.model)
        scale = None if networks.t5 is None else networks.t5.scale
        pipe = GALIPPipeline(*text, networks.vision.model, average, text_scale=scale)
        pipe.set_progress_bar_config(disable=True)
        drawn = EvaluatedModel(pipe, self.name, pipe, images_seen=images, batch_size=_AT_ONCE)
        result = self.evaluation.run(drawn, self.folder / f"images-{images:09d}.json", replace=True)

        def numbers() -> dict[str, float]:
            assert result is not None
            # A dead generator may have a fine precision; that too few images make a number too large holds for all
            # of the run alike.
            dead = any(flag.level == "invalid" and not flag.about for flag in result.flags)
            return {} if dead else {name: number.value for name, number in result.metrics.items()}

        return self.distributed.from_main(numbers)


def better(metric: str, value: float, best: float) -> bool:
    """Whether `value` of a score is better than `best`."""
    return value < best if metric in (EYE_DISTANCE, EYE_SCORE) or meaning_of(metric).better == "lower" else value > best
