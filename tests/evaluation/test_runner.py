"""From a user's words to a result; and the bundle that lets one command be enough."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from data.tars import write_tar
from evaluation import random_inception, small

import galip
from galip.data.folder import CaptionedFolder
from galip.errors import GalipError, InputError
from galip.evaluation import Evaluation, evaluate, get_protocol, read_result
from galip.evaluation.bundle import bundle_of, read_bundle
from galip.evaluation.evaluated import EvaluatedModel, digest_of_model
from galip.evaluation.extractors.judge import JudgeExtractor
from galip.evaluation.pixel_facts import SATURATED
from galip.evaluation.protocols import Protocol
from galip.evaluation.references import References
from galip.evaluation.result import Result
from galip.evaluation.runner import is_image_set, open_model
from galip.evaluation.statistics import Moments, Statistics, write_statistics
from galip.evaluation.suites import read_suite

pytestmark = pytest.mark.usefixtures("one_thread")


def run(model: Path | str, protocol: Protocol | str, references: References, out: Path | None = None) -> Result:
    result = evaluate(model, protocol, references, out=out, distributed=small.alone())
    assert result is not None
    return result


@pytest.fixture
def references(small_data: Path, small_clip: Path, tmp_path: Path) -> References:
    return small.references(small_data, small_clip, tmp_path / "cache")


def test_a_result_says_what_it_is(small_model: Path, small_data: Path, references: References, tmp_path: Path) -> None:
    model = shutil.copytree(small_model, tmp_path / "model")
    (model / "training.json").write_text(json.dumps({"images": 1234}))
    out = tmp_path / "new" / "result.json"
    result = run(model, small.rules(), references, out)
    assert read_result(out) == result
    assert (result.protocol, result.seed, result.n_generated, result.n_reference) == (
        "custom",
        0,
        small.COUNT,
        small.COUNT,
    )
    assert (result.model, result.model_digest, result.images_seen) == (
        str(model),
        digest_of_model(galip.load(model, engine="torch", device="cpu")),
        1234,
    )
    assert (result.data, result.data_digest) == (str(small_data), CaptionedFolder(small_data).digest[:16])
    assert result.settings["metrics"] == list(small.METRICS) and result.settings["pictures"] == 0
    assert result.extractors.keys() == {"clip", "own"}
    assert result.extractors["clip"].digest != result.extractors["own"].digest
    assert torch.__version__.startswith(result.versions["torch"]) and result.machine["processes"] == 1
    four = {"precision_clip", "recall_clip", "density_clip", "coverage_clip"}
    assert result.metrics.keys() == {*small.METRICS, *four} - {"prdc_clip"}
    assert result.real_baseline.keys() == result.metrics.keys() - {"diversity"}
    for name, number in result.metrics.items():
        assert number.low is not None and number.high is not None and number.interval, name
        assert number.low <= number.value <= number.high, name
    assert result.metrics["fd_clip"].count == small.COUNT and result.real_baseline["fd_clip"].count == small.COUNT // 2
    assert result.metrics["diversity"].count == 64  # sixteen captions, four seeds each


def test_the_protocols_digest_is_of_what_changes_numbers(
    references: References, small_clip: Path, tmp_path: Path
) -> None:
    def digest(protocol: Protocol, given: References = references) -> str:
        return Evaluation(protocol, given, small.alone()).digest

    one = digest(small.rules("clip_score"))
    assert digest(small.rules("clip_score", "fd_clip")) == one
    assert digest(small.rules("clip_score", images=20)) != one
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red heart\ntwo birds\n")
    more = References(references.data, None, "", (str(prompts),), {"clip": str(small_clip)}, references.cache)
    with_prompts = digest(small.rules("clip_score"), more)
    prompts.write_text("a red heart\ntwo cats\n")
    assert len({one, with_prompts, digest(small.rules("clip_score"), more)}) == 3


def test_the_reference_file_is_part_of_the_protocol(references: References, tmp_path: Path) -> None:
    digests = set()
    for scale in (1.0, 2.0):
        path = tmp_path / f"{scale}.npz"
        write_statistics(path, Statistics(np.zeros(24), scale * np.eye(24)))
        given = References(references.data, path, weights=references.weights, cache=references.cache)
        digests.add(Evaluation(small.rules("fd_clip", reference="statistics"), given, small.alone()).digest)
    assert len(digests) == 2


def test_prompts_are_scored_by_category(small_model: Path, references: References, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({"colours": ["red heart", "red birds"], "counts": ["two birds", "two cats"]}))
    given = References(references.data, None, "", (str(prompts),), references.weights, references.cache)
    result = run(small_model, small.rules("fd_clip", "clip_score", "r_precision"), given)
    assert result.n_generated == small.COUNT
    assert {group: set(numbers) for group, numbers in result.groups.items()} == {
        "colours": {"clip_score", "r_precision"},
        "counts": {"clip_score", "r_precision"},
    }
    assert result.groups["colours"]["clip_score"].count == 2
    without = run(small_model, small.rules("fd_clip", "clip_score", "r_precision"), references)
    for name, number in without.metrics.items():
        assert result.metrics[name].value == pytest.approx(number.value, rel=1e-6)
    notes = small.texts(result.flags, "note", "r_precision")
    assert "the whole, colours, counts" in notes


def test_prompts_alone(small_model: Path, small_clip: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("red heart\ntwo birds\nsleepy cat\n")
    given = References(prompts=(str(prompts),), weights={"clip": str(small_clip)}, cache=tmp_path / "cache")
    result = run(small_model, "custom", given, tmp_path / "result.json")
    assert result.metrics.keys() == {"clip_score", "r_precision", "diversity"}
    assert result.real_baseline == {} and result.n_generated == 3 and result.n_reference is None
    assert small.texts(result.flags, "invalid") == ""


def test_generated_earlier_as_a_folder_or_as_shards(small_model: Path, references: References, tmp_path: Path) -> None:
    """A model's images written as files and evaluated as such: the same numbers, since they are 8-bit either way."""
    evaluation = Evaluation(small.rules("fd_clip", "clip_score"), references, small.alone())
    expected = evaluation.run(open_model(small_model, device="cpu"))
    assert expected is not None
    folder = tmp_path / "generated"
    folder.mkdir()
    pipe = open_model(small_model, device="cpu").pipe
    for row in evaluation.plan.compared:
        pipe(row.caption, seed=row.seed).images[0].save(folder / f"{row.number:03d}.png")
        (folder / f"{row.number:03d}.txt").write_text(row.caption)
    files = sorted(folder.iterdir())
    shard = write_tar(tmp_path / "shards" / "00000.tar", [(file.name, file.read_bytes()) for file in files])
    for generated in (folder, shard, shard.parent):
        found = run(generated, small.rules("fd_clip", "clip_score"), references)
        for name, number in expected.metrics.items():
            assert found.metrics[name].value == pytest.approx(number.value, rel=1e-3)
        assert found.images_seen is None and found.n_generated == small.COUNT


