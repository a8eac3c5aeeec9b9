"""The folder of an evaluation's unfinished work, which one evaluation at a time owns."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from galip.errors import GalipError
from galip.utils.atomic import write_json

_ABOUT = "evaluation.json"


class WorkFolder:
    """Where an evaluation keeps what it has done so far: beside its result, or in a temporary folder.

    Only the main process opens and closes it. While it is open, no other evaluation can write the same result.

    Args:
        out: the result's file; None: there is none.
        about: what makes this evaluation another one than those that may have been begun here.
        replace: whether another evaluation's unfinished work is thrown away.

    Attributes:
        path: the folder.

    Raises:
        GalipError: another evaluation is writing this result, or has left unfinished work here, or the folder cannot
            be used.
    """

    def __init__(self, out: Path | None, about: dict[str, Any], replace: bool = False) -> None:
        self._lock: FileLock | None = None
        self._out = out
        if out is None:
            self.path = Path(tempfile.mkdtemp(prefix="galip-evaluation-"))
            return
        self.path = out.with_suffix(".work")
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(out)
            self._begin(about, replace)
        except (OSError, ValueError) as error:
            self._release()
            raise GalipError(f"{self.path}: cannot be used ({error}); remove it, or choose another --out") from error
        except GalipError:
            self._release()
            raise

    def close(self, done: bool) -> None:
        """Give the result free; the work is removed if it is done, or if nobody could go on with it."""
        if done or self._out is None:
            shutil.rmtree(self.path, ignore_errors=True)
        self._release()

    def _begin(self, about: dict[str, Any], replace: bool) -> None:
        self.path.mkdir(exist_ok=True)
        file = self.path / _ABOUT
        if file.exists():
            there = json.loads(file.read_text(encoding="utf-8"))
            other = sorted(name for name in about if not isinstance(there, dict) or there.get(name) != about[name])
            if other and not replace:
                raise GalipError(
                    f"{self.path}: holds an unfinished evaluation with other {', '.join(other)}; remove it, or choose "
                    "another --out"
                )
            if other:
                shutil.rmtree(self.path)
                self.path.mkdir()
        if not file.exists():
            write_json(file, about)

    def _release(self) -> None:
        if self._lock is not None:
            # While it is still held: a later owner must not have its file removed. Windows forbids it; there it stays.
            with suppress(OSError):
                Path(self._lock.lock_file).unlink()
            self._lock.release()
            self._lock = None


def _locked(out: Path) -> FileLock:
    """The lock of a result's file.

    Raises:
        GalipError: another evaluation holds it.
    """
    path = out.with_name(f".{out.name}.lock")
    while True:
        lock = FileLock(str(path), timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise GalipError(
                f"{out}: another evaluation is writing this result now; wait for its end, or choose another --out"
            ) from error
        if path.exists():
            return lock
        lock.release()  # its earlier owner has removed the file between our opening and our locking it
