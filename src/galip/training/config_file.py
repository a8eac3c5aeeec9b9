"""Where a run's configuration comes from: defaults, then the preset, then the file, then the command line.

`load_config` is that pipeline, each layer over the one before it. `RENAMED` lists what version 0.1 called otherwise.
"""

from __future__ import annotations

import copy
import difflib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

import galip
from galip.errors import GalipError, InputError
from galip.training.config import DiscriminatorConfig, GeneratorConfig, TrainConfig
from galip.utils.untrusted import parse_yaml

logger = logging.getLogger(__name__)

RENAMED = {
    "model.generator": "generator",
    "model.discriminator": "discriminator",
    "data.most_broken": "data.max_broken",
    "data.most_broken_shards": "data.max_broken_shards",
    "loss.shift": "augmentation.shift",
    "loss.colour": "augmentation.colour",
    "loss.cutout": "augmentation.cutout",
    "optimizer.warmup": "schedule.warmup",
    "optimizer.decay": "schedule.decay",
    "optimizer.decay_to": "schedule.decay_to",
    "run.seed": "seed",
    "run.images": "schedule.images",
    "run.batch": "schedule.batch",
    "run.micro_batch": "performance.micro_batch",
    "run.precision": "performance.precision",
    "run.device": "performance.device",
    "run.threads": "performance.threads",
    "run.channels_last": "performance.channels_last",
    "run.compile": "performance.compile",
    "run.cuda_graph": "performance.cuda_graph",
    "run.checkpoint_vit": "performance.checkpoint_vit",
    "run.text_cache": "performance.text_cache",
    "run.ema_half_life": "ema.half_life",
    "run.ema_ramp": "ema.ramp",
    "run.log_every": "logging.every",
    "run.checkpoint_every": "checkpoints.every",
    "run.keep": "checkpoints.keep",
    "run.keep_every": "checkpoints.keep_every",
    "run.grid_every": "logging.grid_every",
    "run.grid_captions": "logging.grid_captions",
    "run.grid_seeds": "logging.grid_seeds",
    "run.keep_grids_as": "logging.grid_format",
    "run.trackers": "logging.trackers",
    "evaluation.pictures": "evaluation.images",
    "guard.least_diversity": "guard.min_diversity",
    "guard.least_similarity": "guard.min_similarity",
    "guard.most_margin": "guard.max_margin",
    "guard.most_returns": "guard.max_returns",
}
"""Field of version 0.1 -> its name now. Old names are read, and told, for one more release."""

_PATHS = (
    "model.clip",
    "model.start_from",
    "model.text",
    "model.second_clip",
    "data.source",
    "evaluation.source",
    "evaluation.weights",
)
_COMMAND = "pipe:"
_NAME = re.compile(r"[\w-]+")
_OVERRIDE = "section.field=value, e.g. schedule.batch=16"


def load_config(name: str | Path, overrides: Sequence[str] = (), allow_commands: bool = False) -> TrainConfig:
    """The configuration of a run: the sections' defaults < the preset < the file < the command line.

    Args:
        name: a YAML file, or one of the named configurations ("own", "coco", ...).
        overrides: each "section.field=value", the value in YAML ("schedule.batch=16", "optimizer.betas=[0, 0.99]").
        allow_commands: let the file name a source that is a command ("pipe:...").

    Raises:
        InputError: there is no such file, or an override is malformed.
        GalipError: the file is not a configuration; a field is unknown (with the nearest known name) or a value is
            wrong. The message names file, field and value.
    """
    path = find_config(name)
    tree, renamed = with_new_names(_read(path))
    commands = {} if allow_commands else _commands(tree)
    for override in overrides:
        renamed |= apply_override(tree, override)
        commands.pop(override.partition("=")[0].strip(), None)  # whoever types a command means it
    for field, command in commands.items():
        raise InputError(
            f"{path}: {field} is a command, {command!r}, which would be run; if you trust this file add "
            "--allow-commands"
        )
    if renamed:
        told = ", ".join(f"{old} -> {new}" for old, new in renamed.items())
        logger.warning("%s: names of version 0.1 are read as what they are called now: %s", path, told)
    return parse_config(tree, str(path))


