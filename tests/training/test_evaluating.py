from __future__ import annotations

import json
from pathlib import Path

import pytest
from data.tars import write_shards
from training import toy
from training.toy import open_run

from galip.errors import InputError
from galip.evaluation import read_result
from galip.training.checkpoint import find_checkpoint, images_of
from galip.training.config import EvaluationConfig
from galip.training.evaluating import better


def test_metrics_of_the_evaluation_choose_the_best_checkpoint(
    toy_data: Path, toy_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GALIP_CACHE", str(tmp_path / "cache"))
    options = EvaluationConfig(
        every=8,
        captions=4,
        metrics=("fd_clip", "clip_score_own", "prdc_clip"),
        images=12,
        weights={"clip": str(toy_clip)},
        keep_best="fd_clip",
    )
    config = toy.config(toy_data, toy_clip, checkpoints={"keep": 1}, evaluation=options.model_dump())
    run = tmp_path / "run"
    open_run(config, run).fit()
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    distances = {row["images"]: row["fd_clip"] for row in rows if "fd_clip" in row}
    assert sorted(distances) == [8, 16, 24]
    assert images_of(find_checkpoint(run, "best")) == min(distances, key=lambda images: distances[images])
    assert all({"precision_clip", "coverage_clip", "drawn_diversity"} <= row.keys() for row in rows if "fd_clip" in row)
    results = [read_result(path) for path in sorted((run / "evaluations").glob("*.json"))]
    assert {result.images_seen: result.metrics["fd_clip"].value for result in results} == distances
    assert len({result.model_digest for result in results}) == 3


def test_streamed_pictures_have_no_metrics_and_the_remedy_is_named(
    toy_data: Path, toy_clip: Path, tmp_path: Path
) -> None:
    (tar,) = write_shards(tmp_path / "shards", [4])
    options = EvaluationConfig(every=8, metrics=("clip_score_own",), source=f"pipe:cat {tar}")
    config = toy.config(toy_data, toy_clip, evaluation=options.model_dump())
    with pytest.raises(InputError, match=r"evaluation\.source pipe:.*streamed shards have no order"):
        open_run(config, tmp_path / "run")


def test_a_distance_is_better_when_it_is_smaller() -> None:
    assert better("fid", 1.0, 2.0) and not better("fid", 2.0, 1.0)
    assert better("clip_score_own", 2.0, 1.0) and better("precision_clip", 2.0, 1.0)
