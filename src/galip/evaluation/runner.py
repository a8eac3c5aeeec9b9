"""`evaluate`: from a user's words for a model, images and a protocol to a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from galip.distributed import Distributed
from galip.errors import GalipError, InputError
from galip.evaluation.evaluated import Evaluated, EvaluatedImages, EvaluatedModel, digest_of_export, digest_of_model
from galip.evaluation.evaluation import Evaluation
from galip.evaluation.extractors.inception import SIDE
from galip.evaluation.image_sets import ImageSet, open_captioned, open_images
from galip.evaluation.metrics.registry import METRICS
from galip.evaluation.metrics.settings import MetricSettings
from galip.evaluation.protocols import Protocol, get_protocol
from galip.evaluation.protocols.effects import check_effects
from galip.evaluation.protocols.schema import by_field_name
from galip.evaluation.references import References
from galip.evaluation.result import Result
from galip.generation.load import load
from galip.generation.pipeline import TextToImage
from galip.generation.select import AUTO, WITHOUT_TORCH, check_engine, check_fits, engine_for, require_engine
from galip.model_repo.describe import describe
from galip.model_repo.export_folder import is_export
from galip.model_repo.format import INDEX
from galip.model_repo.index import check_model_folder
from galip.model_repo.resolve import bundled_models, fetch
from galip.utils.progress import Progress

_OF_IMAGES = frozenset({"inception_resize", "seed", *MetricSettings.model_fields})
"""Settings of the protocol `images` that may be chosen."""


def open_model(
    model: str | Path,
    *,
    device: Any = None,
    dtype: Any = None,
    batch_size: int = 16,
    truncation: float = 1.0,
    engine: str | None = None,
    precision: str = "fp32",
) -> EvaluatedModel:
    """A model as `Evaluation.run` takes it, in fp32 unless `dtype` or `precision` says otherwise.

    Arguments and errors as for `galip.load`, but for `engine`: None means torch for a model folder, whose images are
    then the same on any hardware. OpenVINO and ONNX Runtime generate on the CPU, whatever `device` is. The precision
    "auto" is refused: a number must not depend on what is fast on a machine.
    """
    if precision == "auto":
        raise InputError("precision auto: what it means depends on the machine, and numbers must not; name one")
    folder = fetch(model)
    how: dict[str, Any] = {"batch_size": batch_size, "truncation": truncation}
    kind = None if precision == "fp32" else precision
    if is_export(folder):
        return EvaluatedModel(
            load(model, engine=engine, precision=kind), str(model), None, digest=digest_of_export(folder), **how
        )
    networks = load(
        model, device=device, dtype=dtype or "float32", engine="compile" if engine == "compile" else "torch"
    )
    pipe: TextToImage = networks
    if engine in (AUTO, *WITHOUT_TORCH):
        chosen = load(model, engine=engine, device=device if engine == AUTO else None)
        pipe = networks if chosen.backend.name == "torch" else chosen  # which `dtype` and `device` are for
    digest = None
    if kind is not None:
        on_device = device if engine not in WITHOUT_TORCH else None
        pipe = load(model, engine=engine or "torch", device=on_device, precision=kind)
        digest = f"{digest_of_model(networks)}-{kind}"
    seen = describe(folder).training.get("images")
    images_seen = int(seen) if isinstance(seen, int | float) else None
    return EvaluatedModel(pipe, str(model), networks, digest=digest, images_seen=images_seen, **how)


def evaluate(
    model: str | Path,
    protocol: Protocol | str = "custom",
    references: References = References(),  # noqa: B008 (frozen)
    *,
    out: Path | None = None,
    batch_size: int = 16,
    engine: str | None = None,
    precision: str = "fp32",
    distributed: Distributed | None = None,
    progress: Progress | None = None,
) -> Result | None:
    """Evaluate a model, or images that were generated earlier.

    Args:
        model: what `galip.load` takes; or captioned images (a folder or shards), which are taken for generated ones.
        protocol: a registered name, or a protocol.
        references: data and networks.
        out: where the result is written, a `.json`; None: nowhere.
        batch_size: images generated at once; it changes speed and memory, no number.
        engine, precision: what generates, and what it computes in, as for `open_model`.
        distributed: the processes that share the work; None: this one.
        progress: told what is done.

    Returns:
        The result; None on processes other than the main one.

    Raises:
        InputError, GalipError: as `Evaluation`, its `run`, and `galip.load`.
    """
    rules = resolved(get_protocol(protocol), references, {}) if isinstance(protocol, str) else protocol
    if out is not None and out.suffix != ".json":
        raise InputError(f"{out}: a result is a .json file; name it so")
    given: ImageSet | None = None
    if rules.captions == "none":
        given = open_images(str(model), "generated images")
    elif is_image_set(model):
        given = _open_given_images(model)
    if given is None:
        _check_can_generate(fetch(model), engine)  # a wrong name must not cost what the networks cost
    elif engine is not None:
        raise InputError(f"engine {engine}: nothing is generated, the images in {model} are there; leave it out")
    elif isinstance(protocol, str) and rules.name == "custom":
        # There is one image of each caption.
        rules = rules.changed(metrics=[name for name in rules.metrics if not METRICS[name].family.several_seeds])
    evaluation = Evaluation(rules, references, distributed, progress)
    evaluated: Evaluated
    if given is not None:
        size = SIDE if rules.native is not None else rules.resolution or _side_of(given)
        evaluated = EvaluatedImages(given, str(model), size, rules.native)
    else:
        device = evaluation.distributed.device
        evaluated = open_model(
            model,
            device=device,
            batch_size=batch_size,
            truncation=rules.truncation,
            engine=engine,
            precision=precision,
        )
    return evaluation.run(evaluated, out)


def _check_can_generate(folder: Path, engine: str | None) -> None:
    check_engine(engine)
    if is_export(folder):
        check_fits(folder, engine_for(folder, engine))
    elif engine in WITHOUT_TORCH:
        require_engine(engine)


def is_image_set(model: str | Path) -> bool:
    """Whether a user's word for a model means images that were generated earlier."""
    if str(model) in bundled_models():
        return False
    path = Path(model)
    return path.suffix == ".tar" or (path.is_dir() and not (path / INDEX).exists() and not is_export(path))


