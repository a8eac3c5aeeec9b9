"""The emoji recipe's figures: the numbers themselves, what they are taken of, and how they reach the model's card."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
import torch.nn.functional as F
import yaml
from PIL import Image

from galip.evaluation.intervals import bootstrap_mean

RECIPE = Path(__file__).parents[2] / "recipes" / "emoji"
MODULES = ("emoji_common", "curve", "evaluate", "export", "measure", "metrics", "pictures", "synonyms", "train_judge")


@pytest.fixture(scope="module")
def recipe() -> SimpleNamespace:
    """The recipe's scripts as modules; they import each other by name."""
    sys.path.insert(0, str(RECIPE))
    try:
        return SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.remove(str(RECIPE))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- numbers


def test_the_chance_is_what_the_recipes_own_drawing_of_captions_gives(recipe: SimpleNamespace) -> None:
    texts = noise(400, 16)
    images = texts + noise(400, 16, seed=1)
    data = recipe.emoji_common.Pictures(torch.zeros(400, 1), [{"captions": [f"caption {n}"]} for n in range(400)])
    exact = recipe.measure.chances(images, texts, data, 100).mean()
    assert 0.2 < exact < 0.95
    assert recipe.emoji_common.retrieval(images, texts, 100, trials=200) == pytest.approx(exact, abs=0.01)


def test_figures_are_written_as_they_are(recipe: SimpleNamespace) -> None:
    estimate = bootstrap_mean(torch.arange(400) % 4 == 0)
    figure = recipe.metrics.figure(estimate)
    assert figure == {"value": 0.25, "low": estimate.low, "high": estimate.high}
    assert recipe.metrics.figure(bootstrap_mean([0.5])) == {"value": 0.5}


def test_linear_probe(recipe: SimpleNamespace) -> None:
    classes = (torch.arange(300) % 5).clamp(max=2)  # three of five are of the last class
    features = 50 * noise(300, 20) + 100 + 400 * F.one_hot(classes, 20)
    probe = recipe.metrics.LinearProbe(features[:200], classes[:200])
    assert (probe(features[200:]) == classes[200:]).float().mean() > 0.98
    blind = recipe.metrics.LinearProbe(noise(200, 2), classes[:200])
    assert (blind(noise(100, 2, seed=1)) == 2).float().mean() > 0.95  # of nothing it makes the commonest


# ---- synonyms


def rows_of(*labels: str, tags: tuple[str, ...] = ()) -> list[dict[str, object]]:
    return [
        {"label": label, "style": style, "tags": list(tags), "captions": [f"{style} emoji of {label}", label]}
        for label in labels
        for style in ("3d", "google", "flat")
    ]


def test_the_list_of_synonyms(recipe: SimpleNamespace) -> None:
    pairs = recipe.synonyms.read_synonyms()
    assert len(pairs) >= 220
    labels = sorted({label for _, label in pairs})
    # Against the labels alone, all that is here without the prepared pictures; `Data.load` knows every caption.
    recipe.synonyms.check_synonyms(pairs, rows_of(*labels))


@pytest.mark.parametrize(
    ("pairs", "tags", "complaint"),
    [
        ([("kitten", "cat"), ("hound", "dog")], ("pet",), None),
        ([("art", "cat")], ("party",), None),
        ([("Kitten", "cat")], ("kitten",), "'Kitten': a caption or tag contains it"),
        ([("flip-flop", "cat")], ("a flip flop!",), "'flip-flop': a caption or tag contains it"),
        ([("cat", "cat")], (), "'cat': a caption or tag contains it"),
        ([("kitten", "lion")], (), "'kitten': no picture has the label 'lion'"),
        ([("kitten", "cat"), ("puss", "cat")], (), "'puss': it or its label 'cat' comes twice"),
        ([("pet", "cat"), ("pet", "dog")], (), "'pet': it or its label 'dog' comes twice"),
    ],
)
def test_a_synonym_that_measures_nothing_is_named(
    recipe: SimpleNamespace, pairs: list[tuple[str, str]], tags: tuple[str, ...], complaint: str | None
) -> None:
    rows = rows_of("cat", "dog", tags=tags)
    if complaint is None:
        recipe.synonyms.check_synonyms(pairs, rows)
    else:
        with pytest.raises(SystemExit, match=complaint):
            recipe.synonyms.check_synonyms(pairs, rows)


