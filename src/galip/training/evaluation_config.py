"""The section of the scores that a run takes of its averaged generator."""

from __future__ import annotations

from pydantic import Field, model_validator

from galip.evaluation.metrics.registry import METRICS, numbers_of
from galip.training.section import Section


class EvaluationConfig(Section):
    """Scores of the averaged generator while it trains."""

    every: int = Field(0, ge=0, description="images between two evaluations; 0: none")
    source: str = Field("", description="captioned images to evaluate on; empty: the training data")
    captions: int = Field(256, ge=2, description="captions generated for the quick scores, seed 0")
    metrics: tuple[str, ...] = Field((), description="metrics of galip evaluate as well, e.g. [fid, clip_score]")
    images: int = Field(1000, ge=2, description="images generated for these metrics")
    weights: dict[str, str] = Field({}, description="weights of their feature networks, by name")
    eye: str = Field("", description="folder of an eye, for eye_recognised, eye_distance, eye_score; empty: none")
    keep_best: str = Field("", description="score by which the best checkpoint is kept; empty: none")

    @model_validator(mode="after")
    def _scores_are_known(self) -> EvaluationConfig:
        unknown = [name for name in self.metrics if name not in METRICS or METRICS[name].space == "judge"]
        if unknown:
            known = ", ".join(name for name, metric in METRICS.items() if metric.space != "judge")
            raise ValueError(f"evaluation.metrics: there is no metric {unknown[0]} for a run; known: {known}")
        scores = ["clip_score_own", "drawn_diversity", "clip_score_second", *numbers_of(self.metrics)]
        scores += ["eye_recognised", "eye_distance", "eye_score"] if self.eye else []
        if self.keep_best not in ("", *scores):
            raise ValueError(
                f"evaluation.keep_best is {self.keep_best!r}; known: {', '.join(scores)}, and others that "
                "evaluation.metrics names"
            )
        if self.keep_best and not self.every:
            raise ValueError("evaluation.keep_best is set, but evaluation.every is 0; say after how many images")
        return self
