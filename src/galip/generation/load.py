"""`galip.load`: a bundled name, a folder or a hub id -> a pipeline that draws.

torch and diffusers are imported only when a model of theirs is loaded: an exported model, or one that has been
converted for its engine before, does without them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from galip.errors import GalipError, InputError
from galip.generation.inputs import positive_int
from galip.generation.select import AUTO, WITHOUT_TORCH, check_engine, choose, require_engine
from galip.model_repo.cache import cached
from galip.model_repo.export_folder import MANIFEST, Kind, is_export, read_manifest
from galip.model_repo.folder import INDEX, NETWORKS, check_model_folder, fingerprint, read_tensors, stored_dtype

if TYPE_CHECKING:
    import torch
    from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection, T5EncoderModel

    from galip.generation.onnx_backend import EnginePipeline
    from galip.torch_backend.pipeline import GALIPPipeline

DEFAULT_MODEL = "emoji-64"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


@overload
def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    engine: Literal["torch", "compile"] | None = None,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
) -> GALIPPipeline: ...
@overload
def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    engine: str | None,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
) -> GALIPPipeline | EnginePipeline: ...
def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    engine: str | None = None,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
) -> GALIPPipeline | EnginePipeline:
    """Load a model, ready to draw.

    The declared types speak of model folders; an exported folder gives an `EnginePipeline` whatever `engine` is.

    Args:
        model: a bundled model's name, a model folder, or the hub id of one ("owner/name"), looked for in this order. A
            folder from `galip export` is loaded by the engine that it was made for.
        device: where to draw, "cuda", "cpu", ...; None: a GPU if there is one, else the CPU.
        dtype: type of the weights, for example "bfloat16"; None: fp32 on a CPU, elsewhere as they are stored.
        engine: what runs the model. "torch", also meant by None, or "compile" (torch.compile, with CUDA graphs on a
            GPU) give a `GALIPPipeline`; "openvino" and "onnxruntime", on the CPU, give an `EnginePipeline` with the
            same call and the same pictures: the model is converted the first time and kept in the user's cache. "auto":
            the fastest of them that is installed and fits the device.
        threads: CPU threads; None: the engine's own choice. torch's are those of the whole process.
        say: is told, in a line, what takes long or goes another way than was asked for; None: standard error is.

    Raises:
        InputError: there is no such engine, device or dtype, or they do not fit each other or the model.
        GalipError: there is no such model, or it is not whole, or the engine is not installed; the message says what to
            do.
    """
    check_engine(engine)
    if threads is not None:
        positive_int("threads", threads)
    folder = fetch(model)
    exported = is_export(folder)
    if not exported:
        check_model_folder(folder)
    asked, tell = engine, say or _to_stderr
    if engine == AUTO:
        engine = "torch" if dtype is not None else choose(folder, None if device is None else str(device)).engine
    if exported or engine in WITHOUT_TORCH:
        check_fits_engine(folder, engine, device, dtype)
        try:
            return _load_engine(folder, str(model), engine, threads, tell)
        except GalipError as error:
            if exported or asked != AUTO:
                raise
            tell(f"{engine} cannot be used, drawing with torch instead: {error}")
            engine = "torch"

    place = _device(device)
    kind = _dtype(dtype, folder, on_cpu=place.type == "cpu")
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    pipeline = _load_pipeline(folder, kind)
    try:
        pipeline.to(place)
    except RuntimeError as error:
        raise GalipError(f"{model} cannot be moved to {place}: {error}") from error
    if engine == "compile":
        from galip.torch_backend.compiled import compile_pipeline

        compile_pipeline(pipeline)
    return pipeline


def resolve(model: str | os.PathLike[str]) -> Path | str:
    """What a user's word for a model means: the folder of a bundled or local one, or else a hub id.

    Raises:
        InputError: it can be none of these.
    """
    if not isinstance(model, str | os.PathLike) or not os.fspath(model).strip():
        raise InputError(f"model {model!r}: give a bundled model's name, a folder, or a hub id")
    bundled = bundled_models()
    if isinstance(model, str) and model in bundled:
        return bundled[model]
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        hint = "; a GALIP authors' checkpoint becomes a model with `galip convert`" if path.suffix == ".pth" else ""
        raise InputError(f"{path}: this is a file, but a model is a folder with a {INDEX}{hint}")
    if isinstance(model, str) and _HUB_ID.fullmatch(model):
        return model
    raise InputError(
        f"model {os.fspath(model)!r}: there is no such folder and no such bundled model ({_bundled_line()})"
    )


def load_clip(name: str) -> tuple[Any, CLIPTextModelWithProjection, CLIPVisionModelWithProjection]:
    """The parts of a CLIP that GALIP is trained with: tokenizer, text model and vision model, in fp32.

    Args:
        name: a folder with a CLIP in transformers' format, a galip model folder, or a hub id.

    Raises:
        GalipError: it cannot be loaded, or weights are missing in it.
    """
    from transformers import AutoTokenizer, CLIPTextModelWithProjection, CLIPVisionModelWithProjection
    from transformers.utils import logging

    folder = Path(name)
    inside = {"tokenizer": "", "text_encoder": "", "vision_encoder": ""}
    if (folder / INDEX).exists():  # a galip model keeps each part in a folder of its own
        inside = {part: part for part in inside}
    places = {part: str(folder / below) if folder.is_dir() else name for part, below in inside.items()}
    kinds = {"text_encoder": CLIPTextModelWithProjection, "vision_encoder": CLIPVisionModelWithProjection}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # or each half of a CLIP complains of the other half's weights
    networks: dict[str, Any] = {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(places["tokenizer"])
        for part, kind in kinds.items():
            network, facts = kind.from_pretrained(places[part], use_safetensors=True, output_loading_info=True)
            if facts["missing_keys"]:
                raise ValueError(f"no weights for {', '.join(sorted(facts['missing_keys'])[:3])} ...")
            networks[part] = network.float()
    except (OSError, ValueError, KeyError) as error:
        raise GalipError(
            f"{name}: no CLIP could be loaded from it; give a folder with config.json, model.safetensors and the "
            f"tokenizer's files, or a hub id that can be reached ({str(error).splitlines()[0]})"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    return tokenizer, networks["text_encoder"], networks["vision_encoder"]


def load_t5(name: str) -> tuple[Any, T5EncoderModel]:
    """A T5's tokenizer and encoder, in fp32.

    Args:
        name: a folder in transformers' format, a galip model folder that is conditioned by a T5, or a hub id.

    Raises:
        GalipError: it cannot be loaded, or weights are missing in it.
    """
    from transformers import AutoTokenizer, T5EncoderModel

    folder = Path(name)
    inside = (folder / INDEX).exists()
    places = [str(folder / part) if inside else name for part in ("tokenizer", "text_encoder")]
    try:
        tokenizer = AutoTokenizer.from_pretrained(places[0])
        network, facts = T5EncoderModel.from_pretrained(places[1], use_safetensors=True, output_loading_info=True)
        if facts["missing_keys"]:
            raise ValueError(f"no weights for {', '.join(sorted(facts['missing_keys'])[:3])} ...")
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise GalipError(
            f"{name}: no T5 could be loaded from it; give a folder with config.json, model.safetensors and the "
            f"tokenizer's files, or a hub id that can be reached ({str(error).splitlines()[0]})"
        ) from error
    return tokenizer, network.float()


def model_name(model: str) -> str:
    """The name that files and clients are told: of a folder only its last part, which tells nothing of the machine.

    Raises:
        InputError: as `resolve`.
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


