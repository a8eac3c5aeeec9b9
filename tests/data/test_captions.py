"""Captions in text files and JSON, and what is none."""

from __future__ import annotations

import pytest

from galip.data.captions import captions_of, clean_captions, text_that_counts
from galip.errors import GalipError


@pytest.mark.parametrize(
    ("content", "suffix", "captions"),
    [
        (b"one\n\ntwo", "txt", ["one", "", "two"]),
        (b'{"captions": ["one", "two"], "caption": "no"}', "json", ["one", "two"]),
        (b'{"caption": "one", "text": "no"}', "json", ["one"]),
        (b'{"text": ["one", null, 2]}', "json", ["one", "2"]),
        (b'{"caption": null}', "json", []),
    ],
)
def test_captions_of_a_text_member(content: bytes, suffix: str, captions: list[str]) -> None:
    assert captions_of(content, suffix) == captions


@pytest.mark.parametrize(
    ("content", "why"), [(b"\xff", "not UTF-8"), (b"{", "not JSON"), (b"{}", "none of the fields"), (b"[1]", "none of")]
)
def test_a_text_member_without_captions(content: bytes, why: str) -> None:
    with pytest.raises(GalipError, match=why):
        captions_of(content, "json")


def test_cleaning_drops_what_is_no_caption() -> None:
    assert clean_captions([" a  &amp; b ", "", "\x00", "c"]) == ("a & b", "c")


@pytest.mark.parametrize(
    ("content", "suffix", "captions"),
    [
        (b"\xef\xbb\xbfone\r\ntwo\rthree", "txt", ["one", "two", "three"]),
        ("a\u2028b\x85c\x0bd".encode(), "txt", ["a\u2028b\x85c\x0bd"]),
        (b'\xef\xbb\xbf{"prompt": "one"}', "json", ["one"]),
        (b'{"caption": "a red\\nballoon,\\r\\n over the sea"}', "json", ["a red balloon, over the sea"]),
        (b'{"caption": "binary\\u001f\\n"}', "json", ["binary\x1f "]),
        (b'{"caption": NaN}', "json", []),
        (b'{"text": 7}', "json", ["7"]),
    ],
)
def test_captions_as_people_write_them(content: bytes, suffix: str, captions: list[str]) -> None:
    assert captions_of(content, suffix) == captions


BAD = [b'{"caption": {"en": "a"}}', b'{"caption": true}', b'{"captions": [["a"]]}', b"[" * 100_000, b"1" * 5000, b'"a"']


@pytest.mark.parametrize("content", BAD)
def test_json_that_holds_no_captions(content: bytes) -> None:
    with pytest.raises(GalipError, match="not a text|not JSON|none of the fields"):
        captions_of(content, "json")


@pytest.mark.parametrize(
    ("json", "counts"),
    [
        (b'{"caption": "a\\nb"}', "json"),
        (b'{"caption": null}', "txt"),
        (b'{"width": 3}', "txt"),
        (b'{"caption": {}}', "txt"),
        (b"{", "txt"),
    ],
)
def test_json_counts_before_text_where_it_has_captions(json: bytes, counts: str) -> None:
    assert text_that_counts({"txt": b"a\nb", "json": json}) == counts
    assert text_that_counts({"json": json}) == "json"
    assert text_that_counts({}) is None
