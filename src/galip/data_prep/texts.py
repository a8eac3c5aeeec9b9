"""Caption files: one caption a line, beside the images or in a tree of their own."""

from __future__ import annotations

from pathlib import Path

from galip.data_prep.base import Skipped

NOT_UTF8 = "captions are not UTF-8"


def caption_lines(path: Path, name: str) -> tuple[str, ...] | Skipped:
    """The lines of a caption file that are not blank; none if there is no such file.

    Args:
        path: the file.
        name: what a report calls the image.

    Returns:
        The captions, or why there are none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError:
        return Skipped(NOT_UTF8, name)
    # The birds' captions hold replacement characters, where an apostrophe was lost long ago.
    return tuple(line for line in text.replace("\ufffd", " ").splitlines() if line.strip())