def bundled_models() -> dict[str, Path]:
    """The models that come with the package: their folders by name."""
    assets = Path(str(resources.files("galip"))) / "assets"
    return {index.parent.name: index.parent for index in sorted(assets.glob(f"*/{INDEX}"))}


def fetch(model: str | os.PathLike[str]) -> Path:
    """`resolve`, with a hub id's files downloaded to the hub's cache: no pickles, and not the discriminator.

    Raises:
        InputError: as for `resolve`.
        GalipError: the hub has no such model or cannot be reached.
    """
    found = resolve(model)
    return found if isinstance(found, Path) else _download(found)


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    wanted = [INDEX, "README.md", "training.json", *(f"{part}/*" for part in (*NETWORKS, "tokenizer"))]
    wanted += [MANIFEST, "tokenizer.json", "*.onnx", "*.onnx.data"]
    wanted += [f"{part}.{end}" for part in ("generator", "text_encoder") for end in ("xml", "bin")]  # OpenVINO's
    pickles = ["*/*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5"]
    neither = f"there is no folder {hub_id} here, nor a bundled model of that name ({_bundled_line()})"
    try:
        return Path(snapshot_download(hub_id, allow_patterns=wanted, ignore_patterns=pickles))
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


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def check_fits_engine(folder: Path, engine: str | None, device: Any = None, dtype: Any = None) -> None:
    """Refuse what only torch can do, before anything is converted.

    Args:
        folder: an exported model; or a model, with an engine that needs no torch.
        engine: as for `load`.
        device: as for `load`.
        dtype: as for `load`.

    Raises:
        InputError: they do not fit each other.
    """
    name = engine or "an exported model"
    if is_export(folder) and engine in ("torch", "compile"):
        raise InputError(f"{folder}: this model is exported, which {engine} cannot run; give the one it was made from")
    if device is not None and str(device) != "cpu":
        raise InputError(f"device {str(device)!r}: {name} runs on the CPU; use device cpu, or the engine torch")
    if dtype is not None:
        raise InputError(f"dtype {str(dtype)!r}: {name} has its own; export the model with --precision, or use torch")


