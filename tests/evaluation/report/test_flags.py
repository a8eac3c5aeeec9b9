"""What is wrong with a model or with a measurement is said, and nothing is said where nothing is wrong."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from evaluation import small
from torch import Tensor

from galip.data.folder import CaptionedFolder
from galip.errors import GalipError, InputError
from galip.evaluation.evaluated import Evaluated
from galip.evaluation.evaluation import Evaluation
from galip.evaluation.extractors.registry import open_extractor
from galip.evaluation.images import real_images
from galip.evaluation.metrics.task import FeatureSet, Measured
from galip.evaluation.pixel_facts import PixelFacts, hashes_of
from galip.evaluation.plan import Plan, PlannedSample
from galip.evaluation.protocols import Protocol
from galip.evaluation.references import References
from galip.evaluation.report.flags import quality_flags
from galip.evaluation.result import Result
from galip.evaluation.runner import evaluate, open_model
from galip.evaluation.statistics import Moments, Statistics, write_statistics

pytestmark = pytest.mark.usefixtures("one_thread")

OTHERS = tuple(name for name in small.METRICS if name != "clip_score_own")
"""Metrics that need no model."""


class ByRule(Evaluated):
    """Generates by a rule; what a user gives `Evaluation.run` in place of a model."""

    name, digest, size = "by rule", "0", small.SIDE

    def images(self, rows: Sequence[PlannedSample]) -> Tensor:
        return torch.stack([self.one(row) for row in rows])

    def one(self, row: PlannedSample) -> Tensor:
        """[3, S, S] in [0, 1]."""
        raise NotImplementedError

    def noise(self, row: PlannedSample) -> Tensor:
        return torch.rand(3, small.SIDE, small.SIDE, generator=torch.Generator().manual_seed(row.seed))


class Constants(ByRule):
    """A colour for each caption."""

    def one(self, row: PlannedSample) -> Tensor:
        number = zlib.crc32(row.caption.encode())
        colour = torch.tensor([number >> shift & 255 for shift in (0, 8, 16)])
        return (colour / 255)[:, None, None].expand(3, small.SIDE, small.SIDE)


class OneOfACaption(ByRule):
    """A colourful image for each caption, whatever the seed."""

    def one(self, row: PlannedSample) -> Tensor:
        return self.noise(PlannedSample(0, "", zlib.crc32(row.caption.encode())))


class Loud(ByRule):
    """Black and white noise."""

    def one(self, row: PlannedSample) -> Tensor:
        return (self.noise(row) > 0.5).float()


class Copier(ByRule):
    """Mostly noise, but the real image for every fifth number."""

    def __init__(self, data: Path) -> None:
        self.source = CaptionedFolder(data)

    def one(self, row: PlannedSample) -> Tensor:
        if row.number % 5 or row.record is None:
            return self.noise(row)
        return real_images(self.source, [row.record], small.SIDE)[0] / 255


class Blurred(ByRule):
    """The training images with a little noise: the same to the eye, not to the bit."""

    def __init__(self, data: Path) -> None:
        self.source = CaptionedFolder(data)

    def one(self, row: PlannedSample) -> Tensor:
        real = real_images(self.source, [row.number % len(self.source)], small.SIDE)[0] / 255
        return (real + (self.noise(row) - 0.5) / 255).clamp(0, 1)


class Small:
    """Evaluates anything on the small data."""

    def __init__(self, data: Path, clip: Path, cache: Path) -> None:
        self.data, self.clip, self.cache = data, clip, cache

    def __call__(
        self,
        generated: Evaluated,
        *metrics: str,
        protocol: Protocol | None = None,
        training: str = "",
        clip: Path | None = None,
    ) -> Result:
        references = small.references(self.data, clip or self.clip, self.cache, training=training)
        rules = protocol or small.rules(*(metrics or OTHERS))
        result = Evaluation(rules, references, small.alone()).run(generated)
        assert result is not None
        return result


@pytest.fixture
def judged(small_data: Path, small_clip: Path, tmp_path: Path) -> Small:
    return Small(small_data, small_clip, tmp_path / "cache")


def saved(folder: Path, change: float) -> Path:
    """A model whose last layer's weights are all `change`."""
    pipe = tiny.pipeline()
    with torch.no_grad():
        pipe.generator.image_generator.to_rgb.weight.fill_(change)
    pipe.save_pretrained(folder, graphs=False)
    return folder


def of(folder: Path) -> Evaluated:
    return open_model(folder, device="cpu")


def test_a_healthy_model_has_no_grave_flag(judged: Small, small_model: Path, tmp_path: Path) -> None:
    other = small.images(tmp_path / "training", seed=5)
    result = judged(of(small_model), *small.METRICS, training=str(other))
    assert small.texts(result.flags, "invalid") == ""
    assert [(flag.about, flag.level) for flag in result.flags] == [
        ("clip_score_own", "warning"),
        ("r_precision", "note"),
    ]
    assert "flatters" in small.texts(result.flags, "warning")
    assert "fewer than 100: the whole" in small.texts(result.flags, "note", "r_precision")


