"""`evaluate`: from a user's words for a model, pictures and a protocol to a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from galip.data.protocol import ImageSource
from galip.distributed import Distributed
from galip.errors import GalipError, InputError
from galip.evaluation.evaluation import COMPARING, Against, Evaluation, open_pictures
from galip.evaluation.images import Drawn, DrawnByModel, DrawnPictures
from galip.evaluation.protocols import METRICS, Protocol, get_protocol
from galip.evaluation.result import Result
from galip.generation.load import load
from galip.generation.onnx_backend import EnginePipeline
from galip.generation.select import AUTO, WITHOUT_TORCH, check_engine, check_fits, engine_for, require_engine
from galip.model_repo.describe import describe
from galip.model_repo.export_folder import is_export
from galip.model_repo.format import INDEX
from galip.model_repo.index import check_model_folder
from galip.model_repo.resolve import bundled_models, fetch
from galip.torch_backend.pipeline import GALIPPipeline
from galip.utils.progress import Progress


def drawn_by(
    model: str | Path,
    *,
    device: Any = None,
    dtype: Any = None,
    batch_size: int = 16,
    truncation: float = 1.0,
    engine: str | None = None,
) -> DrawnByModel:
    """A model as `Evaluation.run` takes it, in fp32 unless `dtype` says otherwise.

    Arguments and errors as for `galip.load`, but for `engine`: None means torch for a model folder, whose pictures are
    then the same on any hardware. OpenVINO and ONNX Runtime draw on the CPU, whatever `device` is.
    """
    folder = fetch(model)
    how: dict[str, Any] = {"batch_size": batch_size, "truncation": truncation}
    if is_export(folder):
        exported = load(model, engine=engine)
        assert isinstance(exported, EnginePipeline)
        return DrawnByModel(None, str(model), painter=exported, **how)
    painter = None
    if engine in (AUTO, *WITHOUT_TORCH):
        loaded = load(model, engine=engine, device=device if engine == AUTO else None)
        painter = loaded if isinstance(loaded, EnginePipeline) else None
        engine = "torch"
    pipe = load(model, device=device, dtype=dtype or "float32", engine=engine or "torch")
    assert isinstance(pipe, GALIPPipeline)
    seen = describe(folder).training.get("images")
    images = int(seen) if isinstance(seen, int | float) else None
    return DrawnByModel(pipe, str(model), images, painter=painter, engine=engine or "torch", **how)


def evaluate(
    model: str | Path,
    protocol: Protocol | str = "custom",
    against: Against = Against(),  # noqa: B008 (frozen)
    *,
    out: Path | None = None,
    batch_size: int = 16,
    engine: str | None = None,
    processes: Distributed | None = None,
    progress: Progress | None = None,
) -> Result | None:
    """Evaluate a model, or pictures that were drawn earlier.

    Args:
        model: what `galip.load` takes; or captioned pictures (a folder or shards), which are taken for drawn ones.
        protocol: a registered name, or a protocol.
        against: data and networks.
        out: where the result is written, a `.json`; None: nowhere.
        batch_size: pictures drawn at once; it changes speed and memory, no number.
        engine: what draws, as for `drawn_by`.
        processes: those that share the work; None: this one.
        progress: told what is done.

    Returns:
        The result; None on processes other than the main one.

    Raises:
        InputError, GalipError: as `Evaluation`, its `run`, and `galip.load`.
    """
    rules = resolved(get_protocol(protocol), against, {}) if isinstance(protocol, str) else protocol
    if out is not None and out.suffix != ".json":
        raise InputError(f"{out}: a result is a .json file; name it so")
    source = _drawn_earlier(model) if is_pictures(model) else None
    if source is None:
        _check_drawable(fetch(model), engine)  # a wrong name must not cost what the networks cost
    elif engine is not None:
        raise InputError(f"engine {engine}: nothing is drawn, the pictures in {model} are there; leave it out")
    elif isinstance(protocol, str) and rules.name == "custom":
        drawable = [name for name in rules.metrics if METRICS[name].kind != "diversity"]  # one picture a caption
        rules = rules.changed(metrics=drawable)
    evaluation = Evaluation(rules, against, processes, progress)
    drawn: Drawn
    if source is not None:
        drawn = DrawnPictures(source, str(model), rules.resolution or _side_of(source))
    else:
        device = evaluation.processes.device
        drawn = drawn_by(model, device=device, batch_size=batch_size, truncation=rules.truncation, engine=engine)
    return evaluation.run(drawn, out)


def _check_drawable(folder: Path, engine: str | None) -> None:
    check_engine(engine)
    if is_export(folder):
        check_fits(folder, engine_for(folder, engine))
    elif engine in WITHOUT_TORCH:
        require_engine(engine)


def is_pictures(model: str | Path) -> bool:
    """Whether a user's word for a model means pictures that were drawn earlier."""
    if str(model) in bundled_models():
        return False
    path = Path(model)
    return path.suffix == ".tar" or (path.is_dir() and not (path / INDEX).exists() and not is_export(path))


def _drawn_earlier(model: str | Path) -> ImageSource:
    try:
        return open_pictures(str(model), "drawn pictures")
    except GalipError as error:
        if not Path(model).is_dir():
            raise
        try:
            check_model_folder(Path(model))
        except GalipError as why:
            raise GalipError(f"{why}. Nor are there pictures drawn earlier: {error}") from error
        raise


def _side_of(source: ImageSource) -> int:
    picture, _ = source.read(0)
    return min(picture.size)


def resolved(protocol: Protocol, against: Against, changes: Mapping[str, Any], metrics: Sequence[str] = ()) -> Protocol:
    """A protocol with a user's wishes: only `custom` may be changed, but metrics may be chosen for any.

    `custom` looks at what it is given: with a file of statistics it compares with these, and without data it draws the
    prompts alone.

    Raises:
        InputError: a named protocol would not be what its name says, or a value is out of range.
    """
    wanted = dict(changes)
    if protocol.name == "custom":
        if against.reference is not None:
            wanted["reference"] = "statistics"
        if not against.data and against.prompts:
            wanted |= {"captions": "prompts"}
            if against.reference is None:
                wanted |= {"reference": "none"}
                metrics = metrics or [name for name in protocol.metrics if METRICS[name].kind not in COMPARING]
        if against.reference is not None and not metrics:
            # The usual kind of statistics, and what needs none.
            metrics = [name for name in protocol.metrics if name == "fid" or METRICS[name].kind not in COMPARING]
    elif wanted:
        raise InputError(
            f"protocol {protocol.name} fixes {', '.join(wanted)}: its numbers would not be comparable; use --protocol "
            "custom"
        )
    if metrics:
        wanted["metrics"] = tuple(metrics)
    return protocol.changed(**wanted) if wanted else protocol
