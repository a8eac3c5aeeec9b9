"""`galip data prepare dfgan`: the folders that users of the code of AttnGAN, DF-GAN and GALIP have, birds or COCO."""

from __future__ import annotations

from pathlib import Path

from galip.data.skips import Skipped
from galip.data_prep.base import Item, Listing, WritingOptions, key_of, listed
from galip.data_prep.cub import TEST, Box, bird, read_boxes, read_table
from galip.data_prep.pickles import read_names
from galip.data_prep.texts import caption_lines
from galip.errors import GalipError

BIRDS = "CUB_200_2011"
_IMAGE_FOLDERS = ("images/train2014/jpg", "images/val2014/jpg", "images/train2014", "images/val2014", "images")


def dfgan(root: Path, writing: WritingOptions) -> Listing:
    """List such a folder, in the splits "train" and "test" of its `filenames.pickle`.

    Args:
        root: `{train,test}/filenames.pickle`, `text/` with a NAME.txt for each name in them (in sub-folders too), and
            either `CUB_200_2011/`, whose birds are cut out around their boxes, or `images/{train2014,val2014}/jpg/`.
        writing: how to write.

    Raises:
        GalipError: a file or folder is not there, or cannot be read.
    """
    parts = [part for part in ("train", TEST) if (root / part).is_dir()]
    if not parts:
        raise GalipError(f"{root}: neither train/ nor test/ with a filenames.pickle is there; see docs/data.md")
    texts = _Texts(root / "text")
    birds = _Birds(root / BIRDS) if (root / BIRDS).is_dir() else None
    items: list[Item] = []
    skipped: list[Skipped] = []
    for part in parts:
        for name in dict.fromkeys(read_names(root / part)):
            found = birds.item(name, texts.of(name), part) if birds else _image(root, name, texts.of(name), part)
            if isinstance(found, Item):
                items.append(found)
            else:
                skipped.append(found)
    return listed("dfgan", items, writing, {"pictures": "birds" if birds else "coco"}, skipped)


class _Texts:
    """The caption files below a folder, at `NAME.txt` or anywhere deeper."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise GalipError(f"{folder}: no such folder; it must hold the captions, NAME.txt for each image")
        self._folder = folder
        self._anywhere: dict[str, Path] | None = None

    def of(self, name: str) -> Path:
        """The file of an image; it need not exist."""
        direct = self._folder / f"{name}.txt"
        if direct.exists():
            return direct
        if self._anywhere is None:
            self._anywhere = {path.stem: path for path in sorted(self._folder.rglob("*.txt"))}
        return self._anywhere.get(name.rpartition("/")[2], direct)


class _Birds:
    """CUB's folder, asked by names."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._numbers = {name.rpartition(".")[0]: number for number, name in read_table(root / "images.txt").items()}
        self._boxes: dict[str, Box] = read_boxes(root)

    def item(self, name: str, text: Path, split: str) -> Item | Skipped:
        """A bird with its box, unless CUB does not know it."""
        if name not in self._numbers:
            return Skipped("not in images.txt", name)
        return bird(self._root, name, self._numbers[name], self._boxes, text, split)


def _image(root: Path, name: str, text: Path, split: str) -> Item | Skipped:
    lines = caption_lines(text, name)
    if isinstance(lines, Skipped):
        return lines
    places = [root / folder / f"{name}.jpg" for folder in _IMAGE_FOLDERS]
    path = next((place for place in places if place.is_file()), places[0])
    return Item(key_of(name), lines, split, path, name, extra={"file": path.name})
