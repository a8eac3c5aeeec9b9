"""`filenames.pickle`, the lists that users of AttnGAN, DF-GAN and GALIP have: read without running what is in them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from galip.errors import GalipError

NAMES = "filenames.pickle"


class _PlainData(pickle.Unpickler):
    """Builds lists and strings; a pickle that asks for any function or class is refused before it gets one."""

    path: Path

    def find_class(self, module: str, name: str) -> Any:
        raise GalipError(
            f"{self.path}: it asks for {module}.{name}, but a list of file names needs nothing but strings; the file "
            "is not trusted and was not run"
        )


def read_names(folder: Path) -> list[str]:
    """The names in `folder/filenames.pickle`, written by Python 2 or 3.

    Raises:
        GalipError: the file is not there, is not a pickle, holds something else than a list of names below the folder,
            or asks for a function or class, which the message names.
    """
    path = folder / NAMES
    try:
        with path.open("rb") as file:
            # Python 2's strings are bytes.
            reader = _PlainData(file, encoding="utf-8")
            reader.path = path
            names = reader.load()
    except OSError as error:
        raise GalipError(f"{path}: cannot be read ({error.strerror or error}); see docs/data.md") from error
    except GalipError:
        raise
    except Exception as error:  # a damaged pickle fails in many ways
        raise GalipError(f"{path}: not a readable pickle ({type(error).__name__}: {error}); fetch it again") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise GalipError(f"{path}: it holds something else than a list of strings; fetch it again")
    if outside := next((name for name in names if name.startswith("/") or ".." in name.split("/")), None):
        raise GalipError(f"{path}: {outside} is not in the folder; fetch the file again")
    return list(names)