def overridden(tree: dict[str, Any], overrides: Sequence[str], origin: str) -> TrainConfig:
    """The configuration of a tree of plain values, which is changed, with overrides over it; see `load_config`."""
    for override in overrides:
        apply_override(tree, override)
    return parse_config(tree, origin)


def parse_config(tree: dict[str, Any], origin: str) -> TrainConfig:
    """Validate a tree of plain values, names of version 0.1 included, and fill in the preset below it.

    Args:
        tree: section -> field -> value.
        origin: where it comes from, for errors.

    Raises:
        GalipError: it is not a configuration; the message names `origin`, field and value.
    """
    tree, _ = with_new_names(tree)
    for path in _PATHS:
        _expand_home(tree, path)
    try:
        return _over_preset(TrainConfig.model_validate(tree))
    except ValidationError as error:
        raise GalipError("\n".join(f"{origin}: {line}" for line in _explain(error))) from error


def _over_preset(config: TrainConfig) -> TrainConfig:
    """What the configuration leaves open is the preset's, unless a model is trained on: then it is that model's."""
    from galip.models.presets import PRESETS  # brings torch, which an error in the file need not wait for

    if config.model.preset not in PRESETS:
        raise InputError(f"model.preset is {config.model.preset!r}; known: {', '.join(PRESETS)}")
    if config.model.start_from:
        return config
    preset = PRESETS[config.model.preset]
    # A T5 brings its own length of e.
    generator, discriminator = (
        {name: value for name, value in arguments.items() if name != "cond_dim" or not config.model.text}
        for arguments in (preset.generator, preset.discriminator)
    )
    return config.model_copy(
        update={
            "model": config.model.model_copy(update={"clip": config.model.clip or preset.clip}),
            "generator": GeneratorConfig(**(generator | config.generator.given())),
            "discriminator": DiscriminatorConfig(**(discriminator | config.discriminator.given())),
        }
    )


# ---- the file


def named_configs() -> dict[str, Path]:
    """The configurations that come with the package, by name: "coco", "released/coco", ..."""
    package = Path(galip.__file__).parent
    # In an installed package they lie inside it, in a checkout at its root.
    folders = [folder for folder in (package / "configs", package.parents[1] / "configs") if folder.is_dir()]
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for folder in folders[:1]
        for path in sorted(folder.rglob("*.yaml"))
    }


