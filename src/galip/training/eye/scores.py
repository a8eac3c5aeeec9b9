"""What the eye says of the averaged generator: which images show their captions, how far all are from real ones."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from galip.data.protocol import ImageSource, spread
from galip.data.samples import View
from galip.distributed import Distributed
from galip.errors import InputError
from galip.evaluation.metrics.fid import frechet_from
from galip.evaluation.statistics import Moments
from galip.generation.noise import noise
from galip.models.generator import MateGenerator
from galip.training.augment import lay_on
from galip.training.evaluating import EYE_DISTANCE, EYE_RECOGNISED, EYE_SCORE
from galip.training.eye.learner import as_eye_sees, load_eye
from galip.training.networks import Networks

_AT_ONCE = 32


class EyeScores:
    """Generates an image for each of some captions (seed 0), and shows them to the eye.

    Args:
        folder: of the eye.
        source: the data that it knows; it is asked about the first captions of evenly spread records.
        networks: the run's, whose frozen ones are used.
        count: captions at most.
        distributed: the processes of the run, of which one computes.

    Raises:
        GalipError: there is no eye, or it knows too few of the captions.
    """

    def __init__(
        self, folder: Path, source: ImageSource, networks: Networks, count: int, distributed: Distributed
    ) -> None:
        self.networks, self.distributed, self.device = networks, distributed, distributed.device
        eye, classes = load_eye(folder)
        self.eye = eye.to(self.device)
        numbers = {caption: number for number, caption in enumerate(classes)}
        chosen: dict[str, int] = {}
        for record in spread(count, len(source)):
            chosen.setdefault(source.captions_at(record)[0], record)
        self.captions = [caption for caption in chosen if caption in numbers]
        if len(self.captions) < 2:
            raise InputError(f"{folder}: this eye knows none of the data's captions; remove it, and it is trained anew")
        self.labels = torch.tensor([numbers[caption] for caption in self.captions])
        self.real = Moments.of(self._look(_real_images(source, [chosen[one] for one in self.captions]))[1].numpy())

    @torch.no_grad()
    def __call__(self, average: MateGenerator) -> dict[str, float]:
        """The scores of `average`, equal on every process.

        Returns:
            `eye_recognised`, the share of images that the eye takes for their captions'; `eye_distance`, the Frechet
            distance of its features of generated and real images; `eye_score`, the distance in parts of that share,
            less is better: images come no nearer to real ones by showing something else than their captions.
        """

        def compute() -> dict[str, float]:
            vectors, features = self._look(self._generate(average))
            hits = self.eye.logits(vectors.to(self.device)).argmax(1).cpu() == self.labels
            recognised = hits.float().mean().item()
            distance = float(frechet_from(Moments.of(features.numpy()), self.real))
            score = distance / max(recognised, 1 / len(hits))
            return {EYE_RECOGNISED: recognised, EYE_DISTANCE: distance, EYE_SCORE: score}

        return self.distributed.from_main(compute)

    def _generate(self, average: MateGenerator) -> Tensor:
        """An image of each caption on white, [N, 3, S, S] in [-1, 1]."""
        z = torch.from_numpy(noise([0], average.z_dim)).to(self.device)
        images = []
        for start in range(0, len(self.captions), _AT_ONCE):
            e = self.networks.sentence_encoder.encode(self.captions[start : start + _AT_ONCE]).to(self.device)
            made = average(z.expand(len(e), -1), e, self.networks.vision)
            images.append(lay_on(made.float().clamp(-1, 1), None).cpu())
        return torch.cat(images)

    @torch.no_grad()
    def _look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The eye's vectors and features of images [N, 3, S, S], on the CPU."""
        found = [self.eye.features(as_eye_sees(part.to(self.device))) for part in images.split(_AT_ONCE)]
        vectors, features = (torch.cat([one[side].cpu() for one in found]) for side in range(2))
        return vectors, features


def _real_images(source: ImageSource, records: list[int]) -> Tensor:
    """The middle squares of records, on white, [N, 3, 64, 64] in [-1, 1]."""
    view, pixels = View(0, 64, 64, False), []
    for record in records:
        image, _ = source.read(record, 64, 3)
        pixels.append(torch.from_numpy(view.cut(image, (0.5, 0.5))))
    return torch.stack(pixels).float() / 127.5 - 1
