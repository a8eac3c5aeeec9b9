"""The cleaning of captions."""

from __future__ import annotations

import pytest

from galip.errors import InputError
from galip.generation.prompts import clean_caption, read_captions


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a red heart", "a red heart"),
        ("  a \t red\n\nheart ", "a red heart"),
        ("A Red Heart", "A Red Heart"),
        ("cats &amp;amp; dogs", "cats & dogs"),
        ("3 &amp;lt; 4", "3 < 4"),
        ("a&nbsp;red&#32;heart", "a red heart"),
        ("un cafÃ©", "un café"),
        ("it\x92s blue", "it's blue"),
        ("a \u201cred\u201d heart", 'a "red" heart'),
        ("ein Mädchen, 女の子", "ein Mädchen, 女の子"),
        ("\U0001f468\u200d\U0001f33e farmer", "\U0001f468\u200d\U0001f33e farmer"),
        ("\ufeffa red heart", "a red heart"),
    ],
)
def test_cleaning(text: str, cleaned: str) -> None:
    assert clean_caption(text) == cleaned
    assert clean_caption(cleaned) == cleaned


def test_a_long_caption_stays_whole() -> None:
    assert clean_caption("very " * 2000 + "red") == "very " * 2000 + "red"


@pytest.mark.parametrize("text", ["", "   \n\t ", "&nbsp;", "\ufeff"])
def test_empty_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match="empty"):
        clean_caption(text)


@pytest.mark.parametrize("text", ["a red\x00heart", "\x89PNG\r\n\x1a\n", "\x1b[31mred", "caf\udce9", "a\x7f"])
def test_binary_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match="control character"):
        clean_caption(text)


def test_the_message_is_short_and_printable() -> None:
    with pytest.raises(InputError) as caught:
        clean_caption("\x00" * 10_000)
    message = str(caught.value)
    assert len(message) < 300 and message.isprintable()


def test_a_file_has_one_caption_a_line() -> None:
    assert read_captions("\ufeffa red heart\r\n\n  a  cat \n".encode(), "x.txt") == ["a red heart", "a cat"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n \n", "x.txt: it holds no captions"),
        (b"a\n\xff", "x.txt: it is no UTF-8 text"),
        (b"a cat\na\x00b", "x.txt, line 2: .*control character"),
    ],
)
def test_a_file_that_holds_no_captions_is_named_with_the_line(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_captions(content, "x.txt")