def test_a_line_without_a_label_is_named(recipe: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "list.tsv").write_text("kitten\tcat\nhound\n")
    with pytest.raises(SystemExit, match="list.tsv: line 2 is not"):
        recipe.synonyms.read_synonyms(tmp_path / "list.tsv")


def test_synonyms_take_turns_in_style(recipe: SimpleNamespace) -> None:
    rows = rows_of("cat", "dog", "owl", "fox")
    images = torch.arange(12, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 64, 64)
    whole = recipe.emoji_common.Pictures(images[:11], rows[:11])  # no flat fox
    other = recipe.emoji_common.Pictures(images[11:], [rows[11] | {"style": "3d"}])
    pairs = [("puss", "cat"), ("hound", "dog"), ("hooter", "owl"), ("vixen", "fox")]
    chosen = recipe.synonyms.synonym_pictures(pairs, [whole, other])
    assert chosen.canonical == [
        "3d emoji of puss",
        "google emoji of hound",
        "flat emoji of hooter",
        "3d emoji of vixen",
    ]
    assert chosen.images[:, 0, 0, 0].tolist() == [0, 4, 8, 9]
    google = recipe.emoji_common.Pictures(images[10:11], [rows[10]])
    assert recipe.synonyms.synonym_pictures([("vixen", "fox")], [google]).canonical == ["google emoji of vixen"]


# ---- the judge


def test_the_judges_views_agree(recipe: SimpleNamespace, tmp_path: Path) -> None:
    train_judge = recipe.train_judge
    judge = train_judge.Judge(width=8, dim=16, dropout=0.5)
    images = torch.rand(3, 3, 64, 64) * 2 - 1
    assert not torch.equal(judge.see(images), judge.see(images))  # dropout, in training only
    judge.eval()
    assert torch.allclose(judge.see(images), F.normalize(judge.pictures(images), dim=1), atol=1e-5)
    assert [level.shape[1] for level in judge.pictures.activations(images)] == [8, 8, 16, 16, 32, 32, 64, 64]
    seen = recipe.measure.look(judge, ((images + 1) * 127.5).round().to(torch.uint8))
    assert torch.allclose(seen.unit, judge.see(images), atol=0.02) and seen.manner.shape == (3, 2 * 240)
    train_judge.save_file(judge.state_dict(), tmp_path / "judge.safetensors")
    (tmp_path / "judge.json").write_text(json.dumps({"config": judge.config}))
    assert torch.allclose(train_judge.load_judge(tmp_path).see(images), judge.see(images), atol=1e-5)


def test_disturbed_pictures(recipe: SimpleNamespace) -> None:
    images = torch.full((200, 3, 64, 64), -1.0)
    made = recipe.train_judge.disturb(images, torch.Generator().manual_seed(0))
    assert made.shape == images.shape and made.min() >= -1 and made.max() <= 1
    middle = made[:, 0, 20:44, 20:44]  # what a shift brings in at the borders does not reach here
    covered = (middle == 1).flatten(1).any(1).float().mean()
    assert 0.2 < covered < 0.6
    assert torch.equal(made, recipe.train_judge.disturb(images, torch.Generator().manual_seed(0)))
    assert (recipe.train_judge.disturb(torch.ones(9, 3, 64, 64), torch.Generator().manual_seed(0)) > 0.5).all()


# ---- what is measured


class Perfect:
    """Draws the real picture of every caption, and with seed s that of style s where the caption names none."""

    def __init__(self, *parts: object) -> None:
        self.real = {
            caption: picture
            for part in parts
            for caption, picture in zip(part.canonical, part.images, strict=True)  # type: ignore[attr-defined]
        }

    def __call__(self, captions: list[str], seed: int = 0) -> torch.Tensor:
        named = [c if c in self.real else f"{('3d', 'google', 'flat')[seed % 3]} {c}" for c in captions]
        return torch.stack([self.real[caption] for caption in named])