def test_what_is_a_model_and_what_are_images(small_model: Path, small_data: Path, tmp_path: Path) -> None:
    assert not is_image_set("emoji-64") and not is_image_set(small_model) and not is_image_set("owner/name")
    assert (
        is_image_set(small_data)
        and is_image_set("generated/00000.tar")
        and is_image_set("generated/{00000..00003}.tar")
    )


def test_a_run_folder_is_no_folder_of_images(small_model: Path, references: References, tmp_path: Path) -> None:
    """What a user means by the folder of a training run is the model in it."""
    run_folder = tmp_path / "run"
    shutil.copytree(small_model, run_folder / "model")
    with pytest.raises(GalipError, match=r"did you mean .*run/model\?.*Nor are there images"):
        run(run_folder, small.rules("clip_score"), references)


def test_a_wrong_name_is_told_before_networks_are_loaded(references: References, tmp_path: Path) -> None:
    missing = References(references.data, weights={"clip": str(tmp_path / "no clip")}, cache=references.cache)
    with pytest.raises(InputError, match="model 'emoji-46': there is no such folder"):
        run("emoji-46", small.rules("clip_score"), missing)


def test_the_name_of_a_result(small_model: Path, references: References, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"result.txt: a result is a .json file"):
        run(small_model, small.rules("clip_score"), references, tmp_path / "result.txt")


def test_truncation_is_the_protocols(small_model: Path, references: References) -> None:
    protocol = small.rules("clip_score", truncation=0.5)
    half = run(small_model, protocol, references)
    assert (
        half.metrics["clip_score"].value
        != run(small_model, small.rules("clip_score"), references).metrics["clip_score"].value
    )
    whole = EvaluatedModel(pipe := tiny.pipeline(), "tiny", pipe)
    with pytest.raises(InputError, match="generates with truncation 1.0, but protocol custom says 0.5"):
        Evaluation(protocol, references, small.alone()).run(whole)


