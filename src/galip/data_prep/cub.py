"""`galip data prepare cub`: CUB-200-2011's birds, cut out around their bounding boxes as in DF-GAN."""

from __future__ import annotations

from pathlib import Path

from galip.data.folder import name_inside
from galip.data.skips import Skipped
from galip.data_prep.base import Item, Listing, WritingOptions, key_of, listed, read_text
from galip.data_prep.pickles import read_names
from galip.data_prep.texts import caption_lines
from galip.errors import GalipError

TEST = "test"
_HALF_SIDE = 0.75  # of the box's longer side

Box = tuple[int, int, int, int]


def cub(root: Path, captions: Path, writing: WritingOptions, split_lists: Path | None = None) -> Listing:
    """List the birds with their ten captions, in the splits "train" and "test".

    Args:
        root: the folder `CUB_200_2011`, with `images/`, `images.txt`, `bounding_boxes.txt` and `train_test_split.txt`.
        captions: the folder of the captions, `CLASS/NAME.txt`, one a line.
        writing: how to write.
        split_lists: a folder with `train/filenames.pickle` and `test/filenames.pickle`, whose split by classes (150 to
            train on, 50 to test) is used by AttnGAN, DF-GAN and GALIP; without it, CUB's own split of all classes.

    Raises:
        GalipError: a file or folder is not there, or cannot be read.
    """
    if not captions.is_dir():
        raise GalipError(f"{captions}: no such folder; --captions names the folder that holds CLASS/NAME.txt")
    images = read_table(root / "images.txt")
    boxes = read_boxes(root)
    if split_lists is None:
        trained = read_table(root / "train_test_split.txt")
        split_of = {name: "train" if trained.get(number) == "1" else TEST for number, name in images.items()}
        by_stem = {name.rpartition(".")[0]: split for name, split in split_of.items()}
    else:
        by_stem = {name: part for part in ("train", TEST) for name in read_names(split_lists / part)}
    items: list[Item] = []
    skipped = []
    for number, name in images.items():
        stem = name.rpartition(".")[0]
        if stem not in by_stem:
            skipped.append(Skipped("in neither split", name))
            continue
        item = bird(root, stem, number, boxes, captions / f"{stem}.txt", by_stem[stem])
        (items if isinstance(item, Item) else skipped).append(item)  # type: ignore[arg-type]
    known = {name.rpartition(".")[0] for name in images.values()}
    skipped += [Skipped("not in images.txt", name) for name in sorted(by_stem.keys() - known)]
    return listed("cub", items, writing, {"split": "official" if split_lists is None else "classes"}, skipped)


def bird(root: Path, stem: str, number: str, boxes: dict[str, Box], text: Path, split: str) -> Item | Skipped:
    """One bird.

    Args:
        root: the folder `CUB_200_2011`.
        stem: the image's name below `images/`, without ".jpg".
        number: by which `boxes` knows it.
        boxes: from `read_boxes`.
        text: the file of its captions.
        split: that it belongs to.

    Raises:
        GalipError: it has no box, or its name leads out of the folder.
    """
    name = f"{stem}.jpg"
    image = root / "images" / name_inside(root / "images", "", name, str(root / "images.txt"))
    lines = caption_lines(text, name)
    if isinstance(lines, Skipped):
        return lines
    if number not in boxes:
        raise GalipError(f"{root / 'bounding_boxes.txt'}: it holds no box of image {number}, {name}; fetch it again")
    extra = {"file": name, "box": list(boxes[number])}
    return Item(key_of(stem), lines, split, image, name, square_around(boxes[number]), extra)


def square_around(box: Box) -> Box:
    """The square that is cut out for a bird.

    Args:
        box: CUB's (x, y, width, height) in whole pixels.

    Returns:
        (left, upper, right, lower): around the box's centre, half a side 0.75 times the box's longer side; it may reach
        over the image's borders.
    """
    x, y, width, height = box
    half = int(max(width, height) * _HALF_SIDE)
    centre_x, centre_y = (2 * x + width) // 2, (2 * y + height) // 2
    return centre_x - half, centre_y - half, centre_x + half, centre_y + half


def read_table(path: Path) -> dict[str, str]:
    """A file of CUB's, "NUMBER VALUE" in each line.

    Raises:
        GalipError: it is not there, or a line is something else.
    """
    rows: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            key, _, value = line.strip().partition(" ")
            if not value.strip():
                raise GalipError(f"{path}, line {number}: {line!r} is not a number and a value; fetch the file again")
            rows[key] = value.strip()
    return rows


def read_boxes(root: Path) -> dict[str, Box]:
    """Bounding boxes (x, y, width, height) by the images' numbers, fractions of pixels cut off as in DF-GAN.

    Raises:
        GalipError: `bounding_boxes.txt` is not there, or a line is something else.
    """
    path = root / "bounding_boxes.txt"
    boxes: dict[str, Box] = {}
    for number, value in read_table(path).items():
        try:
            x, y, width, height = (int(float(part)) for part in value.split())
        except (ValueError, OverflowError) as error:
            raise GalipError(f"{path}: the box of image {number} is {value!r}, not four numbers") from error
        boxes[number] = (x, y, width, height)
    return boxes