def test_a_dead_generator(judged: Small, tmp_path: Path) -> None:
    result = judged(of(saved(tmp_path / "dead", 0.0)), *small.METRICS)
    grave = small.texts(result.flags, "invalid", "")
    assert "all 70 generated images are the same: the generator is dead" in grave
    assert "70 of 70 generated images are of one colour" in grave
    assert result.metrics["diversity"].value == 0
    # It still gets its numbers, and they are far from the floor.
    assert result.metrics["fd_clip"].value > 3 * result.real_baseline["fd_clip"].value
    assert result.metrics["recall_clip"].value == 0


def test_a_generator_of_constants(judged: Small) -> None:
    result = judged(Constants())
    assert "70 of 70 generated images are of one colour" in small.texts(result.flags, "invalid")
    assert "generated images are different: the generator has collapsed" in small.texts(result.flags, "warning", "")
    assert "the noise has no effect" in small.texts(result.flags, "warning", "diversity")


def test_seeds_that_do_nothing(judged: Small) -> None:
    flags = judged(OneOfACaption()).flags
    assert "the noise has no effect" in small.texts(flags, "warning", "diversity")
    assert small.texts(flags, "invalid") == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_an_error(judged: Small, tmp_path: Path, value: float) -> None:
    model = saved(tmp_path / "broken", value)
    with pytest.raises(GalipError, match="not finite.*weights are broken"):
        judged(of(model))


def test_a_broken_judge_is_an_error(judged: Small, tmp_path: Path) -> None:
    pipe = tiny.pipeline(1)
    with torch.no_grad():
        pipe.vision_encoder.visual_projection.weight[0, 0] = float("nan")
    pipe.save_pretrained(tmp_path / "judge", graphs=False)
    with pytest.raises(GalipError, match="judge.*finite"):
        judged(Loud(), clip=tmp_path / "judge")


def test_the_reference_itself(judged: Small, small_data: Path) -> None:
    """Data, training data and generated images are one: a copy is told by its bits, and memorisation cannot be."""
    references = small.references(small_data, judged.clip, judged.cache, training=str(small_data))
    result = evaluate(small_data, small.rules("fd_clip", "clip_score"), references, distributed=small.alone())
    assert result is not None
    assert "70 of 70 generated images are images of the reference, to the last bit" in small.texts(
        result.flags, "invalid", ""
    )
    assert "its own images" in small.texts(result.flags, "invalid", "fd_clip")
    assert "100.0% of the reference are training images" in small.texts(result.flags, "warning")
    assert result.metrics["fd_clip"].value < 1e-6


def test_the_training_set_itself(judged: Small, tmp_path: Path) -> None:
    training = small.images(tmp_path / "training", seed=5)
    references = small.references(judged.data, judged.clip, judged.cache, training=str(training))
    out = tmp_path / "result.json"
    result = evaluate(training, small.rules("fd_clip"), references, out=out, distributed=small.alone())
    assert result is not None
    assert small.texts(result.flags, "invalid") == (
        "100.0% of the generated images are training images (0.0% of real held-out ones are)"
    )
    assert (tmp_path / "result.files" / "nearest.jsonl").stat().st_size > 0


def test_near_copies(judged: Small, tmp_path: Path) -> None:
    training = small.images(tmp_path / "training", seed=5)
    flags = judged(Blurred(training), training=str(training)).flags
    said = small.texts(flags, "invalid") + small.texts(flags, "warning")
    assert "are training images" in said or "nearer to a training image than 99 % of real ones" in said


def test_some_copies(judged: Small, small_data: Path) -> None:
    flags = judged(Copier(small_data)).flags
    assert "14 of 70 generated images are images of the reference" in small.texts(flags, "invalid")


