"""One evaluation at a time writes a result, and unfinished work is found again by the same one only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from evaluation import small

from galip.errors import GalipError
from galip.evaluation.references import References
from galip.evaluation.runner import evaluate
from galip.evaluation.work_folder import WorkFolder

ABOUT = {"settings": "1", "model": "2"}


def test_a_second_evaluation_into_one_file_is_refused_by_name(tmp_path: Path) -> None:
    out = tmp_path / "new" / "result.json"
    first = WorkFolder(out, ABOUT)
    for about in (ABOUT, ABOUT | {"model": "3"}):
        with pytest.raises(GalipError, match=r"new/result.json: another evaluation is writing this result now"):
            WorkFolder(out, about)
    other = WorkFolder(out.with_name("other.json"), ABOUT)  # another result is no matter
    other.close(done=True)
    assert first.path.is_dir()
    first.close(done=True)
    assert list(out.parent.iterdir()) == []
    WorkFolder(out, ABOUT | {"model": "3"}).close(done=True)


def test_a_living_evaluation_of_another_process_is_respected_and_a_dead_ones_work_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    code = f"""
import sys
from pathlib import Path
from galip.evaluation.work_folder import WorkFolder
work = WorkFolder(Path({str(out)!r}), {ABOUT!r})
(work.path / "done").touch()
print("begun", flush=True)
sys.stdin.read()
"""
    owner = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None and owner.stdout.readline() == "begun\n"
        with pytest.raises(GalipError, match="another evaluation is writing this result now"):
            WorkFolder(out, ABOUT)
    finally:
        owner.kill()
        owner.communicate()
    work = WorkFolder(out, ABOUT)
    assert (work.path / "done").exists()
    work.close(done=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result.work"]


def test_anothers_unfinished_work_is_refused_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    work = WorkFolder(out, ABOUT)
    (work.path / "done").touch()
    work.close(done=False)
    with pytest.raises(GalipError, match="result.work: holds an unfinished evaluation with other model, settings; "):
        WorkFolder(out, {"settings": "x", "model": "y"})
    replaced = WorkFolder(out, {"settings": "x", "model": "y"}, replace=True)
    assert not (replaced.path / "done").exists()
    assert json.loads((replaced.path / "evaluation.json").read_text()) == {"settings": "x", "model": "y"}
    replaced.close(done=True)


@pytest.mark.parametrize("content", ["", "[1]", "\0", '{"settings": '])
def test_work_that_cannot_be_read_is_one_line(tmp_path: Path, content: str) -> None:
    out = tmp_path / "result.json"
    (tmp_path / "result.work").mkdir()
    (tmp_path / "result.work" / "evaluation.json").write_text(content)
    with pytest.raises(GalipError, match="result.work: (cannot be used|holds an unfinished).*remove it, or choose"):
        WorkFolder(out, ABOUT)
    assert not (tmp_path / ".result.json.lock").exists()


def test_without_a_result_the_work_is_nobodys(tmp_path: Path) -> None:
    one, two = WorkFolder(None, ABOUT), WorkFolder(None, ABOUT)
    assert one.path != two.path
    for work in (one, two):
        work.close(done=False)
        assert not work.path.exists()


def test_evaluate_is_refused_before_anything_is_generated(
    small_model: Path, small_data: Path, small_clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "result.json"
    owner = WorkFolder(out, ABOUT)
    told: list[str] = []
    references = References(str(small_data), weights={"clip": str(small_clip)}, cache=tmp_path / "cache")
    with pytest.raises(GalipError, match="another evaluation is writing this result now"):
        evaluate(
            small_model,
            small.rules("clip_score"),
            references,
            out=out,
            distributed=small.alone(),
            progress=lambda stage, done, total: told.append(stage),
        )
    assert told == []
    owner.close(done=True)