@pytest.fixture(scope="module")
def world(recipe: SimpleNamespace) -> SimpleNamespace:
    """Emoji of coloured noise, three styles of different grain, a judge that has learned nothing, random texts."""
    labels = [f"thing {number}" for number in range(60)]
    rows = rows_of(*labels)
    shade = noise(60, 3, 1, 1).repeat_interleave(3, 0) * 40 + 128
    grains = [F.interpolate(noise(60, 3, side, side, seed=1), (64, 64)) for side in (64, 16, 4)]
    images = (shade + 20 * torch.stack(grains, dim=1).flatten(0, 1)).clamp(0, 255).to(torch.uint8)
    order = torch.randperm(180, generator=torch.Generator().manual_seed(0)).tolist()

    def part(numbers: list[int]) -> object:
        return recipe.emoji_common.Pictures(images[numbers], [rows[i] for i in numbers])

    torch.manual_seed(0)
    judge = recipe.train_judge.Judge(width=8, dim=16).eval().requires_grad_(False)
    teacher = SimpleNamespace(encode_once=lambda texts: noise(len(texts), 384))
    train, held_out = part(order[:140]), part(order[140:])
    return SimpleNamespace(judge=judge, teacher=teacher, train=train, held_out=held_out, every=part(order))


def readable(part: Any) -> Any:
    """The same with captions that say something: their vectors are near those of the real pictures."""
    seen = part.real.vectors
    return replace(part, texts=seen + seen.std(0) * noise(*seen.shape))


def test_a_perfect_model_draws_level_with_real_pictures(recipe: SimpleNamespace, world: SimpleNamespace) -> None:
    measure, draw = recipe.measure, Perfect(world.train, world.held_out)
    part = readable(measure.examine(world.judge, world.teacher, draw, world.held_out))
    figures = measure.retrieval_figures(part)
    assert figures["captions"] == figures["among"] == 40 and 0 < figures["real"]["value"] < 1
    assert figures["drawn"] == figures["real"] and figures["drawn / real"]["value"] == 1
    style = measure.style_figures(world.train, measure.look(world.judge, world.train.images), [part], [part])
    assert style["drawn"]["value"] > 0.9 and style["drawn"] == style["real held-out"]
    assert style["drawn, by style"].keys() == {"3d", "google", "flat"}
    frechet = measure.frechet_figures(world.judge, draw, world.train, world.held_out, 1920)
    assert frechet["pictures on each side"] == 90 and frechet["real, held-out among them"] == 40
    assert frechet["drawn / real"] == 1 and frechet["real"] > 0
    diversity = measure.diversity_figures(world.judge, draw, world.every, 50)
    assert diversity["captions"] == 50 and diversity["pixels"]["value"] == pytest.approx(5 / 6, rel=0.05)


def test_a_model_that_heeds_neither_caption_nor_seed(recipe: SimpleNamespace, world: SimpleNamespace) -> None:
    measure, draw = recipe.measure, lambda captions, seed=0: world.train.images[:1].expand(len(captions), -1, -1, -1)
    part = readable(measure.examine(world.judge, world.teacher, draw, world.held_out))
    assert measure.retrieval_figures(part)["drawn"]["value"] == pytest.approx(1 / 40)
    frechet = measure.frechet_figures(world.judge, draw, world.train, world.held_out, 60)
    assert frechet["pictures on each side"] == 60 and frechet["drawn / real"] > 2
    assert measure.diversity_figures(world.judge, draw, world.every, 10)["judge"]["value"] == pytest.approx(0, abs=1e-6)
    gallery = measure.look(world.judge, world.train.images).unit
    near = measure.nearest_figures(gallery, part.drawn.unit, part.real.unit)
    assert near["drawn"]["median"] < 1e-6 < near["real held-out"]["median"]


def test_frechet_sides_share_no_picture(recipe: SimpleNamespace, world: SimpleNamespace) -> None:
    asked: list[str] = []

    def draw(captions: list[str], seed: int = 0) -> torch.Tensor:
        asked.extend(captions)
        return Perfect(world.train, world.held_out)(captions, seed)

    recipe.measure.frechet_figures(world.judge, draw, world.train, world.held_out, 70)
    assert len(set(asked)) == 70
    assert len(set(asked) & set(world.held_out.canonical)) == 20
    assert set(asked) & set(world.train.canonical) == set(world.train.canonical[:50])  # those of the retrieval, first


