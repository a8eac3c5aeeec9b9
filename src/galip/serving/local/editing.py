"""Images that clients bring, edited in a process of its own: an inversion takes as long as a thousand images."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from galip.errors import GalipError
from galip.model_repo.export_folder import is_export
from galip.model_repo.resolve import fetch
from galip.serving.http.settings import Settings
from galip.serving.local.process import SpawnedProcess
from galip.serving.model_worker import ModelSpec
from galip.serving.pool import EditRequest, EncodedImage, QueueFullError
from galip.utils.extras import EXTRAS, is_installed

if TYPE_CHECKING:
    from galip.serving.edit_worker import EditWorker

_RETRY_AFTER = 20

_worker: EditWorker | None = None  # of the process that edits


def can_edit(spec: ModelSpec) -> bool:
    """Whether a model can be inverted here: it is no export, and torch is installed."""
    return not is_export(fetch(spec.model)) and all(map(is_installed, EXTRAS["torch"]))


class LocalEditor:
    """Edits images one after the other, in a process that is started for the first of them; see `Editor`.

    Args:
        spec: the model.
        settings: how many may wait, and how long a search is.
    """

    def __init__(self, spec: ModelSpec, settings: Settings) -> None:
        self._spec, self._settings = spec, settings
        self._process = SpawnedProcess()
        self._loaded = False
        self._turn = asyncio.Lock()
        self._asked = 0

    async def edit(self, asked: EditRequest) -> list[EncodedImage]:
        """Generate the images of a request when it is its turn."""
        if self._asked >= self._settings.max_edits:
            raise QueueFullError(_RETRY_AFTER)
        self._asked += 1
        try:
            async with self._turn:
                return await self._edit(asked)
        finally:
            self._asked -= 1

    async def close(self) -> None:
        """End the process."""
        self._process.kill()

    async def _edit(self, asked: EditRequest) -> list[EncodedImage]:
        try:
            if self._process.pid is None or not self._loaded:
                self._loaded = False
                await self._process.spawn()
                await self._process.call(_load, self._spec, self._settings.edit_steps)
                self._loaded = True
            return await self._process.call(_edit, asked)
        except asyncio.CancelledError:  # nobody waits for it any more; it would search to the end
            self._process.kill()
            raise
        except GalipError:
            if not self._loaded:
                self._process.kill()
            raise


def _load(spec: ModelSpec, steps: int) -> None:
    global _worker
    from galip.serving.edit_worker import EditWorker

    _worker = EditWorker(spec, steps)


def _edit(asked: EditRequest) -> list[EncodedImage]:
    assert _worker is not None
    return _worker.edit(asked)
