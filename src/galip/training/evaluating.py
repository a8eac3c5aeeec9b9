"""Scores of the averaged generator while it trains: enough to choose a checkpoint by, no published protocol."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from galip.models.generator import MateGenerator
from galip.noise import noise
from galip.processes import Processes
from galip.training.networks import Networks

_AT_ONCE = 32


class RunScores:
    """Draws one picture per caption (seed 0) and compares the two in CLIP space.

    Each process draws its share of the captions; the scores do not depend on how many processes there are.

    Args:
        networks: the run's networks.
        captions: what is drawn.
        processes: the processes of the run.
    """

    def __init__(self, networks: Networks, captions: list[str], processes: Processes) -> None:
        self.networks, self.processes = networks, processes
        self.captions = captions[processes.rank :: processes.world]

    @torch.no_grad()
    def __call__(self, average: MateGenerator) -> dict[str, float]:
        """The scores of `average`.

        Returns:
            `clip_score`, the mean cosine of clamped pictures and captions in the CLIP that the loss uses, too (so it
            flatters); `drawn_diversity`, the pictures' mean pairwise cosine distance in it; and, where there is a
            second CLIP, `second_clip_score`.
        """
        networks, device = self.networks, self.processes.device
        rows = []
        for start in range(0, len(self.captions), _AT_ONCE):
            captions = self.captions[start : start + _AT_ONCE]
            e = networks.sentence_encoder.encode(captions).to(device)
            z = torch.from_numpy(noise([0], average.z_dim)).to(device).expand(len(captions), -1)
            pictures = average(z, e, networks.vision).float().clamp(-1, 1)
            vectors = F.normalize(networks.vision.embed(pictures).float(), dim=1)
            said = e if networks.t5 is None else networks.clip_encoder.encode(captions).to(device)
            columns = [_cosine(vectors, said)[:, None]]
            if networks.second is not None:
                seen = networks.second.vision.embed(pictures).float()
                columns.append(_cosine(seen, networks.second.encoder.encode(captions).to(device))[:, None])
            rows.append(torch.cat([*columns, vectors], dim=1).cpu())
        table = torch.stack([row for part in self.processes.collect(rows) for row in part.unbind()]).double()
        scores = {"clip_score": table[:, 0].mean().item()}
        if networks.second is not None:
            scores["second_clip_score"] = table[:, 1].mean().item()
        first, count = len(scores), len(table)
        centre = table[:, first:].mean(0)
        scores["drawn_diversity"] = ((1 - centre.square().sum()) * count / (count - 1)).item()
        return scores


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a, b.float(), dim=1)