def test_clip_figures(recipe: SimpleNamespace, world: SimpleNamespace) -> None:
    data = recipe.measure.Data(world.train, world.held_out, world.held_out, world.held_out)
    figures = recipe.measure.clip_figures(
        lambda images: noise(len(images), 8), lambda captions: noise(len(captions), 8), data
    )
    names = ["held_out_pairs, top-1 of 40", "held_out_emoji, top-1 of 40", "synonyms, top-1 of 40"]
    assert list(figures) == names and all(figure["value"] == 1 for figure in figures.values())


def test_drawer(recipe: SimpleNamespace) -> None:
    with pytest.raises(SystemExit, match="the model draws 32 pixels wide"):
        recipe.measure.Drawer(tiny.pipeline())


# ---- curve, pictures, card


def test_the_curve_measures_only_what_is_new(recipe: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "judge.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()[:12]
    row = {"run": "mine", "judge": digest, "images": 200, "train": 0.5}
    other = [row | {"images": 100}, row | {"run": "another", "images": 7}, row | {"judge": "retrained", "images": 8}]
    curve = tmp_path / "curve.jsonl"
    curve.write_text("".join(json.dumps(entry) + "\n" for entry in [row, *other]))
    folders = [tmp_path / "images-000000100", tmp_path / "images-000000200"]
    rows = recipe.curve.grow(folders, "mine", tmp_path, tmp_path / "no data", curve)
    assert [entry["images"] for entry in rows] == [100, 200]
    with pytest.raises(FileNotFoundError, match="no data"):  # a new checkpoint has to be measured
        recipe.curve.grow([tmp_path / "images-000000300"], "mine", tmp_path, tmp_path / "no data", curve)
    with pytest.raises(SystemExit, match="neither a checkpoint"):
        recipe.curve.images_seen(tmp_path)
    checkpoint = tmp_path / "run" / "checkpoints" / "images-000000300"
    checkpoint.mkdir(parents=True)
    assert recipe.curve.images_seen(checkpoint) == 300
    start = {"model": "state", "training": {"images": 104_064, "hours": 2.0, "clip": {"step": 1}}}
    (tmp_path / "run" / "start.json").write_text(json.dumps(start))
    assert recipe.curve.images_seen(checkpoint) == 104_364
    assert recipe.emoji_common.before(tmp_path / "run")["hours"] == 2.0 and recipe.emoji_common.before(tmp_path) == {}


def test_the_plot_shows_every_line(recipe: SimpleNamespace) -> None:
    rows = [
        {"images": 1000 * n, "train": 0.1 * n, "held_out_pairs": 0.09 * n, "held_out_emoji": 0.05 * n, "colour": 0.8}
        | {"frechet": 40.0 / n, "frechet, real": 2.0}
        for n in range(1, 6)
    ]
    plot = recipe.curve.plot(rows)
    colours = {colour for _, colour in plot.getcolors(1 << 16)}
    for line in ("#1f5fbf", "#d9730d", "#2e8b57", "#8a8a8a", "#b03060"):
        assert tuple(int(line[i : i + 2], 16) for i in (1, 3, 5)) in colours


def test_grids_over_time(recipe: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "grids").mkdir()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"run": {"grid_captions": ["a", "b"], "grid_seeds": 2}}))
    for seen in (10, 20, 40, 100000):
        grid = Image.new("RGB", (128, 128), "white")
        grid.paste((seen % 251, 0, 0), (0, 64, 64, 128))  # the first picture of the second caption
        grid.save(tmp_path / "grids" / f"images-{seen:09d}.png")
    sheet = recipe.pictures.over_time(tmp_path)
    reds = {colour[0] for _, colour in sheet.getcolors(1 << 16) if colour[1:] == (0, 0) and colour[0] > 0}
    assert {10, 40, 100000 % 251} <= reds and 20 not in reds  # 10, 46, 215 ... are looked for
    with pytest.raises(SystemExit, match="no sample grids"):
        recipe.pictures.over_time(tmp_path / "grids")


