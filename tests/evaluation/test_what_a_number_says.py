"""What a number says of itself: the size that was used, both sides of a CLIP, every image's own part, the records."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from evaluation import small

from galip.data.folder import CaptionedFolder
from galip.errors import GalipError
from galip.evaluation import evaluate
from galip.evaluation.evaluation import Evaluation
from galip.evaluation.metrics.task import FeatureSet, Measured, MetricTask
from galip.evaluation.planning import make_plan
from galip.evaluation.result import PER_IMAGE, ImageScores, files_of, read_rows
from galip.evaluation.runner import open_model

pytestmark = pytest.mark.usefixtures("one_thread")


def test_size_and_text_side_are_part_of_a_result(
    small_model: Path, small_data: Path, small_clip: Path, tmp_path: Path
) -> None:
    rules, out = small.rules("clip_score"), tmp_path / "r.json"
    results = []
    other = shutil.copytree(small_clip, tmp_path / "other")
    shutil.copytree(small_model / "text_encoder", other / "text_encoder", dirs_exist_ok=True)
    for clip in (small_clip, other):
        references = small.references(small_data, clip, tmp_path / "cache")
        results.append(evaluate(small_model, rules, references, out=out, distributed=small.alone()))
    one, two = results
    assert one is not None and two is not None
    assert rules.resolution == 0 and one.settings["resolution"] == small.SIDE
    assert one.extractors["clip"].digest != two.extractors["clip"].digest
    rows = read_rows(files_of(out) / PER_IMAGE, ImageScores)
    mean = np.mean([row.scores["clip_score"] for row in rows if row.scores])
    assert mean == pytest.approx(two.metrics["clip_score"].value, abs=1e-6)


def test_another_evaluations_work_is_thrown_away_only_when_asked(
    small_model: Path, small_data: Path, small_clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r.json"
    work = out.with_suffix(".work")
    work.mkdir()
    (work / "evaluation.json").write_text('{"model": "another"}')
    references = small.references(small_data, small_clip, tmp_path / "cache")
    evaluation = Evaluation(small.rules("clip_score", images=8), references, small.alone())
    with pytest.raises(GalipError, match="holds an unfinished evaluation with other"):
        evaluation.run(open_model(small_model), out)
    assert evaluation.run(open_model(small_model), out, replace=True) is not None


def test_images_of_one_record_are_in_one_group_of_the_jackknife(small_data: Path) -> None:
    rules = small.rules("fd_clip", captions="passes", passes=3)
    plan = make_plan(rules, CaptionedFolder(small_data))
    task = MetricTask("fd_clip", rules, plan, FeatureSet(np.zeros((len(plan.samples), 2), np.float32)), Measured())
    groups: dict[int | None, set[int]] = {}
    for row, group in zip(plan.compared, task.jackknife_groups(9).tolist(), strict=True):
        groups.setdefault(row.record, set()).add(group)
    assert len(groups) == small.COUNT and all(len(found) == 1 for found in groups.values())
    assert set.union(*groups.values()) == set(range(9))
