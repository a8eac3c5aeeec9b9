"""Caption files: one caption a line, beside the images or in a tree of their own."""

from __future__ import annotations

from pathlib import Path

from galip.data.captions import NotUTF8Error, captions_of
from galip.data.skips import BROKEN_TEXT, NOT_UTF8, Skipped


def caption_lines(path: Path, name: str) -> tuple[str, ...] | Skipped:
    """The lines of a caption file that are not blank; none if there is no such file.

    Args:
        path: the file.
        name: what a report calls the image.

    Returns:
        The captions, or why there are none.
    """
    try:
        lines = captions_of(path.read_bytes(), "txt")
    except NotUTF8Error:
        return Skipped(NOT_UTF8, name)
    except (FileNotFoundError, ValueError):  # ValueError: a name that no file can have
        return ()
    except OSError:
        return Skipped(BROKEN_TEXT, name)
    # The birds' captions hold replacement characters, where an apostrophe was lost long ago.
    return tuple(line.replace("\ufffd", " ") for line in lines if line.replace("\ufffd", " ").strip())