def test_walks_go_from_one_caption_to_the_other(recipe: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, strips = tiny.pipeline(), []
    monkeypatch.setattr(recipe.pictures, "strips_sheet", lambda made, columns=1: strips.extend(made))
    recipe.pictures.walks(pipe)
    (title, pictures), (start, end) = strips[0], recipe.pictures.WALK_CAPTIONS[0]
    assert title == f"{start}  ->  {end}" and len(strips) == len(recipe.pictures.WALK_CAPTIONS)
    ends = pipe([start, end], seed=[0, 0]).images
    assert [pictures[0][0].tobytes(), pictures[-1][0].tobytes()] == [image.tobytes() for image in ends]


def test_the_card_is_filled_from_the_figures(
    recipe: SimpleNamespace, world: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, draw = recipe.measure, Perfect(world.train, world.held_out)
    part = readable(measure.examine(world.judge, world.teacher, draw, world.held_out))
    gallery = measure.look(world.judge, world.train.images)
    kinds = ("train", "held_out_pairs", "held_out_emoji", "synonyms")
    figures = {
        "retrieval": {name: measure.retrieval_figures(part) for name in kinds},
        "style": measure.style_figures(world.train, gallery, [part], [part]),
        "colour": {
            "pictures": 48,
            "obeyed": 0.875,
            "by caption": {"red heart": 1.0},
            "real": {"pictures": 66, "obeyed": 0.8},
        },
        "frechet": measure.frechet_figures(world.judge, draw, world.train, world.held_out, 60),
        "diversity": measure.diversity_figures(world.judge, draw, world.every, 10),
        "nearest": measure.nearest_figures(gallery.unit, part.drawn.unit, part.real.unit),
        "clip": {"synonyms, top-1 of 100": {"value": 0.25, "low": 0.2, "high": 0.31}},
    }
    log = [{"images": 1000, "images_per_second": 10.0}, {"images": 2000}, {"images": 2800, "images_per_second": 0.5}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    hours = recipe.export.hours_of(tmp_path / "log.jsonl")
    assert hours == pytest.approx((100 + 3600) / 3600)
    training = {"images": 64000, "hours": hours, "clip": {"step": 2400, "seconds": 3600}}
    training |= {"config": {"run": {"batch": 32, "seed": 0}}, "truncation": 0.5}
    stages = [{"images": 60000, "hours": hours, "batch": 32, "hardware": "two CPU cores"}]
    training["stages"] = [*stages, {"images": 4000, "hours": 7.4, "batch": 128, "hardware": "a GPU"}]
    report = {"splits": {"train": {"records": 10109}}, "notes": {"emoji with a picture": 3786}}
    (tmp_path / "work" / "data").mkdir(parents=True)
    monkeypatch.setattr(recipe.export, "WORK", tmp_path / "work")
    written = {"training.json": training, "figures.json": figures, "work/data/report.json": report}
    for name, content in written.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "emoji-failures.png").write_bytes(b"picture")
    recipe.export.write_card(tmp_path, tmp_path / "figures.json", tmp_path)  # no curve of this model's run
    assert "curve.png" not in (tmp_path / "README.md").read_text(encoding="utf-8")
    (tmp_path / "curve.jsonl").write_text(json.dumps({"images": 64000}) + "\n")
    with pytest.raises(SystemExit, match="emoji-curve.png: not there; run curve.py"):
        recipe.export.write_card(tmp_path, tmp_path / "figures.json", tmp_path)
    for name in ("emoji-curve.png", "emoji-failures.png"):
        (tmp_path / name).write_bytes(b"picture")
    recipe.export.write_card(tmp_path, tmp_path / "figures.json", tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| synonyms, top-1 of 100 | 25% (20 to 31) |" in card
    assert (
        "in 88% of 48 pictures" in card
        and "in 80% of the 66 real pictures of those names" in card
        and "are multiplied by 0.5" in card
    )
    said = "60,000 on two CPU cores, 32 a step, in 62 minutes; then 4,000 on a GPU, 128 a step, in 7 hours."
    assert f"64,000 images seen, seed 0: {said}" in " ".join(card.split())
    assert "{" not in card.replace("{style}", "").replace("{label}", "")
    assert "](curve.png)" in card and (tmp_path / "curve.png").exists() and (tmp_path / "failures.png").exists()
    (tmp_path / "figures.json").write_text(json.dumps({"colour obeyed": 1.0}))  # as it was written before
    with pytest.raises(SystemExit, match=r"'frechet' is in none of them"):
        recipe.export.write_card(tmp_path, tmp_path / "figures.json", tmp_path)
