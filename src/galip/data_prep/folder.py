"""`galip data prepare folder`: a plain folder of captioned images, as training reads it."""

from __future__ import annotations

from pathlib import Path

from galip.data.folder import read_folder
from galip.data.skips import encodable
from galip.data_prep.base import TRAIN, Item, Listing, WritingOptions, key_of, listed


def folder(root: Path, writing: WritingOptions) -> Listing:
    """List a folder: see `galip.data.folder`.

    Other values of a row of `metadata.jsonl` go into the records. Images without a caption, and files that a table
    names but are not there, are listed too, and counted when they are to be written.

    Args:
        root: the folder.
        writing: gives the share for validation.

    Raises:
        GalipError: there is no such folder, no image in it, or a row of a table cannot be read; the message names it.
    """
    records, skipped = read_folder(root)
    items = [
        Item(
            key_of(record.name),
            record.captions,
            TRAIN,
            root / record.name,
            encodable(record.name),
            extra={"file": encodable(record.name)} | record.fields,
        )
        for record in sorted(records, key=lambda record: record.name)
    ]
    return listed("folder", items, writing, skipped=skipped)
