"""The emoji recipe on tiny packages of the real layout, and the rulers that its evaluation uses."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from data.trees import files_of, put, records_of
from PIL import Image

from galip.data.protocol import open_source
from galip.data_prep.emoji import Emoji, captions_of, plain_label

RECIPE = Path(__file__).parents[2] / "recipes" / "emoji"


@pytest.fixture(scope="module")
def recipe() -> dict[str, ModuleType]:
    """The recipe's scripts as modules; they import each other by name."""
    sys.path.insert(0, str(RECIPE))
    try:
        import common
        import evaluate
        import prepare
        import train_judge
    finally:
        sys.path.remove(str(RECIPE))
    return {"common": common, "evaluate": evaluate, "prepare": prepare, "train_judge": train_judge}


def archive(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def picture(size: int, suffix: str) -> bytes:
    buffer = io.BytesIO()
    clear = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    clear.paste((255, 0, 0, 255), (size // 4, size // 4, size // 2, size // 2))
    clear.save(buffer, "WEBP" if suffix == "webp" else "PNG", lossless=True)
    return buffer.getvalue()


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Forty emoji, every tenth with a skin tone; file names drop `fe0f` and pad zeros as the real packages do."""
    folder = tmp_path / "packages"
    folder.mkdir()
    points = [0x1F400 + number for number in range(40)]
    rows = [{"label": f"animal {n}", "hexcode": f"{p:X}", "tags": ["beast", "zoo"]} for n, p in enumerate(points)]
    for row in rows[::10]:
        row["skins"] = [{"label": row["label"] + ": dark skin tone", "hexcode": row["hexcode"] + "-1F3FF"}]
    rows += [{"label": "copyright", "hexcode": "A9"}, {"label": "heart", "hexcode": "2764-FE0F", "tags": ["love"]}]
    rows += [{"label": "never drawn", "hexcode": "1F9FF"}]
    archive(folder / "emojibase-data-17.0.0.tgz", {"package/en/data.json": json.dumps(rows).encode()})
    names = [f"{p:x}" for p in points] + [f"{p:x}-1f3ff" for p in points[::10]]
    layouts = {
        "lobehub-fluent-emoji-3d-1.1.0": ("package/assets/", "webp", 256, [*names, "a9", "2764-fe0f"]),
        "emoji-datasource-google-16.0.0": ("package/img/google/64/", "png", 64, [*names, "00a9-fe0f", "2764"]),
        "emoji-datasource-twitter-16.0.0": ("package/img/twitter/64/", "png", 64, [*names, "00a9", "1f000"]),
    }
    for name, (inside, suffix, size, stems) in layouts.items():
        files = {f"{inside}{stem}.{suffix}": picture(size, suffix) for stem in stems}
        archive(folder / f"{name}.tgz", files | {"package/README.md": b"not a picture"})
    return folder


def test_prepare(recipe: dict[str, ModuleType], packages: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    report = recipe["prepare"].prepare(out, packages)
    notes = report["notes"]
    assert notes["pictures per style"] == {"3d": 46, "google": 46, "flat": 45}
    assert notes["emoji without any picture"] == ["1f9ff"]
    assert report["skipped"] == {"emoji without a label": {"count": 1, "examples": ["flat 1f000"]}}
    parts = ("train", "held_out_pairs", "held_out_emoji")
    assert {part: sums["records"] for part, sums in report["splits"].items()}.keys() == set(parts)
    found = {part: records_of(out / part) for part in parts}
    rows = {part: [record.fields for record in records] for part, records in found.items()}
    assert sum(map(len, rows.values())) == 137
    split = json.loads((out / "split.json").read_text())
    base = {row["emoji"].split("-")[0] for row in rows["held_out_emoji"]}
    assert base == set(split["held_out_emoji"])
    assert len(base) == 1  # 2% of 42
    trained = {row["emoji"] for row in rows["train"]}
    assert not base & {emoji.split("-")[0] for emoji in trained}
    pairs = {f"{row['emoji']} {row['style']}" for row in rows["held_out_pairs"]}
    assert pairs == set(split["held_out_pairs"]) and len(pairs) == 7  # 5% of 137
    assert {pair.split()[0] for pair in pairs} <= trained
    assert not pairs & {f"{row['emoji']} {row['style']}" for row in rows["train"]}
    first = rows["train"][0]
    assert len(first["captions"]) == 10 and first["captions"][0] == f"{first['style']} emoji of {first['label']}"
    assert first["tags"] == ["beast", "zoo"]
    shown = np.asarray(found["train"][0].picture)
    assert shown.shape == (64, 64, 3)
    assert tuple(shown[0, 0]) == (255, 255, 255) and tuple(shown[24, 24]) == (255, 0, 0)
    assert len(open_source(str(out / "train"))) == len(rows["train"])
    assert recipe["prepare"].prepare(out, packages) == report  # it is there already
    again = recipe["prepare"].prepare(tmp_path / "again", packages)
    assert again == report
    assert files_of(tmp_path / "again") == files_of(out)


def test_pictures_are_loaded_from_shards_and_from_a_plain_folder(
    recipe: dict[str, ModuleType], packages: Path, tmp_path: Path
) -> None:
    recipe["prepare"].prepare(tmp_path / "data", packages)
    found = records_of(tmp_path / "data" / "train")
    data = recipe["common"].load_pictures(tmp_path / "data" / "train")
    assert data.images.shape == (len(found), 3, 64, 64) and data.images.dtype == torch.uint8
    assert data.rows == [record.fields for record in found]
    plain = tmp_path / "plain"
    for record in found:
        put(plain / f"{record.key}.png", record.content)
    lines = [json.dumps({"file_name": f"{record.key}.png", **record.fields}) for record in found]
    put(plain / "metadata.jsonl", "\n".join(lines))
    again = recipe["common"].load_pictures(plain)
    assert torch.equal(again.images, data.images) and again.captions == data.captions
    with pytest.raises(FileNotFoundError, match="run recipes/emoji/prepare.py first"):
        recipe["common"].load_pictures(tmp_path)


def test_captions() -> None:
    emoji = Emoji("1f385-1f3ff", "1f385", "Santa Claus: dark skin tone", ["xmas", "father"])
    captions = captions_of(emoji, "flat")
    assert captions[0] == "flat emoji of Santa Claus: dark skin tone"
    assert sum("flat" not in caption for caption in captions) == len(captions) / 5
    assert all("dark skin tone" in caption for caption in captions)
    assert plain_label("flag: Chad") == "flag of Chad"


def test_retrieval(recipe: dict[str, ModuleType]) -> None:
    retrieval = recipe["common"].retrieval
    vectors = torch.randn(200, 32, generator=torch.Generator().manual_seed(0))
    assert retrieval(3 * vectors, vectors, 100) == 1
    assert retrieval(vectors.roll(1, 0), vectors, 200) < 0.05
    noise = torch.randn(200, 32, generator=torch.Generator().manual_seed(1))
    assert retrieval(noise, vectors, 100) < 0.05


@pytest.mark.parametrize(
    ("colour", "name"),
    [((220, 20, 20), "red"), ((30, 60, 220), "blue"), ((250, 220, 40), "yellow"), ((20, 160, 40), "green")],
)
def test_dominant_hue(recipe: dict[str, ModuleType], colour: tuple[int, int, int], name: str) -> None:
    evaluate = recipe["evaluate"]
    shown = np.full((64, 64, 3), 255, np.uint8)
    shown[20:40, 20:40] = colour
    shown[40:44, 20:40] = (10, 10, 10)
    hue = evaluate.dominant_hue(shown)
    assert [other for other in evaluate.COLOURS if evaluate.has_hue(hue, other)] == [name]
    assert evaluate.dominant_hue(np.full((64, 64, 3), 128, np.uint8)) is None


def test_the_hues_of_real_pictures_are_told_too(recipe: dict[str, ModuleType]) -> None:
    images = torch.full((3, 3, 64, 64), 255, dtype=torch.uint8)
    for picture, colour in zip(images, ((220, 20, 20), (255, 200, 60), (20, 160, 40)), strict=True):
        picture[:, 10:50, 10:50] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    rows: list[dict[str, object]] = [{"label": "red heart"}, {"label": "yellow heart"}, {"label": "tractor"}]
    found = recipe["evaluate"].real_colour_figures(recipe["common"].Pictures(images, rows))
    assert found == {"pictures": 2, "obeyed": 0.5}


def test_the_judge_learns_from_a_batch(recipe: dict[str, ModuleType]) -> None:
    torch.manual_seed(0)
    judge = recipe["train_judge"].Judge(width=8, dim=16)
    images, taught = torch.rand(8, 3, 64, 64) * 2 - 1, torch.randn(8, 384)
    optimiser = torch.optim.Adam(judge.parameters(), 3e-3)
    for _ in range(30):
        logits = judge.log_scale.exp() * judge.see(images) @ judge.read(taught).T
        loss = torch.nn.functional.cross_entropy(logits, torch.arange(8))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.5