# ---- what is given, and what is asked for


@pytest.mark.parametrize(
    ("protocol", "given", "complaint"),
    [
        ("released_coco", {"data": "x"}, "compares with statistics: give --reference FILE.npz"),
        ("custom", {}, "custom needs captioned images: give --data .*--prompts alone"),
        ("cub", {}, "cub needs captioned images: give --data .CUB-200-2011"),
        ("emoji64", {"data": "x"}, "emoji64 brings its own reference; leave --data"),
        ("emoji64", {"reference": "r"}, "emoji64 brings its own reference; leave --data and --reference out"),
        ("cub", {"data": "x", "reference": "r"}, "cub computes its reference from --data; leave --reference out"),
    ],
)
def test_what_must_be_given(
    small_data: Path, tmp_path: Path, protocol: str, given: dict[str, str], complaint: str
) -> None:
    write_statistics(tmp_path / "r.npz", Statistics(np.zeros(2), np.eye(2)))
    reference = tmp_path / "r.npz" if "reference" in given else None
    data = str(small_data) if "data" in given else ""
    with pytest.raises(InputError, match=complaint):
        Evaluation(get_protocol(protocol), References(data, reference, cache=tmp_path), small.alone())


@pytest.mark.parametrize("name", ["clpi", "own", "judge", "inception"])
def test_weights_that_nothing_opens(references: References, name: str) -> None:
    given = References(references.data, weights={"clip": "x", name: "y"}, cache=references.cache)
    with pytest.raises(InputError, match=f"--weights {name}=...: no metric .* opens that network; it opens clip"):
        Evaluation(small.rules("clip_score", "clip_score_own"), given, small.alone())


def test_metrics_that_cannot_be(references: References, small_data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the judge belongs to protocol emoji64; leave its metrics out .fd_judge"):
        Evaluation(small.rules("fd_judge"), References(str(small_data)), small.alone())
    prompts = tmp_path / "p.txt"
    prompts.write_text("a\n")
    rules = small.rules("fd_clip", captions="prompts", reference="none")
    with pytest.raises(InputError, match="metric fd_clip compares with real images"):
        Evaluation(rules, References(prompts=(str(prompts),)), small.alone())
    earlier = small.rules("clip_score_own")
    with pytest.raises(InputError, match="has no CLIP of its own that reads captions; leave clip_score_own out"):
        run(small_data, earlier, References(str(small_data), cache=tmp_path))


def test_prompts_are_not_for_images_generated_earlier(small_data: Path, references: References) -> None:
    given = References(references.data, prompts=("general",), weights=references.weights, cache=references.cache)
    with pytest.raises(InputError, match="their own captions; leave --prompts out"):
        run(small_data, small.rules("clip_score"), given)


def test_statistics_are_of_one_network(references: References, tmp_path: Path) -> None:
    write_statistics(tmp_path / "r.npz", Statistics(np.zeros(2), np.eye(2)))
    given = References(references.data, tmp_path / "r.npz", weights=references.weights, cache=references.cache)
    with pytest.raises(InputError, match="r.npz: statistics of features of 2 numbers; clip makes 24"):
        Evaluation(small.rules("fd_clip", reference="statistics"), given, small.alone())
    with pytest.raises(InputError, match="of one network's features, but metrics of clip, inception are asked for"):
        Evaluation(small.rules("fid", "fd_clip", reference="statistics"), given, small.alone())


def test_statistics_of_one_network_do_not_reach_another(
    small_model: Path, small_data: Path, small_clip: Path, tmp_path: Path
) -> None:
    """The memorisation check is made where the reference is known, and not in CLIP's features."""
    features = np.random.default_rng(0).normal(size=(50, 2048)).astype(np.float32)
    moments = Moments.of(features)
    write_statistics(tmp_path / "r.npz", Statistics(moments.mean, moments.covariance, 50, features))
    weights = {"clip": str(small_clip), "inception": str(random_inception.save(tmp_path / "inception.pth"))}
    given = References(str(small_data), tmp_path / "r.npz", str(small_data), weights=weights, cache=tmp_path)
    result = run(small_model, small.rules("kid", "clip_score", reference="statistics", images=4), given)
    assert result.n_reference == 50 and result.metrics.keys() == {"kid", "clip_score"}
    assert "nearer to a training image" in small.texts(result.flags, "warning")


@pytest.mark.parametrize("option", ["data", "training"])
def test_streams_have_no_numbers(small_data: Path, option: str) -> None:
    given = {"data": str(small_data)} | {option: "pipe:cat x.tar"}
    with pytest.raises(InputError, match=f"--{option} pipe:cat x.tar: streamed shards have no order"):
        Evaluation(small.rules("clip_score"), References(**given), small.alone())  # type: ignore[arg-type]


# ---- the bundle


def test_the_bundle_is_whole() -> None:
    bundle = read_bundle(bundle_of("emoji64"))
    judge = JudgeExtractor(bundle.judge, bundle.texts)
    compared = [entry for entry in bundle.listed if entry.compared]
    assert len(bundle.listed) > 1000 and compared
    assert judge.dim == len(bundle.reference.mu) and bundle.reference.features is not None
    reference = bundle.reference.features
    assert bundle.reference.count == len(reference) == len(bundle.facts)
    assert len(reference) > 2 * judge.dim and len(compared) > 2 * judge.dim
    # The statistics are those of the features, which are kept in half precision.
    moments = Moments.of(reference)
    np.testing.assert_allclose(bundle.reference.mu, moments.mean, atol=1e-4)
    np.testing.assert_allclose(bundle.reference.sigma, moments.covariance, atol=1e-3)
    assert judge(torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)).shape == (3, reference.shape[1])
    assert bundle.real.shape == (len(bundle.listed), judge.dim)
    assert bundle.facts[:, SATURATED].min() >= 0 and bundle.facts[:, SATURATED].max() <= 1
    # Every caption can be read, and its real image is nearer to it than to others.
    vectors = judge.encode_text([entry.caption for entry in bundle.listed]).numpy()
    known = np.isfinite(bundle.real).all(axis=1)
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (vectors[known], bundle.real[known])]
    own = (unit[0] * unit[1]).sum(1).mean()
    assert own > (unit[0] * np.roll(unit[1], 7, axis=0)).sum(1).mean() + 0.1
    with pytest.raises(InputError, match="the judge cannot read 'a dog on the moon'.*--metrics clip_score"):
        judge.encode_text(["a dog on the moon"])


