"""A run's folder: one owner at a time, and what is written into it before the first step."""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from galip.errors import GalipError
from galip.model_repo.resolve import fetch
from galip.training.checkpoint import list_checkpoints
from galip.utils.atomic import clear_folder, write_json, write_text
from galip.utils.provenance import git_revision, versions

logger = logging.getLogger(__name__)

_LOCK, _OWNER = ".lock", ".owner.json"


class RunFolder:
    """The folder of a run.

    Attributes:
        path: the folder; it may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: list[Path] | None = None

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are."""
        return self.path / "checkpoints"

    def check_free(self) -> None:
        """Raise where another process trains in this folder now, and remember which checkpoints are there.

        Raises:
            GalipError: it does.
        """
        if (self.path / _LOCK).exists():
            with self._lock():
                pass
        self._found = list_checkpoints(self.checkpoints)

    @contextmanager
    def owned(self) -> Iterator[None]:
        """While the block runs nobody else can train in this folder; it is made if it is not there.

        Raises:
            GalipError: another process does, or has since `check_free`, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        with self._lock():
            if self._found is not None and list_checkpoints(self.checkpoints) != self._found:
                raise GalipError(f"{self.path}: has got other checkpoints since this run was opened; start it again")
            self._found = None
            try:
                write_json(self.path / _OWNER, {"process": os.getpid(), "machine": platform.node()}, indent=None)
                for folder in (self.path, self.checkpoints, self.path / "grids", self.path / "evaluations"):
                    clear_folder(folder)
            except OSError as error:
                raise self._unwritable(error) from error
            try:
                yield
            finally:
                (self.path / _OWNER).unlink(missing_ok=True)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        lock = FileLock(self.path / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise GalipError(
                f"{self.path}: another run trains in this folder ({self._owner()}); wait for it, stop it, or choose "
                "another --out"
            ) from None
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            yield
        finally:
            lock.release()

    def _owner(self) -> str:
        with suppress(OSError, ValueError, KeyError, TypeError):
            owner = json.loads((self.path / _OWNER).read_text(encoding="utf-8"))
            return f"process {owner['process']} on {owner['machine']}"
        return "of another process"

    def describe(self, config: dict[str, Any], facts: dict[str, Any], start_from: str = "") -> None:
        """Write `config.yaml`, `environment.json`, and `start.json` where the run starts from a model.

        Args:
            config: the resolved configuration as plain values.
            facts: of this run, beside the versions, the machine and the working directory's git revision.
            start_from: the model folder. What its `training.json` says is kept, as the model may be replaced while the
                run goes on, by an export of this very run for example.

        Raises:
            GalipError: the folder cannot be written.
        """
        environment = {
            "versions": versions() | {"python": platform.python_version()},
            "machine": platform.platform(),
            "git_revision": git_revision(),
        }
        try:
            write_text(self.path / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
            write_json(self.path / "environment.json", environment | facts)
            if start_from:
                training = fetch(start_from) / "training.json"
                said = json.loads(training.read_text(encoding="utf-8")) if training.is_file() else {}
                write_json(self.path / "start.json", {"model": start_from, "training": said})
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> GalipError:
        return GalipError(f"{error.filename or self.path}: cannot be written ({error.strerror}); choose another --out")
