"""`galip data prepare emoji`: images and names of emoji from registry packages; the bundled model learns from them.

`npm pack` fetches the packages. Some images are held out: single (emoji, style) pairs whose emoji is trained in other
styles (`held_out_pairs`), and emoji that no training image shows in any style, skin tone or gender (`held_out_emoji`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from galip.data.skips import Skipped
from galip.data_prep.base import TRAIN, Block, Item, Listing, WritingOptions, listed
from galip.data_prep.emoji_art import EMOJI_DATA, Catalogue, Emoji, Icon, Style, fetch, read_icons
from galip.data_prep.emoji_names import FIREFOX

SPLIT_SEED = 2301
HELD_OUT_EMOJI = 0.02
HELD_OUT_PAIRS = 0.05
WEIGHT_POWER = -0.75

_ICONIFY = "@iconify-json"
STYLES = (
    Style("noto", f"{_ICONIFY}/noto@1.2.9", "Apache-2.0 (Noto Emoji, Google)", ("google",)),
    Style("twemoji", f"{_ICONIFY}/twemoji@1.2.5", "CC-BY-4.0 (Twemoji, Twitter)", ("twitter",)),
    Style("flat", f"{_ICONIFY}/fluent-emoji-flat@1.2.6", "MIT (Fluent Emoji, Microsoft)", ("fluent", "flat fluent")),
    Style("glossy", f"{_ICONIFY}/fluent-emoji@1.2.7", "MIT (Fluent Emoji, Microsoft)", ("glossy fluent",)),
    Style("blob", f"{_ICONIFY}/noto-v1@1.2.5", "Apache-2.0 (Noto Emoji 1, Google)", ("android blob",)),
    Style("emojione", f"{_ICONIFY}/emojione@1.2.3", "CC-BY-4.0 (EmojiOne 2, Ranks.com)", ("emoji one",)),
    Style("firefox", f"{_ICONIFY}/fxemoji@1.2.2", "Apache-2.0 (FxEmoji, Mozilla)", ("mozilla",), FIREFOX),
    Style("3d", "@lobehub/fluent-emoji-3d@1.1.0", "MIT (Fluent Emoji, Microsoft)", ("3d fluent",)),
)


@dataclass(frozen=True)
class IconBlock:
    """A block of icons that are rendered when they are written."""

    block: Block

    @property
    def expected(self) -> int | None:
        """The number of its items."""
        return self.block.expected

    def items(self) -> Iterator[Item | Skipped]:
        """The items with their images as PNG."""
        for item in self.block.items():
            assert isinstance(item, Item) and isinstance(item.image, bytes)
            yield replace(item, image=Icon(item.image).png())

    def identity(self) -> Any:
        """That of the icons."""
        return self.block.identity()


def emoji(packages: Path, writing: WritingOptions) -> Listing:
    """List the images in the splits "train", "held_out_pairs" and "held_out_emoji".

    A record's other values are `emoji` (its key), `base` (the key without skin tones), `style`, `label`, `tags`, and
    `weight`: how often training should draw it, so that emoji of one kind share their visits.

    Args:
        packages: the folder of the packages' archives; what is not there is fetched.
        writing: how to write.

    Raises:
        GalipError: a package cannot be fetched.
    """
    catalogue = Catalogue(fetch(EMOJI_DATA, packages))
    icons: dict[str, dict[str, Icon]] = {}
    unknown: dict[str, list[str]] = {}
    for style in STYLES:
        icons[style.word], unknown[style.word] = read_icons(fetch(style.package, packages), style, catalogue)
    held_out = split(icons, catalogue.emoji)
    whole, pairs = set(held_out["held_out_emoji"]), set(held_out["held_out_pairs"])
    sizes = Counter((word, catalogue.emoji[key].group) for word, by_key in icons.items() for key in by_key)
    items = []
    for style in STYLES:
        for key, icon in sorted(icons[style.word].items()):
            entry = catalogue.emoji[key]
            part = TRAIN
            if entry.base in whole:
                part = "held_out_emoji"
            elif f"{entry.base} {style.word}" in pairs:
                part = "held_out_pairs"
            weight = round(sizes[style.word, entry.group] ** WEIGHT_POWER, 6)
            extra = {"emoji": key, "base": entry.base, "style": style.word, "label": entry.label, "tags": entry.tags}
            captions = tuple(captions_of(entry, style))
            name = f"{style.word} {key}"
            extra |= {"weight": weight}
            items.append(Item(f"{style.word}-{key}", captions, part, icon.content, name, extra=extra))
    skipped = [Skipped("icon of no known emoji", f"{word} {name}") for word, names in unknown.items() for name in names]
    bases = {word: {catalogue.emoji[key].base for key in by_key} for word, by_key in icons.items()}
    notes = {
        "split": {"seed": SPLIT_SEED, **held_out},
        "images per style": {word: len(by_key) for word, by_key in icons.items()},
        "emoji without skin tones per style": {word: len(found) for word, found in bases.items()},
        "emoji without any image": sorted(catalogue.emoji.keys() - set().union(*icons.values())),
        "packages": [EMOJI_DATA, *(style.package for style in STYLES)],
        "licences": {style.word: style.licence for style in STYLES},
    }
    source = listed("emoji", items, writing, skipped=skipped, notes=notes)
    return replace(source, blocks=[IconBlock(block) for block in source.blocks])


def plain_label(label: str) -> str:
    """The label as a person would say it: "flag: Chad" -> "flag of Chad", "elf: dark skin tone" -> "elf with ..."."""
    if label.startswith("flag: "):
        return "flag of " + label.removeprefix("flag: ")
    return label.replace(": ", " with ", 1)


def captions_of(emoji: Emoji, style: Style) -> list[str]:
    """Ten captions of one image, the canonical one first; eight name the style, two do not (a fifth of the visits).

    Which tags appear, and which other word for the style, is a function of the emoji and the style alone.
    """
    word = style.word
    rng = random.Random(f"{emoji.key} {word}")
    label, plain = emoji.label, plain_label(emoji.label)
    names = {label.lower(), plain.lower()}
    tags = [tag for tag in emoji.tags if len(tag) > 2 and tag.lower() not in names] or [plain]
    first, second = rng.choice(tags), rng.choice(tags)
    tone = label.partition(": ")[2] if "skin tone" in label else ""
    toned = f"{first} with {tone}" if tone else first
    canonical = f"{word} emoji of {label}"
    return [
        canonical,
        canonical,
        f"{word} emoji of {plain}",
        f"{word} {plain}",
        f"{plain}, {word} style",
        f"{plain}, {second}, {word}",
        f"{word} emoji of {toned}",
        f"a {rng.choice((word, *style.others))} picture of a {plain}",
        plain,
        f"emoji of {label}",
    ]


def split(icons: dict[str, dict[str, Icon]], emoji: dict[str, Emoji]) -> dict[str, list[str]]:
    """What is held out, by keys without skin tones.

    2% of the emoji, with all their skin tones and genders; and "key style" pairs, 5% of those there are, of emoji that
    keep another style.
    """
    rng = random.Random(SPLIT_SEED)
    bases = {word: {emoji[key].base for key in by_key} for word, by_key in icons.items()}
    groups: dict[str, set[str]] = {}
    for base in set().union(*bases.values()):
        groups.setdefault(emoji[base].group, set()).add(base)
    chosen = rng.sample(sorted(groups), round(HELD_OUT_EMOJI * len(groups)))
    whole = {base for group in chosen for base in groups[group]}
    styles = Counter(base for found in bases.values() for base in found)
    rest = sorted(
        f"{base} {word}" for word, found in bases.items() for base in found if base not in whole and styles[base] > 1
    )
    wanted = round(HELD_OUT_PAIRS * sum(len(found) for found in bases.values()))
    pairs: dict[str, str] = {}  # at most one style of an emoji, so that its other styles stay in training
    for pair in rng.sample(rest, len(rest)):
        if len(pairs) == wanted:
            break
        pairs.setdefault(pair.split()[0], pair)
    return {"held_out_emoji": sorted(whole), "held_out_pairs": sorted(pairs.values())}
