"""Emoji art of registry packages: which emoji an icon shows, and the icon as a PNG with its alpha channel.

Iconify's sets hold SVG bodies under names. Three of them say which code points a name stands for (`chars.json`); in the
others an icon is found by its name: the label's slug, a name that one of those three has, a shortcode, or the code
point's Unicode name, words run together or not.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from galip.errors import GalipError

SIZE = 128
EMOJI_DATA = "emojibase-data@17.0.0"

_COMPONENTS = 2  # emojibase's group of skin tones and hair, which are no emoji by themselves
_SHORTCODES = ("cldr", "emojibase", "emojibase-legacy", "github", "iamcal", "joypixels")
_SKIN_TONES = frozenset(range(0x1F3FB, 0x1F400))
_SIGNS = frozenset({0x200D, 0x2640, 0x2642})
_PERSON = {0x1F468: 0x1F9D1, 0x1F469: 0x1F9D1}  # man, woman -> person
_SVG_ATTRIBUTES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


@dataclass(frozen=True)
class Style:
    """One style of art.

    Attributes:
        word: what captions call it.
        package: "name@version".
        licence: of the art.
        others: further words for the style.
        corrections: icon name -> the code points it shows; "" leaves the icon out.
    """

    word: str
    package: str
    licence: str
    others: tuple[str, ...] = ()
    corrections: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Emoji:
    """An emoji of emojibase.

    Attributes:
        key: its code points (`emoji_key`).
        base: the key of the emoji without skin tones.
        label, tags: English.
    """

    key: str
    base: str
    label: str
    tags: list[str] = field(default_factory=list)

    @property
    def group(self) -> str:
        """The key without skin tones and genders: emoji of one group share a weight in training."""
        points = [_PERSON.get(point, point) for point in map(_point, self.key.split("-"))]
        return "-".join(f"{point:x}" for point in points if point not in _SKIN_TONES | _SIGNS) or self.key


@dataclass(frozen=True)
class Icon:
    """An icon before it is rendered: an SVG document, or an encoded image."""

    content: bytes

    def png(self) -> bytes:
        """`SIZE` x `SIZE` RGBA, as PNG.

        Raises:
            GalipError: the renderer is missing.
        """
        content = _render(self.content.decode()) if self.content.startswith(b"<svg") else self.content
        image = Image.open(io.BytesIO(content)).convert("RGBA")
        if image.size != (SIZE, SIZE):
            image = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()


def _render(svg: str) -> bytes:
    try:
        import resvg_py
    except ImportError as error:
        raise GalipError("rendering emoji needs resvg-py: pip install '.[recipe]'") from error
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE))


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


def _point(code: str) -> int:
    return int(code, 16)


def emoji_key(hexcode: str) -> str:
    """The code points of a file name or hexcode, comparable over packages that pad, or drop `fe0f`, differently."""
    return "-".join(f"{point:x}" for point in map(_point, hexcode.lower().split("-")) if point != 0xFE0F)


class Catalogue:
    """The emoji of emojibase's English data, and the names they go by.

    Args:
        archive: of the package `emojibase-data`.

    Attributes:
        emoji: by key, skin tones included; regional indicators and components are left out.
    """

    def __init__(self, archive: Path) -> None:
        (rows,) = [json.loads(content) for name, content in members(archive, "package/en/") if name == "data.json"]
        self.emoji: dict[str, Emoji] = {}
        for row in rows:
            if row.get("group", _COMPONENTS) == _COMPONENTS:
                continue
            base, tags = emoji_key(row["hexcode"]), [str(tag) for tag in row.get("tags", ())]
            for entry in (row, *row.get("skins", ())):
                key = emoji_key(entry["hexcode"])
                self.emoji[key] = Emoji(key, base, entry["label"], tags)
        self._labels: dict[str, str] = {}
        for key, emoji in self.emoji.items():
            self._labels.setdefault(_run_together(emoji.label), key)
        self._icons: dict[str, str] = {}
        self._others = self._unicode_names() | self._shortcodes(archive)

    def _unicode_names(self) -> dict[str, str]:
        single = [key for key in self.emoji if "-" not in key]
        return {_run_together(unicodedata.name(chr(_point(key)), "")): key for key in single}

    def _shortcodes(self, archive: Path) -> dict[str, str]:
        meant: dict[str, set[str]] = {}
        wanted = {f"{name}.json" for name in _SHORTCODES}
        for name, content in members(archive, "package/en/shortcodes/"):
            for code, words in json.loads(content).items() if name in wanted else ():
                if (key := emoji_key(code)) in self.emoji:
                    for word in [words] if isinstance(words, str) else words:
                        meant.setdefault(_run_together(word), set()).add(key)
        return {word: next(iter(keys)) for word, keys in meant.items() if len(keys) == 1}

    def learn(self, name: str, key: str) -> None:
        """An icon of this name shows the emoji `key`; the first to say so is believed."""
        self._icons.setdefault(_run_together(name), key)

    def find(self, names: list[str]) -> str | None:
        """The key of the emoji that an icon with these names shows, the likeliest kind of name first."""
        spelled = [spelling for name in names for spelling in _spellings(name)]
        for known in (self._labels, self._icons, self._others):
            for spelling in spelled:
                if spelling in known:
                    return known[spelling]
        return None


def _run_together(name: str) -> str:
    """Letters and digits alone: "Piñata", "pinata" and "PINATA" are one."""
    plain = unicodedata.normalize("NFKD", name.lower().replace("&", "and"))
    return re.sub(r"[^a-z0-9]+", "", plain)


def _spellings(name: str) -> list[str]:
    """The name as it is, and as emojibase would have it: flags, skin tones."""
    plain = re.sub(r"^flag-for-(flag-)?", "flag-", name)
    return [_run_together(plain), _run_together(plain + "-skin-tone")]


def read_icons(archive: Path, style: Style, catalogue: Catalogue) -> tuple[dict[str, Icon], list[str]]:
    """The icons of one style by emoji key, and the names of those whose emoji is not known.

    Args:
        archive: of the style's package.
        style: its corrections are obeyed.
        catalogue: what is known of names; learns the names of sets that give code points.
    """
    files = dict(members(archive, "package/"))
    if "icons.json" not in files:
        images = {emoji_key(name.rpartition(".")[0]): Icon(content) for name, content in _images(archive)}
        unknown = sorted(images.keys() - catalogue.emoji.keys())
        return {key: icon for key, icon in images.items() if key in catalogue.emoji}, unknown
    icons = json.loads(files["icons.json"])
    aliases: dict[str, dict[str, Any]] = icons.get("aliases", {})
    names = {name: [name] for name in icons["icons"]}
    for alias, other in aliases.items():
        if other.keys() == {"parent"}:
            names.setdefault(other["parent"], [other["parent"]]).append(alias)
        else:
            names.setdefault(alias, [alias])
    codes: dict[str, str] = {}
    for points, name in json.loads(files.get("chars.json", b"{}")).items():
        if emoji_key(points) in catalogue.emoji:
            codes.setdefault(name, emoji_key(points))
    for name, code in codes.items():
        for one in names[name]:
            catalogue.learn(one, code)
    found: dict[str, Icon] = {}
    unknown = []
    sure = codes.keys() | style.corrections.keys()
    for name in sorted(names, key=lambda name: name not in sure):
        key: str | None = style.corrections.get(name)
        if key is None:
            key = codes.get(name) or (None if codes and name not in aliases else catalogue.find(names[name]))
        if key and key in catalogue.emoji:
            found.setdefault(key, Icon(_svg(icons, name).encode()))
        else:
            unknown.append(name)
    return found, unknown


def _images(archive: Path) -> Iterator[tuple[str, bytes]]:
    for name, content in members(archive, "package/assets/"):
        if name.endswith((".png", ".webp")):
            yield name, content


def _svg(icons: dict[str, Any], name: str) -> str:
    """The SVG document of an icon, centred in a square."""
    mirrored, body = False, {}
    values: dict[str, Any] = {key: icons[key] for key in ("left", "top", "width", "height") if key in icons}
    if name not in icons["icons"]:
        alias = icons["aliases"][name]
        mirrored, name = bool(alias.get("hFlip")), alias["parent"]
    body = icons["icons"][name]
    values |= {key: body[key] for key in ("left", "top", "width", "height") if key in body}
    left, top = values.get("left", 0), values.get("top", 0)
    width, height = values.get("width", 16), values.get("height", 16)
    side = max(width, height)
    inside = body["body"]
    if mirrored:
        inside = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{inside}</g>'
    box = f"{left - (side - width) / 2} {top - (side - height) / 2} {side} {side}"
    return f'<svg {_SVG_ATTRIBUTES} viewBox="{box}" width="{side}" height="{side}">{inside}</svg>'
