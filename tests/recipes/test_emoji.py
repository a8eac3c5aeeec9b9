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

from galip.data.open import open_source
from galip.data_prep.emoji import STYLES, captions_of, plain_label
from galip.data_prep.emoji_art import Emoji

RECIPE = Path(__file__).parents[2] / "recipes" / "emoji"


@pytest.fixture(scope="module")
def recipe() -> dict[str, ModuleType]:
    """The recipe's scripts as modules; they import each other by name."""
    sys.path.insert(0, str(RECIPE))
    try:
        import emoji_common
        import evaluate
        import images
        import prepare
        import train_judge
    finally:
        sys.path.remove(str(RECIPE))
    return {
        "emoji_common": emoji_common,
        "evaluate": evaluate,
        "images": images,
        "prepare": prepare,
        "train_judge": train_judge,
    }


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


ICONIFY = ("noto-1.2.9", "twemoji-1.2.5", "fluent-emoji-flat-1.2.6", "fluent-emoji-1.2.7", "noto-v1-1.2.5")
ICONIFY += ("emojione-1.2.3", "fxemoji-1.2.2")
RED = '<path fill="#f00" d="M4 4h8v8H4z"/>'


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Forty emoji, every tenth with a skin tone, in sets with code points, with names alone, and one of WebP files."""
    folder = tmp_path / "packages"
    folder.mkdir()
    points = [0x1F400 + number for number in range(40)]
    rows = [{"label": f"beast {n}", "hexcode": f"{p:X}", "tags": ["pet", "zoo"]} for n, p in enumerate(points)]
    for row in rows[::10]:
        row["skins"] = [{"label": row["label"] + ": dark skin tone", "hexcode": row["hexcode"] + "-1F3FF"}]
    rows += [{"label": "piñata", "hexcode": "1FA85"}, {"label": "heart", "hexcode": "2764-FE0F", "tags": ["love"]}]
    rows += [{"label": "flag: Chad", "hexcode": "1F1F9-1F1E9"}, {"label": "never drawn", "hexcode": "1F9FF"}]
    rows = [row | {"group": 3} for row in rows] + [{"label": "dark skin tone", "hexcode": "1F3FF", "group": 2}]
    shortcodes = {"2764": ["love_heart", "like"], "1F1F9-1F1E9": "like"}
    archive(
        folder / "emojibase-data-17.0.0.tgz",
        {"package/en/data.json": json.dumps(rows).encode()}
        | {"package/en/shortcodes/github.json": json.dumps(shortcodes).encode()},
    )
    names = {f"beast-{n}": f"{p:x}" for n, p in enumerate(points)}
    names |= {f"beast-{n}-dark-skin-tone": f"{p:x}-1f3ff" for n, p in enumerate(points) if n % 10 == 0}
    for place, package in enumerate(ICONIFY):
        codes = {code: name for name, code in names.items()} if place < 3 else {}
        icons = {name: {"body": RED} for name in names}
        aliases: dict[str, dict[str, object]] = {}
        if package.startswith("noto-1"):
            icons |= {"old-heart": {"body": RED}}
            codes |= {"2764-fe0f": "old-heart", "1f9e9": "unheard-of"}
            aliases = {"valentine": {"parent": "old-heart"}}
        if package.startswith("noto-v1"):  # found by the name that another set has for it
            icons |= {"valentine": {"body": RED}, "letter-a": {"body": RED}}
        if package.startswith("emojione"):  # by a shortcode, and as a mirrored alias with a size of its own
            wide = {"body": '<path fill="#f00" d="M0 0h16v16H0z"/>', "width": 32}
            icons |= {"loveheart": {"body": RED}, "pinata-left": wide, "like": {"body": RED}}
            aliases = {"pinata": {"parent": "pinata-left", "hFlip": True}, "flag-for-chad": {"parent": "pinata-left"}}
        if package.startswith("fxemoji"):  # by a correction
            icons |= {"heartarrow": {"body": RED}, "pouting": {"body": RED}}
        icons_file = {"icons": icons, "aliases": aliases, "width": 16, "height": 16}
        files = {"package/icons.json": json.dumps(icons_file), "package/chars.json": json.dumps(codes)}
        archive(folder / f"iconify-json-{package}.tgz", {name: text.encode() for name, text in files.items()})
    files = {f"package/assets/{code}.webp": picture(256, "webp") for code in [*names.values(), "2764", "1f000"]}
    archive(folder / "lobehub-fluent-emoji-3d-1.1.0.tgz", files | {"package/README.md": b"not a picture"})
    return folder


def test_prepare(recipe: dict[str, ModuleType], packages: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    report = recipe["prepare"].prepare(out, packages)
    notes = report["notes"]
    counts = {"noto": 45, "twemoji": 44, "flat": 44, "glossy": 44, "blob": 45, "emojione": 47, "firefox": 44, "3d": 45}
    assert notes["images per style"] == counts
    assert notes["emoji without skin tones per style"]["emojione"] == 43
    assert notes["emoji without any image"] == ["1f9ff"]
    skipped = report["skipped"]["icon of no known emoji"]
    assert sorted(skipped["examples"]) == [
        "3d 1f000", "blob letter-a", "emojione like", "firefox heartarrow", "firefox pouting",
    ]  # fmt: skip
    parts = ("train", "held_out_pairs", "held_out_emoji")
    assert report["splits"].keys() == set(parts)
    found = {part: records_of(out / part) for part in parts}
    rows = {part: [record.fields for record in records] for part, records in found.items()}
    assert sum(map(len, rows.values())) == sum(counts.values())
    split = json.loads((out / "split.json").read_text())
    assert {row["base"] for row in rows["held_out_emoji"]} == set(split["held_out_emoji"])
    assert len(split["held_out_emoji"]) == 1  # 2% of 44
    assert not set(split["held_out_emoji"]) & {row["base"] for row in rows["train"]}
    pairs = {f"{row['base']} {row['style']}" for row in rows["held_out_pairs"]}
    assert pairs == set(split["held_out_pairs"]) and len(pairs) == 16  # 5% of 326 without skin tones
    assert {pair.split()[0] for pair in pairs} <= {row["base"] for row in rows["train"]}
    assert not pairs & {f"{row['base']} {row['style']}" for row in rows["train"]}
    first = rows["train"][0]
    assert len(first["captions"]) == 10 and first["captions"][0] == f"{first['style']} emoji of {first['label']}"
    assert first["tags"] == ["pet", "zoo"]
    for row in (row for part in rows.values() for row in part):
        toned = row["base"] in {"1f400", "1f40a", "1f414", "1f41e"}
        assert row["weight"] == pytest.approx(2**-0.75 if toned else 1, abs=1e-6)
    assert len(open_source(str(out / "train"))) == len(rows["train"])
    assert recipe["prepare"].prepare(out, packages) == report  # it is there already
    again = recipe["prepare"].prepare(tmp_path / "again", packages)
    assert again == report
    assert files_of(tmp_path / "again") == files_of(out)


def test_icons_are_rendered_with_their_alpha_channel(
    recipe: dict[str, ModuleType], packages: Path, tmp_path: Path
) -> None:
    recipe["prepare"].prepare(tmp_path / "data", packages)
    shown = {}
    for part in ("train", "held_out_pairs", "held_out_emoji"):
        data = recipe["images"].load_images(tmp_path / "data" / part)
        shown |= {(row["style"], row["emoji"]): image for row, image in zip(data.rows, data.rgba, strict=True)}
    for style in ("noto", "3d"):
        image = shown[style, "1f401"]
        assert image.shape == (128, 128, 4)
        assert tuple(image[0, 0]) == (0, 0, 0, 0) and tuple(image[48, 48]) == (255, 0, 0, 255)
    mirrored = shown["emojione", "1fa85"]  # the left half of a 32 x 16 box, mirrored and centred
    assert mirrored[64, 96, 3] == 255 and mirrored[64, 32, 3] == 0 and mirrored[16, 96, 3] == 0
    assert shown["emojione", "1f1f9-1f1e9"][64, 32, 3] == 255  # a plain alias is another name


def test_emoji_of_one_kind_share_a_group() -> None:
    def group(key: str) -> str:
        return Emoji(key, key, "").group

    assert group("1f3c3-1f3ff-200d-2640") == group("1f3c3") == "1f3c3"
    assert group("1f468-1f3fb-200d-1f680") == group("1f469-200d-1f680") == group("1f9d1-200d-1f680")
    assert group("1f3ff") == "1f3ff" and group("2764") == "2764"


def test_networks_see_images_on_plain_colours(recipe: dict[str, ModuleType]) -> None:
    images = recipe["images"]
    rgba = torch.zeros(200, 8, 8, 4, dtype=torch.uint8)
    rgba[:, 2:6, 2:6] = torch.tensor([255, 0, 0, 128], dtype=torch.uint8)
    colour = images.colours(200, torch.Generator().manual_seed(0))
    shown = images.on_colour(images.premultiplied(rgba), colour)
    assert torch.allclose(shown[:, :, 0, 0], colour[:, :, 0, 0] * 2 - 1)
    assert torch.allclose(shown[:, 0, 3, 3], (128 / 255 + colour[:, 0, 0, 0] * 127 / 255) * 2 - 1, atol=1e-5)
    assert 0.15 < (colour == 1).all(1).float().mean() < 0.35
    moved = images.jittered(images.premultiplied(rgba), 0.2, torch.Generator().manual_seed(0))
    assert moved.shape == (200, 4, 8, 8) and moved[:, 0].sub(moved[:, 3]).abs().max() < 1e-5
    assert (moved - images.premultiplied(rgba)).abs().amax((1, 2, 3)).gt(0.05).float().mean() > 0.9


def test_pictures_are_loaded_from_shards_and_from_a_plain_folder(
    recipe: dict[str, ModuleType], packages: Path, tmp_path: Path
) -> None:
    recipe["prepare"].prepare(tmp_path / "data", packages)
    found = records_of(tmp_path / "data" / "train")
    data = recipe["emoji_common"].load_pictures(tmp_path / "data" / "train")
    assert data.images.shape == (len(found), 3, 128, 128) and data.images.dtype == torch.uint8
    assert data.rows == [record.fields for record in found]
    plain = tmp_path / "plain"
    for record in found:
        put(plain / f"{record.key}.png", record.content)
    lines = [json.dumps({"file_name": f"{record.key}.png", **record.fields}) for record in found]
    put(plain / "metadata.jsonl", "\n".join(lines))
    again = recipe["emoji_common"].load_pictures(plain)
    assert torch.equal(again.images, data.images) and again.captions == data.captions
    with pytest.raises(FileNotFoundError, match="run recipes/emoji/prepare.py first"):
        recipe["emoji_common"].load_pictures(tmp_path)


def test_captions() -> None:
    emoji = Emoji("1f385-1f3ff", "1f385", "Santa Claus: dark skin tone", ["xmas", "father"])
    captions = captions_of(emoji, STYLES[2])
    assert captions[0] == "flat emoji of Santa Claus: dark skin tone"
    assert sum("flat" not in caption and "fluent" not in caption for caption in captions) == len(captions) / 5
    assert all("dark skin tone" in caption for caption in captions)
    assert plain_label("flag: Chad") == "flag of Chad"


def test_retrieval(recipe: dict[str, ModuleType]) -> None:
    retrieval = recipe["emoji_common"].retrieval
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
    found = recipe["evaluate"].real_colour_figures(recipe["emoji_common"].Pictures(images, rows))
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
