"""What an engine without torch generates is evaluated like what torch generates, and an exported model by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluation import small

from galip.errors import GalipError, InputError
from galip.evaluation.extractors.protocol import FeatureExtractor
from galip.evaluation.references import References
from galip.evaluation.result import Result
from galip.evaluation.runner import evaluate
from galip.export.exporting import Source, export
from galip.generation.load import load

pytestmark = [pytest.mark.engines, pytest.mark.usefixtures("one_thread")]

FEW = ("fd_clip", "clip_score", "r_precision")


@pytest.fixture
def references(small_data: Path, small_clip: Path, tmp_path: Path) -> References:
    return small.references(small_data, small_clip, tmp_path / "cache")


@pytest.fixture(scope="module")
def exported(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "openvino"
    export(load(small_model, engine="torch", device="cpu"), Source("tiny-32", small_model), out, "openvino")
    return out


def run(
    model: Path, references: References, *metrics: str, engine: str | None = None, out: Path | None = None
) -> Result:
    found = evaluate(model, small.rules(*metrics), references, engine=engine, distributed=small.alone(), out=out)
    assert found is not None
    return found


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_another_engine_gives_the_same_numbers(
    engine: str, small_model: Path, references: References, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GALIP_CACHE", str(tmp_path / "converted"))
    expected = run(small_model, references, *small.METRICS)
    found = run(small_model, references, *small.METRICS, engine=engine)
    assert found.machine["engine"] == engine and expected.machine["engine"] == "torch"
    assert found.model_digest == expected.model_digest and found.protocol_digest == expected.protocol_digest
    for name, number in expected.metrics.items():
        assert found.metrics[name].value == pytest.approx(number.value, rel=1e-3, abs=1e-4)
    assert [flag.text for flag in found.flags] == [flag.text for flag in expected.flags]


def test_an_exported_model_is_a_model(
    exported: Path, small_model: Path, references: References, tmp_path: Path
) -> None:
    expected = run(small_model, references, *FEW)
    found = run(exported, references, *FEW, out=tmp_path / "result.json")
    assert found.machine["engine"] == "openvino" and found.model_digest != expected.model_digest
    assert found.settings == expected.settings
    for name, number in expected.metrics.items():
        assert found.metrics[name].value == pytest.approx(number.value, rel=1e-3, abs=1e-4)
    assert "does not tell which CLIP" in small.texts(found.flags, "note")
    assert (tmp_path / "result.files" / "samples.jsonl").is_file()


def test_what_a_precision_costs(exported: Path, small_model: Path, references: References, tmp_path: Path) -> None:
    half = tmp_path / "fp16"
    export(load(small_model, engine="torch", device="cpu"), Source("tiny-32", small_model), half, "openvino", "fp16")
    whole, halved = run(exported, references, *FEW), run(half, references, *FEW)
    assert whole.model_digest != halved.model_digest
    assert whole.metrics["fd_clip"].value != halved.metrics["fd_clip"].value


def test_what_needs_the_models_own_clip_is_refused(exported: Path, references: References) -> None:
    with pytest.raises(InputError, match="no CLIP of its own that reads captions; leave clip_score_own out"):
        run(exported, references, "clip_score", "clip_score_own")


def test_torch_cannot_run_an_export_and_that_is_said_first(
    exported: Path, references: References, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> FeatureExtractor:
        raise AssertionError("a network was loaded")

    monkeypatch.setattr("galip.evaluation.evaluation.Evaluation._extractor", never)
    with pytest.raises(InputError, match="this model is exported, which torch cannot run"):
        run(exported, references, *FEW, engine="torch")


def test_one_engine_does_not_go_on_with_anothers_work(
    small_model: Path, references: References, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GALIP_CACHE", str(tmp_path / "converted"))
    out = tmp_path / "result.json"

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("galip.evaluation.evaluation.Evaluation._conclude", killed)
        with pytest.raises(KeyboardInterrupt):
            run(small_model, references, *FEW, out=out)
    with pytest.raises(GalipError, match="unfinished evaluation with other engine"):
        run(small_model, references, *FEW, engine="openvino", out=out)
    assert run(small_model, references, *FEW, out=out).machine["engine"] == "torch"
