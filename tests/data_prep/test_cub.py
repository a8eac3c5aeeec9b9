"""`galip data prepare cub`: boxes, cuts, splits, captions."""

from __future__ import annotations

from pathlib import Path

import pytest
from data.trees import put, records_of
from data_prep.birds import BIRDS, SIZE, write_cub, write_names, write_texts

from galip.data_prep.base import WritingOptions
from galip.data_prep.cub import cub, square_around
from galip.data_prep.writing import prepare
from galip.errors import GalipError

WRITING = WritingOptions()


@pytest.mark.parametrize(
    ("box", "square"),
    [
        # centre (76, 37), half a side 0.75 * 32 = 24
        ((60, 27, 32, 20), (52, 13, 100, 61)),
        # centre (11, 22), half a side 0.75 * 40 = 30: over the left and the upper border
        ((1, 2, 20, 40), (-19, -8, 41, 52)),
        # centre (60, 85), half a side 75: over three borders of 160 x 120
        ((10, 70, 100, 30), (-15, 10, 135, 160)),
        # odd numbers: centre (3.5 -> 3, 4.5 -> 4), half a side 0.75 * 7 = 5.25 -> 5
        ((1, 1, 5, 7), (-2, -1, 8, 9)),
    ],
)
def test_the_square_around_a_box(box: tuple[int, int, int, int], square: tuple[int, int, int, int]) -> None:
    assert square_around(box) == square


def test_birds_are_cut_out_and_split_as_cub_says(tmp_path: Path) -> None:
    source = cub(write_cub(tmp_path / "CUB_200_2011"), write_texts(tmp_path / "text"), WRITING)
    report = prepare(source, tmp_path / "out", WRITING)
    (first,) = records_of(tmp_path / "out" / "test")
    second, third = records_of(tmp_path / "out" / "train")
    expected = [
        (first, (52, 13, 100, 61)),
        (second, (0, 0, 41, 52)),  # fractions of pixels in the box are cut off first
        (third, (0, 10, 135, 120)),
    ]
    for record, (left, upper, right, lower) in expected:
        assert record.image.size == (right - left, lower - upper)
        for corner, colour in (
            ((0, 0), (left, upper)),
            ((right - left - 1, lower - upper - 1), (right - 1, lower - 1)),
        ):
            shown = record.image.getpixel(corner)
            assert isinstance(shown, tuple)
            assert abs(shown[0] - colour[0]) <= 3 and abs(shown[1] - colour[1]) <= 3
    assert first.captions == [f"this bird is number {number} of 001" for number in range(10)]
    assert first.fields["file"] == f"{BIRDS[0]}.jpg" and first.fields["box"] == [60, 27, 32, 20]
    assert report["skipped"] == {} and report["encoded"] == 3
    assert report["options"]["split"] == "official"


def test_the_split_by_classes(tmp_path: Path) -> None:
    root, texts = write_cub(tmp_path / "CUB_200_2011"), write_texts(tmp_path / "text")
    lists = write_names(tmp_path / "birds", train=[BIRDS[2], "009.None/None_1"], test=[BIRDS[0]])
    report = prepare(cub(root, texts, WRITING, lists), tmp_path / "out", WRITING)
    assert [record.fields["file"] for record in records_of(tmp_path / "out" / "train")] == [f"{BIRDS[2]}.jpg"]
    assert [record.fields["file"] for record in records_of(tmp_path / "out" / "test")] == [f"{BIRDS[0]}.jpg"]
    assert report["skipped"] == {
        "in neither split": {"count": 1, "examples": [f"{BIRDS[1]}.jpg"]},
        "not in images.txt": {"count": 1, "examples": ["009.None/None_1"]},
    }


def test_birds_without_captions_or_images_are_counted(tmp_path: Path) -> None:
    root, texts = write_cub(tmp_path / "CUB_200_2011"), write_texts(tmp_path / "text")
    (texts / f"{BIRDS[0]}.txt").unlink()
    (root / "images" / f"{BIRDS[1]}.jpg").unlink()
    report = prepare(cub(root, texts, WRITING), tmp_path / "out", WRITING)
    assert report["skipped"] == {
        "no caption": {"count": 1, "examples": [f"{BIRDS[0]}.jpg"]},
        "missing file": {"count": 1, "examples": [f"{BIRDS[1]}.jpg"]},
    }
    assert list(report["splits"]) == ["train"]


def test_replacement_characters_of_the_captions_become_spaces(tmp_path: Path) -> None:
    root, texts = write_cub(tmp_path / "CUB_200_2011"), write_texts(tmp_path / "text")
    put(texts / f"{BIRDS[0]}.txt", "the bird\ufffd\ufffds wing")
    prepare(cub(root, texts, WRITING), tmp_path / "out", WRITING)
    assert records_of(tmp_path / "out" / "test")[0].captions == ["the bird  s wing"]


def test_a_box_outside_is_counted(tmp_path: Path) -> None:
    root, texts = write_cub(tmp_path / "CUB_200_2011"), write_texts(tmp_path / "text")
    put(root / "bounding_boxes.txt", f"1 {SIZE[0] + 100}.0 0 10 10\n2 0 0 9 9\n3 0 0 9 9\n")
    report = prepare(cub(root, texts, WRITING), tmp_path / "out", WRITING)
    assert report["skipped"] == {"box outside the image": {"count": 1, "examples": [f"{BIRDS[0]}.jpg"]}}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bounding_boxes.txt", "1 0 0 9 9\n", "bounding_boxes.txt: it holds no box of image 2"),
        ("bounding_boxes.txt", "1 0 0 9\n", "the box of image 1 is '0 0 9', not four numbers"),
        ("bounding_boxes.txt", "1 0 0 9 inf\n", "the box of image 1 is '0 0 9 inf', not four numbers"),
        ("images.txt", "1 a.jpg\n2\n", "images.txt, line 2"),
        ("images.txt", "1 ../a.jpg\n", r"images.txt: \.\./a.jpg is not in the folder"),
        ("images.txt", None, "images.txt: cannot be read"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    root, texts = write_cub(tmp_path / "CUB_200_2011"), write_texts(tmp_path / "text")
    if content is None:
        (root / name).unlink()
    else:
        put(root / name, content)
    with pytest.raises(GalipError, match=message):
        cub(root, texts, WRITING)
    with pytest.raises(GalipError, match="nowhere: no such folder; --captions"):
        cub(root, tmp_path / "nowhere", WRITING)