def test_a_check_that_cannot_be_made_is_refused(judged: Small, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red heart\na sleepy cat\n")
    references = References(
        prompts=(str(tmp_path / "prompts.txt"),),
        training=str(judged.data),
        weights={"clip": str(judged.clip)},
        cache=judged.cache,
    )
    rules = small.rules("clip_score", captions="prompts", reference="none")
    with pytest.raises(InputError, match="--training .*: the check needs real images that were not trained on"):
        Evaluation(rules, references, small.alone())


def test_louder_than_real_images(judged: Small) -> None:
    flags = judged(Loud()).flags
    assert "100% of the generated images' values are at the end of the range" in small.texts(flags, "warning")
    assert small.texts(flags, "invalid") == ""


@pytest.mark.parametrize(
    ("count", "level", "said"),
    [
        (20, "invalid", "20 images for features of 24 numbers: the covariance is singular"),
        (24, "invalid", "24 images for features of 24 numbers"),
        (40, "warning", "40 images for features of 24 numbers: the number is too large"),
    ],
)
def test_too_few_images(judged: Small, small_model: Path, count: int, level: str, said: str) -> None:
    flags = judged(of(small_model), protocol=small.rules("fd_clip", "clip_score", images=count)).flags
    assert said in small.texts(flags, level, "fd_clip")
    assert "images for features" not in small.texts(flags, level, "clip_score")


def test_sets_of_different_size(judged: Small, small_model: Path) -> None:
    protocol = small.rules("fd_clip", captions="passes", passes=2)
    flags = judged(of(small_model), protocol=protocol).flags
    assert "140 generated images are compared with 70 real ones" in small.texts(flags, "warning", "fd_clip")
    flags = judged(of(small_model), protocol=protocol.changed(reference="all")).flags
    assert "140 generated images are compared with 70 real ones" in small.texts(flags, "note", "fd_clip")


def test_a_judge_that_the_generator_looks_through(judged: Small, small_model: Path) -> None:
    flags = judged(of(small_model), "fd_clip", "clip_score", "r_precision", clip=small_model).flags
    for name in ("fd_clip", "clip_score", "r_precision"):
        assert "the generator looks through" in small.texts(flags, "warning", name)
    assert "looks through" not in small.texts(judged(of(small_model), "fd_clip", "clip_score").flags, "warning")


@pytest.fixture
def statistics(judged: Small, tmp_path: Path) -> Path:
    """Mean and covariance of the real images' CLIP vectors, and no word of how many there were."""
    source = CaptionedFolder(judged.data)
    features = open_extractor("clip", str(judged.clip))(real_images(source, range(len(source)), small.SIDE))
    moments = Moments.of(features.numpy())
    write_statistics(tmp_path / "real.npz", Statistics(moments.mean, moments.covariance))
    return tmp_path / "real.npz"


def test_statistics_without_images(judged: Small, small_model: Path, statistics: Path) -> None:
    references = small.references(judged.data, judged.clip, judged.cache, reference=statistics)
    with pytest.raises(InputError, match="metric mmd_clip needs the real images, and .* holds statistics only"):
        Evaluation(small.rules("fd_clip", "mmd_clip", reference="statistics"), references, small.alone())
    rules = small.rules("fd_clip", "clip_score", reference="statistics")
    result = Evaluation(rules, references, small.alone()).run(of(small_model))
    assert result is not None
    notes = small.texts(result.flags, "note", "fd_clip")
    assert "how many images the reference's statistics are of is not known" in notes
    assert "no real-against-real baseline" in notes
    assert result.metrics.keys() == {"fd_clip", "clip_score"} and result.n_reference is None
    assert "fd_clip" not in result.real_baseline
    with_images = judged(of(small_model), "fd_clip", "clip_score")
    assert result.metrics["fd_clip"].value == pytest.approx(with_images.metrics["fd_clip"].value, rel=1e-6)
    assert result.metrics["clip_score"] == with_images.metrics["clip_score"]


def test_data_that_the_protocol_is_not_for(judged: Small, small_model: Path) -> None:
    protocol = small.rules("clip_score", records=2933, split="the birds")
    assert "the protocol is for the birds, 2933 images; this data has 70" in small.texts(
        judged(of(small_model), protocol=protocol).flags, "warning"
    )


def facts_of(hashes: np.ndarray) -> np.ndarray:
    rows = np.zeros((len(hashes), 4), dtype=np.float32)
    rows[:, 1] = 0.2
    rows[:, 2], rows[:, 3] = hashes >> 16, hashes & 0xFFFF
    return rows


def test_a_hash_that_two_images_share_by_chance_is_no_copy() -> None:
    """Among 30,000 x 30,000 pairs a fifth of a pair share a 32-bit hash."""
    count = 30000
    plan = Plan([PlannedSample(number, f"caption {number}", number) for number in range(count)])
    seen = {"clip": FeatureSet(np.zeros((count, 2), dtype=np.float32))}
    generated = np.arange(count, dtype=np.uint32)
    for shared, expected in ((1, ""), (5, "5 of 30000 generated images are images of the reference, to the last bit")):
        real = np.arange(count - shared, 2 * count - shared, dtype=np.uint32)
        flags = quality_flags(
            small.rules("clip_score"),
            plan,
            facts_of(generated),
            facts_of(real),
            seen,
            Measured({}, {}, {}, {}, {}),
            set(),
            None,
        )
        assert small.texts(flags, "warning") == expected


def test_pixel_facts() -> None:
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    images[1] = 128
    images[1, 0] = 7
    images[2, :, :, :4] = 255
    images[3] = torch.randint(1, 255, (3, 8, 8), generator=torch.Generator().manual_seed(0))
    facts = PixelFacts()(images).numpy()
    assert facts[:, 0].tolist() == [1, 0, 1, 0]
    assert facts[:3, 1].tolist() == [0, 0, 0.5]
    channels = (images[3].double() / 255).flatten(1)
    assert facts[3, 1] == pytest.approx(channels.var(1, correction=0).mean().sqrt().item(), rel=1e-6)
    expected = [zlib.crc32(image.numpy().tobytes()) for image in images]
    assert hashes_of(facts).tolist() == expected