def test_the_bundle_knows_the_prompts_of_its_protocol() -> None:
    """A prompt that is changed in the suite needs a bundle that is made anew."""
    bundle = read_bundle(bundle_of("emoji64"))
    for name in get_protocol("emoji64").suites:
        assert [p.text for p in read_suite(name).prompts if p.text not in bundle.texts] == []


def test_the_bundles_evaluation_is_laid_out() -> None:
    evaluation = Evaluation(get_protocol("emoji64"), References(), small.alone())
    bundle = read_bundle(bundle_of("emoji64"))
    assert [row.caption for row in evaluation.plan.samples[: len(bundle.listed)]] == [e.caption for e in bundle.listed]
    assert len(evaluation.plan.compared) == sum(entry.compared for entry in bundle.listed)
    assert evaluation.data_digest == evaluation.settings["bundle"] == bundle.digest
    assert evaluation.extractors.keys() == {"judge"}


@pytest.mark.parametrize("name", ["captions.jsonl", "features.safetensors", "suite_captions.json", "reference.npz"])
@pytest.mark.parametrize("how", ["gone", "cut"])
def test_a_damaged_bundle_is_named(tmp_path: Path, name: str, how: str) -> None:
    folder = shutil.copytree(bundle_of("emoji64"), tmp_path / "bundle")
    if how == "gone":
        (folder / name).unlink()
    else:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(GalipError, match="bundle"):
        read_bundle(folder)


def test_a_bundle_without_its_judge(tmp_path: Path) -> None:
    folder = shutil.copytree(bundle_of("emoji64"), tmp_path / "bundle")
    (folder / "judge" / "config.json").unlink()
    with pytest.raises(GalipError, match="no judge can be loaded from it.*install galip again"):
        JudgeExtractor(folder / "judge", {})


@pytest.mark.slow
def test_the_bundled_model_by_its_protocol(tmp_path: Path) -> None:
    result = run("emoji-64", "emoji64", References(cache=tmp_path), tmp_path / "result.json")
    assert small.texts(result.flags, "invalid") == ""
    assert result.images_seen and result.n_reference
    protocol = get_protocol("emoji64")
    assert {name for name in protocol.metrics if not name.startswith("prdc")} <= result.metrics.keys()
    assert result.metrics["r_precision_judge"].value > 0.2
    assert result.metrics["r_precision_judge"].value < result.real_baseline["r_precision_judge"].value
