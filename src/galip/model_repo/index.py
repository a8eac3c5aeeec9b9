"""A model folder's index: what it may name, and whether the folder holds what it names.

Everything is checked here before any library sees the folder: diffusers imports what an index names, and versions
before 0.42.1 run code that lies in the folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from galip._deprecated import renamed
from galip.errors import GalipError
from galip.model_repo.configs import check_fits_weights, read_config
from galip.model_repo.format import (
    CLASSES,
    INDEX,
    NETWORKS,
    OPTIONAL,
    PICKLES,
    PIPELINE_CLASS,
    TOKENIZER,
    TOKENIZER_FILES,
)
from galip.model_repo.weights import read_tensors
from galip.utils.untrusted import read_json_object

_AGAIN = "save or fetch the model again"


def read_index(folder: Path) -> dict[str, Any]:
    """`model_index.json` of a GALIP model.

    Returns:
        Its content. Each part's entry is a pair (library, class) of `format.CLASSES`, or (None, None) where the part is
        absent and may be.

    Raises:
        GalipError: the folder has no index, it cannot be read, belongs to another kind of model, or names a class or a
            module that no GALIP model has; or a part's folder holds code.
    """
    file = folder / INDEX
    if not file.is_file():
        raise GalipError(f"{folder}: {_why_no_index(folder)}")
    index = read_json_object(file, _AGAIN)
    if index.get("_class_name") != PIPELINE_CLASS:
        raise GalipError(f"{folder}: it holds a {_shown(index.get('_class_name'))}, not a {PIPELINE_CLASS}")
    for name, entry in index.items():
        if name not in CLASSES:
            if isinstance(entry, list | dict):
                what = f"{_shown(name)}: {_shown(entry)}"
                raise GalipError(f"{file}: it names {what}, which no GALIP model has; nothing of it was loaded")
            continue
        absent = entry is None or entry == [None, None]
        if absent and name in OPTIONAL:
            index[name] = (None, None)
            continue
        if absent:
            raise GalipError(f"{file}: it does not name the part {name}; {_AGAIN}")
        if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(word, str) for word in entry):
            raise GalipError(f"{file}: {name} is {_shown(entry)}, not a library and a class; {_AGAIN}")
        if tuple(entry) not in CLASSES[name]:
            raise GalipError(
                f"{file}: {name} is {_shown('.'.join(entry))}, which is not a class that a GALIP model may name; "
                "nothing of it was loaded"
            )
        index[name] = (entry[0], entry[1])
        _check_no_code(folder, name)
    if missing := [name for name in CLASSES if name not in index]:
        raise GalipError(f"{file}: it does not name the part {missing[0]}; {_AGAIN}")
    scale = index.get("text_scale")
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < 1e6):
        raise GalipError(f"{file}: text_scale is {_shown(scale)}; a number above 0 is needed, or null")
    return index


def check_model_folder(folder: Path) -> None:
    """Make sure that a folder holds a whole GALIP model, before anything of it is loaded.

    Raises:
        GalipError: it does not; the message names the file and says what to do.
    """
    index = read_index(folder)
    for name in (*NETWORKS, TOKENIZER):
        if index[name][1] is None:
            continue
        if not (folder / name).is_dir():
            raise GalipError(f"{folder}: the part {name}/ is missing; the model is not whole, {_AGAIN}")
        if name == TOKENIZER:
            if not any((folder / name / file).is_file() for file in TOKENIZER_FILES):
                raise GalipError(f"{folder / name}: there is no vocabulary ({', '.join(TOKENIZER_FILES)})")
        else:
            check_fits_weights(folder, name, read_config(folder, name), read_tensors(folder / name))


def _check_no_code(folder: Path, name: str) -> None:
    """diffusers takes a file that has a part's module for its name to be that module."""
    part = folder / name
    if part.is_dir() and (code := sorted(file.name for file in part.iterdir() if file.suffix in (".py", ".pyc"))):
        raise GalipError(f"{part / code[0]}: a model brings no code; nothing of it was loaded")
    if name != TOKENIZER and (part / "config.json").is_file():
        read_config(folder, name)


def _why_no_index(folder: Path) -> str:
    """What the folder may be instead of a model."""
    holds = {path.name for path in folder.iterdir()}
    inside = [path.parent.name for path in sorted(folder.glob(f"*/{INDEX}"))]
    if inside:
        return f"there is no {INDEX}, but there are models inside: did you mean {folder / inside[0]}?"
    if (folder.parent / INDEX).is_file():
        return f"this is a part of a model; give the folder above, {folder.parent}"
    if any("optim" in name for name in holds):
        model = folder.resolve().parent.parent / "model"
        finished = f"the model of its run is {model}" if (model / INDEX).is_file() else "its run has no model yet"
        return (
            f"this is a training checkpoint, from which training goes on, and not a model; {finished}: a run writes "
            "one when it ends, and galip.training.export.export_checkpoint makes one of any checkpoint"
        )
    if "checkpoints" in holds:
        return f"there is no {INDEX}; if this is a training run, it writes its model when it ends"
    if any(Path(name).suffix in PICKLES for name in holds):
        return f"there is no {INDEX}; the GALIP authors' .pth files become a model with `galip convert`"
    return f"there is no {INDEX}, so this is not a model folder"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def __getattr__(name: str) -> Any:
    return renamed(__name__, name)
