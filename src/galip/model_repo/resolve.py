"""From a user's word for a model to its folder: a bundled name, a folder, or a hub id."""

from __future__ import annotations

import os
import re
from importlib import resources
from pathlib import Path
from typing import Any

from galip.errors import GalipError, InputError
from galip.model_repo.export_folder import is_export, read_manifest
from galip.model_repo.fingerprint import fingerprint
from galip.model_repo.format import HUB_FILES, INDEX, TRAINING_FILES
from galip.model_repo.index import check_model_folder

DEFAULT_MODEL = "emoji-64"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?:@[\w./-]+)?")

ModelName = str | os.PathLike[str]
"""A bundled model's name, a model folder, or the hub id of one ("owner/name", "owner/name@revision")."""


def bundled_models() -> dict[str, Path]:
    """The models that come with the package: their folders by name."""
    assets = Path(str(resources.files("galip"))) / "assets"
    return {index.parent.name: index.parent for index in sorted(assets.glob(f"*/{INDEX}"))}


def resolve(model: ModelName) -> Path | str:
    """What a user's word for a model means: the folder of a bundled or local one, or else a hub id.

    Raises:
        InputError: it can be none of these.
    """
    if not isinstance(model, str | os.PathLike) or not os.fspath(model).strip():
        raise InputError(f"model {model!r}: give a bundled model's name, a folder, or a hub id")
    bundled = bundled_models()
    if isinstance(model, str) and model in bundled:
        return bundled[model]
    try:
        path = Path(model).expanduser()
        if path.is_dir():
            return path
        exists = path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, NUL bytes, a home that is nowhere
        raise InputError(f"model {os.fspath(model)[:80]!r}: there can be no such folder ({error})") from None
    if exists:
        hint = "; a GALIP authors' checkpoint becomes a model with `galip convert`" if path.suffix == ".pth" else ""
        raise InputError(f"{path}: this is a file, but a model is a folder with a {INDEX}{hint}")
    if isinstance(model, str) and _HUB_ID.fullmatch(model):
        return model
    raise InputError(
        f"model {os.fspath(model)!r}: there is no such folder and no such bundled model ({_bundled_line()})"
    )


def fetch(
    model: ModelName,
    revision: str | None = None,
    token: str | None = None,
    discriminator: bool = False,
    **options: Any,
) -> Path:
    """The folder of a model; the files of a hub id are downloaded to the hub's cache.

    Args:
        model: the user's word.
        revision: branch, tag or commit on the hub; the word may end in one too, "owner/name@revision".
        token: for the hub, where the model is private; None: the one that `hf auth login` has stored.
        discriminator: fetch what training goes on from as well.
        options: more arguments of `huggingface_hub.snapshot_download`, for a hub id.

    Raises:
        InputError: as for `resolve`, or `revision` is given for a folder, or twice.
        GalipError: the hub has no such model or cannot be reached.
    """
    found = resolve(model)
    if isinstance(found, str):
        name, at, said = found.partition("@")
        if at and revision not in (None, said):
            raise InputError(f"revision {revision!r}: {found} names another one; give one of them")
        files = [*HUB_FILES, *(TRAINING_FILES if discriminator else ())]
        return _download(name, files, revision=revision or said or None, token=token, **options)
    if revision is not None:
        raise InputError(f"revision {revision!r}: {found} is a folder; only models on the hub have revisions")
    return found


def model_name(model: str) -> str:
    """The name that files and clients are told: of a folder only its last part, which tells nothing of the machine.

    Raises:
        InputError: as for `resolve`.
    """
    found = resolve(model)
    return model if isinstance(found, str) else found.resolve().name


def weights_of(model: str) -> str:
    """The name of a model's weights, `fingerprint`, once it is sure that the model is whole.

    Raises:
        GalipError: there is no such model, or it is not whole.
    """
    folder = fetch(model)
    if is_export(folder):
        return read_manifest(folder).weights
    check_model_folder(folder)
    return fingerprint(folder)


def _download(hub_id: str, files: list[str], **options: Any) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    neither = f"there is no folder {hub_id} here, nor a bundled model of that name ({_bundled_line()})"
    try:
        return Path(snapshot_download(hub_id, allow_patterns=files, **options))
    except RepositoryNotFoundError as error:
        raise GalipError(
            f"model {hub_id!r}: {neither}, and the hub knows no such model; "
            "if it is private, log in with `hf auth login`"
        ) from error
    except LocalEntryNotFoundError as error:
        raise GalipError(
            f"model {hub_id!r}: {neither}, and the hub cannot be reached; check the connection (and that "
            "HF_HUB_OFFLINE is not set), or download the model elsewhere and give its folder"
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise GalipError(f"model {hub_id!r}: {neither}, and the hub answers: {error}") from error


def _bundled_line() -> str:
    names = bundled_models()
    return f"bundled: {', '.join(names)}" if names else "this installation bundles none"