def _load_engine(
    folder: Path, name: str, engine: str | None, threads: int | None, say: Callable[[str], None]
) -> EnginePipeline:
    """An exported model, or an ordinary one that is converted unless it has been before."""
    from galip.generation.onnx_backend import EnginePipeline

    if is_export(folder):
        return EnginePipeline(folder, engine, threads)
    kind: Kind = "openvino" if engine == "openvino" else "onnx"

    def convert(out: Path) -> None:
        import torch

        from galip.export.exporting import Source, export

        say(f"converting {name} for {engine}; this is done once and kept in {out.parent}")
        export(_load_pipeline(folder, torch.float32), Source(Path(name).name, folder), out, kind)

    require_engine(str(engine))
    return EnginePipeline(cached(folder, kind, convert), engine, threads)


def _load_pipeline(folder: Path, dtype: torch.dtype) -> GALIPPipeline:
    from galip.torch_backend.pipeline import GALIPPipeline

    try:
        with no_progress_bars():
            pipeline = GALIPPipeline.from_pretrained(folder, dtype=dtype)
    except GalipError as error:
        raise GalipError(f"{folder}: {error}") from error
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError) as error:
        # What the libraries raise at a configuration or at weights that do not belong together.
        raise GalipError(f"{folder}: the model cannot be loaded: {error}") from error
    for name in NETWORKS:
        if getattr(pipeline, name) is not None:
            _check_complete(getattr(pipeline, name), folder / name)
    return pipeline


def _check_complete(network: torch.nn.Module, part: Path) -> None:
    """The libraries only log a warning where weights are missing, and draw with random ones."""
    stored = read_tensors(part)
    names: dict[int, list[str]] = {}
    for name, weight in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(weight), []).append(name)  # tied weights are stored under one of their names
    missing = [group[0] for group in names.values() if not any(name in stored for name in group)]
    if missing:
        raise GalipError(
            f"{part}: {len(missing)} weights are missing ({', '.join(missing[:3])}{', ...' if missing[3:] else ''}); "
            "the model is not whole, save or fetch it again"
        )


def _device(device: str | torch.device | None) -> torch.device:
    import torch

    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError):
        raise InputError(f"device {device!r}: there is no such device, use cpu, cuda, cuda:1, mps, ...") from None
    if place.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {str(device)!r}: torch finds no CUDA device on this machine, use cpu")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {str(device)!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    return place


def _dtype(dtype: str | torch.dtype | None, folder: Path, on_cpu: bool) -> torch.dtype:
    import torch

    known = {name: getattr(torch, name) for name in _DTYPES.values()}
    if dtype is None:
        kind: Any = torch.float32 if on_cpu else known[_DTYPES.get(stored_dtype(folder), "float32")]
    else:
        kind = dtype if isinstance(dtype, torch.dtype) else known.get(dtype)
    if kind not in known.values():
        raise InputError(f"dtype {dtype!r}: use one of {', '.join(known)}")
    return kind


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep the libraries' bars away: a model of this size is there before they are drawn."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    shown = [log for log in (diffusers_logging, transformers_logging) if log.is_progress_bar_enabled()]
    for log in shown:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in shown:
            log.enable_progress_bar()


def _bundled_line() -> str:
    names = bundled_models()
    return f"bundled: {', '.join(names)}" if names else "this installation bundles none"
