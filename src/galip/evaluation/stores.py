"""Features on the disk, block by block: what is done stays done, whoever did it, and nothing is held in memory.

A block is 64 images, always the same ones. It is the unit of work, of resuming and of dealing out to processes; so a
network sees the same batches whatever the caller's batch size and number of processes are, and its features are the
same.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from galip.errors import GalipError
from galip.utils.atomic import atomic_file

BLOCK = 64
"""Images in a block; the last one of a set has fewer."""

_WHOLE = "features.npy"


class FeatureStore:
    """The features of N images in one space, in a folder of their own.

    Several processes may fill one store; each block is written under a temporary name first.

    Args:
        folder: made when the first block is saved.
        count: images (N).
        dim: numbers of each.
    """

    def __init__(self, folder: Path, count: int, dim: int) -> None:
        self.folder, self.count, self.dim = folder, count, dim

    @property
    def blocks(self) -> int:
        """How many blocks N images make."""
        return -(-self.count // BLOCK)

    def rows(self, block: int) -> range:
        """The images of a block."""
        return range(block * BLOCK, min((block + 1) * BLOCK, self.count))

    def missing(self) -> list[int]:
        """Blocks that nobody has saved yet."""
        if (self.folder / _WHOLE).exists():
            return []
        there = {path.name for path in self.folder.glob("*.safetensors")}
        return [block for block in range(self.blocks) if self._path(block).name not in there]

    def save(self, block: int, features: NDArray[np.float32]) -> None:
        """Keep the features [n, dim] of a block."""
        assert features.shape == (len(self.rows(block)), self.dim), (features.shape, self.dim)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(self._path(block)) as unfinished:
                save_file({"features": np.ascontiguousarray(features, dtype=np.float32)}, unfinished)
        except OSError as error:
            raise GalipError(f"{self.folder}: features cannot be written ({error.strerror or error})") from error

    def whole(self) -> NDArray[np.float32]:
        """All features [N, dim], mapped from the disk and not read into memory.

        Raises:
            GalipError: a block is missing or damaged.
        """
        path = self.folder / _WHOLE
        if not path.exists():
            try:
                self._assemble(path)
            except GalipError:
                # Another evaluation that shares the folder may have put it together, and removed the blocks.
                if not path.exists():
                    raise
        try:
            features: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise GalipError(f"{path}: damaged ({error}); remove its folder, and evaluate again") from error
        if features.shape != (self.count, self.dim):
            raise GalipError(
                f"{path}: holds {list(features.shape)} numbers instead of {[self.count, self.dim]}; remove its folder, "
                "and evaluate again"
            )
        return features

    def _assemble(self, path: Path) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as unfinished:
                whole = np.lib.format.open_memmap(unfinished, "w+", np.float32, (self.count, self.dim))
                for block in range(self.blocks):
                    rows = self.rows(block)
                    whole[rows.start : rows.stop] = self._load(block)
                whole.flush()
                del whole
        except OSError as error:
            raise GalipError(f"{self.folder}: features cannot be written ({error.strerror or error})") from error
        for block in range(self.blocks):
            self._path(block).unlink(missing_ok=True)

    def _load(self, block: int) -> NDArray[np.float32]:
        path, shape = self._path(block), (len(self.rows(block)), self.dim)
        try:
            features = load_file(path)["features"]
        except (OSError, SafetensorError, KeyError) as error:
            raise GalipError(f"{path}: missing or damaged ({error}); remove it, and evaluate again") from error
        if features.shape != shape:
            raise GalipError(f"{path}: {list(features.shape)} numbers instead of {list(shape)}; remove it")
        return features

    def _path(self, block: int) -> Path:
        return self.folder / f"{block:06d}.safetensors"

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
