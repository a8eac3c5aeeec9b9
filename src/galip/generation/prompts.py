"""The cleaning of a caption before any tokenizer sees it."""

from __future__ import annotations

import html
import re

import ftfy

from galip.errors import InputError

# Control characters other than white space, and halves of surrogate pairs: the mark of a file that is no text.
# Looked for before the cleaning, because ftfy silently drops the first kind.
_BINARY = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
# 0x80-0x9f may be Windows-1252 in disguise, which ftfy repairs; what is left of them afterwards is binary too.
_BINARY_WHEN_CLEANED = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def clean_caption(text: str) -> str:
    """Clean a caption as OpenAI's CLIP did for its own training.

    Broken encodings are repaired (ftfy), HTML entities are resolved twice (`&amp;lt;` is a `<`), runs of white space
    become one space, and the ends are stripped. Case is left alone: that is the tokenizer's business.

    Raises:
        InputError: if nothing is left, or if the text holds control characters and so is no text.
    """
    if found := _BINARY.search(text):
        raise _binary(text, found.group())
    cleaned = html.unescape(html.unescape(ftfy.fix_text(text)))
    cleaned = re.sub(r"\s+", " ", cleaned).strip()
    if found := _BINARY_WHEN_CLEANED.search(cleaned):
        raise _binary(text, found.group())
    if not cleaned:
        raise InputError(f"caption {text[:40]!r}: it is empty; say what to generate")
    return cleaned


def read_captions(content: bytes, name: str) -> list[str]:
    """The captions of a text with one a line, cleaned; blank lines are passed over.

    Args:
        content: UTF-8, with or without a byte order mark.
        name: what errors call it.

    Raises:
        InputError: it is no UTF-8, a line cannot be a caption, or there is none. The message names the line.
    """
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: it is no UTF-8 text ({error}); one caption a line is needed") from None
    captions = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                captions.append(clean_caption(line))
            except InputError as error:
                raise InputError(f"{name}, line {number}: {error}") from None
    if not captions:
        raise InputError(f"{name}: it holds no captions; one a line is needed")
    return captions


def _binary(text: str, character: str) -> InputError:
    return InputError(f"caption {text[:40]!r}: it holds the control character {character!r}; plain text is needed")
