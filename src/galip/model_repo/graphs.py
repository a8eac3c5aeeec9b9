"""The graphs that stand in a model folder, from which engines run it without torch.

    graphs.json                what the graphs are, and for which structure of the folder they were made
    generator.onnx             the generator with its transformer
    text_encoder.onnx          the sentence encoder; absent where a model has none
    image_encoder.onnx         the image side of the model's own CLIP

Their weights are references into the folder's safetensors files. So new weights of the same shapes are the graphs'
weights too; with another structure (configurations, or where weights lie in their files) the graphs are of no use and
count as absent.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
from pathlib import Path

from galip.errors import GalipError
from galip.model_repo.export_folder import Manifest, read_manifest
from galip.model_repo.format import INDEX, NETWORKS
from galip.model_repo.weights import weight_files
from galip.utils.untrusted import read_json_object

GRAPHS = "graphs.json"

_AGAIN = "save or fetch it again"
_LARGEST_HEADER = 100_000_000  # bytes; the package safetensors reads no larger ones either


def has_graphs(folder: Path) -> bool:
    """Whether a model folder has graphs that fit it.

    Raises:
        GalipError: the model folder itself is not whole.
    """
    return _find(folder) is not None


def read_graphs(folder: Path) -> Manifest:
    """What a model folder's graphs are.

    Raises:
        GalipError: it has none that fit it, or it is not whole itself.
    """
    found = _find(folder)
    if found is None:
        raise GalipError(f"{folder}: it has no graphs, or they are not its own; galip.export.write_graphs writes them")
    return found


def _find(folder: Path) -> Manifest | None:
    try:
        manifest = read_manifest(folder, GRAPHS)
    except GalipError:
        return None
    return manifest if manifest.structure == structure(folder) else None


def has_links(folder: Path) -> bool:
    """Whether files of a model are links to another place, as in the hub's cache. OpenVINO does not follow those."""
    return any(path.is_symlink() for path in folder.rglob("*"))


def copy_graphs(folder: Path, copy: Path) -> None:
    """Copy the graphs of a model folder into a copy of it.

    Raises:
        GalipError: it has none.
        OSError: they cannot be copied.
    """
    manifest = read_graphs(folder)
    for name in (*manifest.files, *([] if "/" in manifest.tokenizer else [manifest.tokenizer]), GRAPHS):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, copy / name)


def structure(folder: Path) -> str:
    """One hash over all of a model folder that its graphs depend on: everything but the numbers of the weights.

    Returns:
        32 hexadecimal digits of a SHA-256.

    Raises:
        GalipError: the folder is not whole.
    """
    digest = hashlib.sha256()
    digest.update(repr(read_json_object(folder / INDEX, _AGAIN).get("text_scale")).encode())
    for name in NETWORKS:
        part = folder / name
        if name == "text_encoder" and not part.is_dir():
            continue
        try:
            digest.update(f"{name}\0".encode() + (part / "config.json").read_bytes())
        except OSError as error:
            raise GalipError(f"{part / 'config.json'}: it cannot be read ({error.strerror}); {_AGAIN}") from error
        for file in weight_files(part):
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode() + weights_header(file))
    return digest.hexdigest()[:32]


def weights_header(file: Path) -> bytes:
    """The header of a safetensors file, JSON: it begins at byte 8, and the weights begin behind it.

    Raises:
        GalipError: it is damaged.
    """
    try:
        with file.open("rb") as opened:
            (size,) = struct.unpack("<Q", opened.read(8))
            header = opened.read(size) if size <= _LARGEST_HEADER else b""
    except (OSError, struct.error) as error:
        raise GalipError(f"{file}: it cannot be read ({error}); {_AGAIN}") from error
    if len(header) != size:
        raise GalipError(f"{file}: it is damaged or not whole; {_AGAIN}")
    return header