def find_config(name: str | Path) -> Path:
    """The file that a user's word for a configuration means.

    Raises:
        InputError: there is none.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir() and (path / "config.yaml").is_file():
        return path / "config.yaml"
    known = named_configs()
    if str(name) in known:
        return known[str(name)]
    what = "is a folder without a config.yaml" if path.is_dir() else "there is no such file"
    raise InputError(f"{name}: {what}; name a YAML file, or one of {', '.join(known)}")


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise GalipError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise GalipError(f"{path}: not YAML that can be read: {error}") from error
    if not isinstance(tree, dict):
        raise GalipError(f"{path}: holds no `section: ...` mapping; see configs/emoji.yaml for an example")
    return tree


def _commands(tree: dict[str, Any]) -> dict[str, str]:
    """The sources in a file that are shell commands, by field."""
    found = {field: _get(tree, field) for field in ("data.source", "evaluation.source")}
    return {
        field: value
        for field, value in found.items()
        if isinstance(value, str) and value.strip().lower().startswith(_COMMAND)
    }


# ---- overrides and earlier names


def apply_override(tree: dict[str, Any], override: str) -> dict[str, str]:
    """Put one override, "section.field=value", into a tree of plain values.

    Returns:
        The name of version 0.1 that it used, if it did, with the present one.

    Raises:
        InputError: it is malformed.
    """
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not all(_NAME.fullmatch(part) for part in key.split(".")):
        raise InputError(f"override {override!r} is not {_OVERRIDE}")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise InputError(f"override {override!r}: the value is not YAML") from error
    old = next((old for old in RENAMED if key == old or key.startswith(f"{old}.")), None)
    now = key if old is None else RENAMED[old] + key.removeprefix(old)
    *sections, name = now.split(".")
    for number, section in enumerate(sections):
        child = tree.setdefault(section, {})
        if isinstance(child, list):  # the stages: a section for each, by its name
            child = {str(one.get("name")): one for one in child if isinstance(one, dict)}
            if [*sections, name][number + 1] not in child:
                raise InputError(f"override {override!r}: {section} has {', '.join(child) or 'nothing in it'}")
        if not isinstance(child, dict):
            raise InputError(f"override {override!r}: {section} is a value, not a section")
        tree = child
    tree[name] = value
    return {} if old is None else {key: now}


def with_new_names(tree: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A tree with today's names, and which earlier names it used.

    Args:
        tree: section -> field -> value; it is not changed.

    Raises:
        InputError: it has a field under both names.
    """
    tree, used = copy.deepcopy(tree), {}
    for old, new in RENAMED.items():
        section, name = old.split(".")
        holder = tree.get(section)
        if not isinstance(holder, dict) or name not in holder:
            continue
        value = holder.pop(name)
        if not holder:
            del tree[section]
        used[old] = new
        *above, name = new.split(".")
        place = tree
        for part in above:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise InputError(f"{old} is now called {new}, but {part} is a value there, not a section")
        if name in place:
            raise InputError(f"{old} is now called {new}, and both are given; leave out {old}")
        place[name] = value
    if tree.get("run") == {}:
        del tree["run"]
    return tree, used


def _get(tree: Any, path: str) -> Any:
    for part in path.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _expand_home(tree: dict[str, Any], path: str) -> None:
    *above, name = path.split(".")
    holder = _get(tree, ".".join(above))
    if not isinstance(holder, dict):
        return
    value = holder.get(name)
    if isinstance(value, str):
        holder[name] = os.path.expanduser(value)
    elif isinstance(value, dict):
        holder[name] = {key: os.path.expanduser(v) if isinstance(v, str) else v for key, v in value.items()}


# ---- what is wrong, in words


def _explain(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        where = [str(part) for part in problem["loc"]]
        name = ".".join(where) or "the file"
        if problem["type"] == "extra_forbidden":
            if len(where) == 1 and isinstance(problem["input"], dict) and problem["input"]:
                where.append(str(next(iter(problem["input"]))))  # the section does not exist: is it the field's name?
            yield f"unknown field {'.'.join(where)}; {_hint(where)}"
        elif problem["type"] == "missing":
            yield f"{name} is missing; add it to the file or give {name}=... on the command line"
        elif problem["type"] == "value_error":
            yield problem["msg"].removeprefix("Value error, ")
        else:
            yield f"{name} is {_shortened(problem['input'])}: {problem['msg']}"


def _hint(where: list[str]) -> str:
    """What somebody may have meant by a field that does not exist."""
    *section, name = where
    here = _fields(TrainConfig, section)
    if near := difflib.get_close_matches(name, here, n=1):
        return f"did you mean {near[0]}?"
    everywhere = [f"{part}.{field}" for part in _fields(TrainConfig, []) for field in _fields(TrainConfig, [part])]
    same = [field for field in everywhere if field.endswith(f".{name}")]
    near = same or difflib.get_close_matches(".".join(where), [*RENAMED, *everywhere], n=1, cutoff=0.8)
    if near:
        return f"did you mean {RENAMED.get(near[0], near[0])}?"
    return f"known: {', '.join(here or _fields(TrainConfig, []))}"


def _fields(model: type[BaseModel], sections: list[str]) -> list[str]:
    """Names of the fields of a section of `model`, sorted; none where there is no such section."""
    for section in sections:
        field = model.model_fields.get(section)
        kind = None if field is None else field.annotation
        if not isinstance(kind, type) or not issubclass(kind, BaseModel):
            return []
        model = kind
    return sorted(model.model_fields)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
