"""The two ways in which these GANs die, noticed: values that are not finite, and collapse."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from galip.errors import GalipError
from galip.training.config import GuardConfig


class TrainingDiedError(GalipError):
    """A loss term became infinite or not a number, or the run collapsed once too often; the message says what to do."""


class NotFiniteError(TrainingDiedError):
    """Numbers of a step are infinite or not a number."""


def check_finite(numbers: Mapping[str, float]) -> None:
    """Raise where a number is infinite or not a number.

    Raises:
        NotFiniteError: one is; all of them are named.
    """
    broken = [name for name, value in numbers.items() if not math.isfinite(value)]
    if broken:
        raise NotFiniteError(f"{', '.join(broken)} became {numbers[broken[0]]}")


class CollapseWatch:
    """Looks at each log row for signs of collapse.

    Diversity (spread of the generated images in CLIP space) and similarity are compared with the best that the run has
    had, D's margin with a fixed bound. One bad row means little; `patience` of them in a row are a collapse.

    Args:
        config: the run's `guard` section.
    """

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self.best = {"diversity": 0.0, "similarity": 0.0}
        self.bad_rows = 0
        self.sound_until = 0
        self.returns = 0

    def look(self, images: int, row: Mapping[str, float]) -> str | None:
        """Judge a log row.

        Args:
            images: images seen.
            row: means since the last row; `diversity`, `similarity`, `score_real` and `score_fake` are read where the
                objective has them.

        Returns:
            What is wrong, with numbers, when `patience` rows in a row were bad; None otherwise.
        """
        if self.config.collapse == "off":
            return None
        signs = self._signs(row)
        for name in self.best:
            self.best[name] = max(self.best[name], row.get(name, 0.0))
        if not signs:
            self.bad_rows, self.sound_until = 0, images
            return None
        self.bad_rows += 1
        if self.bad_rows < self.config.patience:
            return None
        self.bad_rows = 0
        return f"collapse since {self.sound_until} images: {'; '.join(signs)}"

    def _signs(self, row: Mapping[str, float]) -> list[str]:
        config, signs = self.config, []
        for name, share in (("diversity", config.min_diversity), ("similarity", config.min_similarity)):
            best, now = self.best[name], row.get(name)
            if now is not None and now < share * best:
                signs.append(f"{name} {now:.3f}, less than {share:g} of its best, {best:.3f} (guard.min_{name})")
        if "score_real" in row and "score_fake" in row:
            margin = row["score_real"] - row["score_fake"]
            if margin > config.max_margin:
                signs.append(f"D's margin {margin:.1f}, more than {config.max_margin:g} (guard.max_margin)")
        return signs

    def state(self) -> dict[str, Any]:
        """For a checkpoint: plain values."""
        return {
            "best": dict(self.best),
            "bad_rows": self.bad_rows,
            "sound_until": self.sound_until,
            "returns": self.returns,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.best = {name: float(value) for name, value in state["best"].items()}
        self.bad_rows, self.sound_until = int(state["bad_rows"]), int(state["sound_until"])
        self.returns = int(state["returns"])