def _open_given_images(model: str | Path) -> ImageSet:
    try:
        return open_captioned(str(model), "generated images")
    except GalipError as error:
        if not Path(model).is_dir():
            raise
        try:
            check_model_folder(Path(model))
        except GalipError as why:
            raise GalipError(f"{why}. Nor are there images generated earlier: {error}") from error
        raise


def _side_of(source: ImageSet) -> int:
    image, _ = source.read(0)
    return min(image.size)


def resolved(
    protocol: Protocol, references: References, changes: Mapping[str, Any], metrics: Sequence[str] = ()
) -> Protocol:
    """A protocol with a user's wishes: only `custom` may be changed, but metrics may be chosen for any.

    `custom` looks at what it is given: with a file of statistics it compares with these, and without data it generates
    the prompts alone. `images` may be told how to resize and how to compute its metrics.

    Args:
        protocol: a registered one.
        references: what is given.
        changes: values of its fields.
        metrics: names of metrics; none: the protocol's own.

    Raises:
        InputError: a named protocol would not be what its name says, a value is out of range, or a setting would do
            nothing.
    """
    changes = by_field_name(changes)
    wanted = dict(changes)
    if protocol.name == "custom":
        if references.reference is not None:
            wanted["reference"] = "statistics"
        if not references.data and references.prompts:
            wanted |= {"captions": "prompts"}
            if references.reference is None:
                wanted |= {"reference": "none"}
                metrics = metrics or [name for name in protocol.metrics if not METRICS[name].family.compares]
        if references.reference is not None and not metrics:
            # The usual kind of statistics, and what needs none.
            metrics = [name for name in protocol.metrics if name == "fid" or not METRICS[name].family.compares]
    elif protocol.name == "images":
        if references.reference is not None:
            wanted["reference"] = "statistics"
            metrics = metrics or ["fid"]
        if other := sorted(changes.keys() - _OF_IMAGES):
            raise InputError(f"protocol images: {other[0]} cannot be set, only {', '.join(sorted(_OF_IMAGES))}")
    elif wanted:
        raise InputError(
            f"protocol {protocol.name} fixes {', '.join(wanted)}: its numbers would not be comparable; use --protocol "
            "custom"
        )
    if metrics:
        wanted["metrics"] = tuple(metrics)
    changed = protocol.changed(**wanted) if wanted else protocol
    check_effects(changed, changes)
    return changed
