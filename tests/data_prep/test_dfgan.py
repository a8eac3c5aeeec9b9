"""`galip data prepare dfgan`: the folders of the released code, and its pickles, which may run nothing."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from data.trees import noise, put, records_of
from data_prep.birds import BIRDS, write_cub, write_names, write_texts

from galip.data_prep.base import WritingOptions
from galip.data_prep.cub import cub
from galip.data_prep.dfgan import dfgan
from galip.data_prep.pickles import read_names
from galip.data_prep.writing import prepare
from galip.errors import GalipError

WRITING = WritingOptions()
TRAINED, TESTED = "COCO_train2014_000000000009", "COCO_val2014_000000391895"


def test_birds(tmp_path: Path) -> None:
    root = write_names(tmp_path / "birds", train=[BIRDS[2], BIRDS[0]], test=[BIRDS[1]])
    write_cub(root / "CUB_200_2011")
    write_texts(root / "text")
    prepare(dfgan(root, WRITING), tmp_path / "out", WRITING)
    found = records_of(tmp_path / "out" / "train")
    assert [record.fields["file"] for record in found] == [f"{BIRDS[2]}.jpg", f"{BIRDS[0]}.jpg"]
    assert [record.image.size for record in found] == [(135, 110), (48, 48)]
    assert len(found[0].captions) == 10
    # The same records as from CUB's own files with these lists.
    prepare(cub(root / "CUB_200_2011", root / "text", WRITING, root), tmp_path / "cub", WRITING)
    by_key = [
        {r.key: (r.content, r.fields) for part in ("train", "test") for r in records_of(tmp_path / out / part)}
        for out in ("out", "cub")
    ]
    assert by_key[0] == by_key[1] and len(by_key[0]) == 3


@pytest.mark.parametrize("texts", ["text", "text/train"])
def test_coco(tmp_path: Path, texts: str) -> None:
    root = write_names(tmp_path / "coco", train=[TRAINED, "COCO_train2014_000000000025"], test=[TESTED])
    put(root / "images/train2014/jpg" / f"{TRAINED}.jpg", noise(1))
    put(root / "images/val2014/jpg" / f"{TESTED}.jpg", noise(2))
    for name in (TRAINED, TESTED):
        put(root / texts / f"{name}.txt", "".join(f"caption {number} of {name}\n" for number in range(5)))
    report = prepare(dfgan(root, WRITING), tmp_path / "out", WRITING)
    (trained,) = records_of(tmp_path / "out" / "train")
    (tested,) = records_of(tmp_path / "out" / "test")
    assert (trained.key, trained.content) == (TRAINED, noise(1)) and (tested.key, tested.content) == (TESTED, noise(2))
    assert trained.captions == [f"caption {number} of {TRAINED}" for number in range(5)]
    assert report["skipped"] == {"no caption": {"count": 1, "examples": ["COCO_train2014_000000000025"]}}


def test_lists_are_read_whoever_wrote_them(tmp_path: Path) -> None:
    names = ["001.A/a_1", "002.B/b_2"]
    python_2_text = b"(lp0\nS'001.A/a_1'\np1\naS'002.B/b_2'\np2\na."
    python_2_unicode = b"(lp0\nV001.A/a_1\np1\naV002.B/b_2\np2\na."
    python_2_binary = b"\x80\x02]q\x00(U\t001.A/a_1q\x01U\t002.B/b_2q\x02e."
    for content in (python_2_text, python_2_unicode, python_2_binary, *(pickle.dumps(names, p) for p in range(6))):
        put(tmp_path / "filenames.pickle", content)
        assert read_names(tmp_path) == names


class Malicious:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch broken-in",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_asks_for_a_function_is_refused_by_name(
    tmp_path: Path, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "filenames.pickle", pickle.dumps(["a", Malicious()], protocol))
    with pytest.raises(GalipError, match=rf"filenames.pickle: it asks for {os.system.__module__}.system"):
        read_names(tmp_path)
    assert not (tmp_path / "broken-in").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(("a", "b")), "something else than a list of strings"),
        (pickle.dumps(["a", 1]), "something else than a list of strings"),
        (pickle.dumps(["a", "../b"]), r"\.\./b is not in the folder"),
        (pickle.dumps(["/etc/a"]), "/etc/a is not in the folder"),
        (pickle.dumps({"a": 1}), "something else than a list of strings"),
        (b"(lp0\nS'\\xff'\na.", "not a readable pickle"),
        (pickle.dumps(["a"])[:-3], "not a readable pickle"),
        (b"", "not a readable pickle"),
        (b"(lp0\nPuser\na.", "not a readable pickle"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    put(tmp_path / "filenames.pickle", content)
    with pytest.raises(GalipError, match=message):
        read_names(tmp_path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(GalipError, match="neither train/ nor test/"):
        dfgan(tmp_path, WRITING)
    (tmp_path / "train").mkdir()
    with pytest.raises(GalipError, match="text: no such folder"):
        dfgan(tmp_path, WRITING)
    (tmp_path / "text").mkdir()
    with pytest.raises(GalipError, match="filenames.pickle: cannot be read"):
        dfgan(tmp_path, WRITING)
