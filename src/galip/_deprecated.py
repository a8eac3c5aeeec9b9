"""Names of version 0.1 that have moved: they still work for one release, and warn.

`MODULES` and `NAMES` are the whole list. `install` is called by `galip/__init__.py`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

MODULES = {
    "galip.arguments": "galip.generation.inputs",
    "galip.captions": "galip.generation.prompts",
    "galip.control.pipelines": "galip.latent._old_names",
    "galip.control": "galip.latent",
    "galip.latent.pipelines": "galip.latent._old_names",
    "galip.data.encoding": "galip.data_prep.encoding",
    "galip.data.indexing": "galip.data_prep.indexing",
    "galip.data.inspecting": "galip.data_prep.inspect",
    "galip.data.parallel": "galip.data_prep.parallel",
    "galip.data.pictures": "galip.data.images",
    "galip.data.report": "galip.data_prep.report",
    "galip.data.source": "galip.data.protocol",
    "galip.data.sources": "galip.data_prep",
    "galip.data.unfinished": "galip.data_prep.unfinished",
    "galip.data.writing": "galip.data_prep.writing",
    "galip.evaluation.comparison": "galip.evaluation.report.comparison",
    "galip.evaluation.extractor_clip": "galip.evaluation.extractors.clip",
    "galip.evaluation.extractor_dinov2": "galip.evaluation.extractors.dinov2",
    "galip.evaluation.extractor_inception": "galip.evaluation.extractors.inception",
    "galip.evaluation.extractor_judge": "galip.evaluation.extractors.judge",
    "galip.evaluation.extractor_torchvision": "galip.evaluation.extractors.torchvision",
    "galip.evaluation.metric_clip_score": "galip.evaluation.metrics.clip_score",
    "galip.evaluation.metric_diversity": "galip.evaluation.metrics.diversity",
    "galip.evaluation.metric_fid": "galip.evaluation.metrics.fid",
    "galip.evaluation.metric_kid": "galip.evaluation.metrics.kid",
    "galip.evaluation.metric_mmd": "galip.evaluation.metrics.mmd",
    "galip.evaluation.metric_prdc": "galip.evaluation.metrics.prdc",
    "galip.evaluation.metric_r_precision": "galip.evaluation.metrics.r_precision",
    "galip.evaluation.running": "galip.evaluation.runner",
    "galip.gallery": "galip.utils.image_io",
    "galip.loading": "galip.generation.load",
    "galip.model_folder": "galip.model_repo.index",
    "galip.noise": "galip.generation.noise",
    "galip.outputs": "galip.generation.output",
    "galip.pipeline": "galip.torch_backend.pipeline",
    "galip.processes": "galip.distributed",
    "galip.runtime.caching": "galip.model_repo.cache",
    "galip.runtime.choosing": "galip.generation.select",
    "galip.runtime.compiled": "galip.torch_backend.compiled",
    "galip.runtime.engine_pipeline": "galip.generation.onnx_backend",
    "galip.runtime.engines": "galip.generation.engines",
    "galip.runtime.export_folder": "galip.model_repo.export_folder",
    "galip.runtime.exporting": "galip.export.exporting",
    "galip.runtime.quantizing": "galip.export.quantize",
    "galip.runtime": "galip.generation",
    "galip.serving.cluster": "galip.serving.ray.cluster",
    "galip.training.chance": "galip.training.rng",
    "galip.training.checkpoints": "galip.training.checkpoint",
    "galip.training.objective": "galip.training.losses",
    "galip.training.recording": "galip.training.cuda_graph",
    "galip.training.trainer": "galip.training.loop",
}
"""Old module -> where what it held now lives. A submodule of an old package is looked for under the new one."""

NAMES: dict[str, dict[str, str]] = {
    "galip.latent": {name: f"galip.latent._old_names:{name}" for name in ("draw", "embed", "sizes")},
    "galip.latent.clip": {
        "CLIP": "galip.torch_backend.clip:CLIP",
        "clip_of": "scorer_for",
        "own_clip": "OwnCLIP",
    },
    "galip.latent.speeds": {
        "Look": "Features",
        "look_for": "features_for",
        "look_by": "clip_features",
        "way_lengths": "arc_lengths",
        "share_out": "allocate_frames",
    },
    "galip.generation.load": {
        "DEFAULT_MODEL": "galip.model_repo.resolve:DEFAULT_MODEL",
        "bundled_models": "galip.model_repo.resolve:bundled_models",
        "resolve": "galip.model_repo.resolve:resolve",
        "fetch": "galip.model_repo.resolve:fetch",
        "model_name": "galip.model_repo.resolve:model_name",
        "weights_of": "galip.model_repo.resolve:weights_of",
        "load_clip": "galip.torch_backend.encoders:load_clip",
        "load_t5": "galip.torch_backend.encoders:load_t5",
        "no_progress_bars": "galip.torch_backend.loading:no_progress_bars",
    },
    "galip.model_repo.index": {
        "NETWORKS": "galip.model_repo.format:NETWORKS",
        "INDEX": "galip.model_repo.format:INDEX",
        "ModelFacts": "galip.model_repo.describe:ModelFacts",
        "Part": "galip.model_repo.describe:Part",
        "describe": "galip.model_repo.describe:describe",
        "fingerprint": "galip.model_repo.fingerprint:fingerprint",
        "Tensor": "galip.model_repo.weights:Tensor",
        "read_tensors": "galip.model_repo.weights:read_tensors",
        "stored_dtype": "galip.model_repo.weights:stored_dtype",
    },
    "galip.evaluation": {"Against": "galip.evaluation.references:References"},
    "galip.evaluation.evaluation": {"Against": "galip.evaluation.references:References"},
    "galip.evaluation.extractors": {
        "FeatureExtractor": "galip.evaluation.extractors.registry:FeatureExtractor",
        "FrozenExtractor": "galip.evaluation.extractors.registry:FrozenExtractor",
        "OPENERS": "galip.evaluation.extractors.registry:OPENERS",
        "open_extractor": "galip.evaluation.extractors.registry:open_extractor",
    },
    "galip.evaluation.protocols": {"METRICS": "galip.evaluation.metrics.registry:METRICS"},
    "galip.evaluation.report": {"write_report": "galip.evaluation.report.page:write_report"},
    "galip.utils.video": {"check_film": "check_video", "FASTEST_GIF": "MAX_GIF_FPS"},
    "galip.utils.image_io": {
        "picture_name": "image_name",
        "save_png": "save_image",
        "SHEET_NAME": "galip.utils.contact_sheet:SHEET_NAME",
        "SHEET_LIMIT": "galip.utils.contact_sheet:SHEET_LIMIT",
        "contact_sheet": "galip.utils.contact_sheet:contact_sheet",
        "labelled_grid": "galip.utils.contact_sheet:labelled_grid",
        "sheet_side": "galip.utils.contact_sheet:sheet_side",
    },
    "galip.data.images": {"decode_rgb": "decode_image"},
    "galip.data.protocol": {
        "Pictures": "ImageSource",
        "open_source": "galip.data.open:open_source",
        "expand": "galip.data.patterns:expand",
    },
    "galip.data_prep.base": {"Source": "Listing"},
    "galip.data_prep.encoding": {"PictureOptions": "ImageOptions"},
    "galip.distributed": {"Processes": "Distributed"},
    "galip.training.config": {
        "load_config": "galip.training.config_file:load_config",
        "parse_config": "galip.training.config_file:parse_config",
    },
}
"""Module (new name) -> {old name of something in it: new name, or "module:name" where it moved}."""


def _moved(name: str) -> str | None:
    for old, new in MODULES.items():
        if name == old or name.startswith(old + "."):
            return new + name[len(old) :]
    return None


class _Alias(importlib.abc.Loader):
    """Gives the new module under the old name."""

    def __init__(self, new: str) -> None:
        self.new = new

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        warnings.warn(
            f"{spec.name} is now {self.new}; the old name goes with the next release", DeprecationWarning, stacklevel=2
        )
        new = importlib.import_module(self.new)
        alias = ModuleType(spec.name, new.__doc__)
        alias.__dict__["__path__"] = []  # so that `import old.part` asks the finder below
        alias.__dict__["__getattr__"] = lambda name: getattr(new, name)
        alias.__dict__["__dir__"] = lambda: dir(new)
        return alias

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: the new module has been."""


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of `MODULES` by their old names."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        new = _moved(name)
        if new is None or importlib.util.find_spec(new) is None:
            return None
        return ModuleSpec(name, _Alias(new), is_package=True)


def install() -> None:
    """Let old module names be imported, with a warning."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def renamed(module: str, name: str) -> Any:
    """What a module's old `name` means now, with a warning; for a module's `__getattr__`.

    Raises:
        AttributeError: the module never had this name.
    """
    new = NAMES.get(module, {}).get(name)
    if new is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warnings.warn(f"{module}.{name} is now {new}; the old name goes with the next release", DeprecationWarning, 3)
    home, _, attribute = new.rpartition(":")
    return getattr(importlib.import_module(home or module), attribute)


def renamed_arguments(**names: str) -> Callable[[F], F]:
    """Let a function be called by arguments' old names, with a warning.

    Args:
        names: the new name of each old one.
    """

    def wrap(function: F) -> F:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old, new in names.items():
                if old in kwargs:
                    message = f"{function.__name__}({old}=...) is now {new}=; the old name goes with the next release"
                    warnings.warn(message, DeprecationWarning, stacklevel=2)
                    kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return cast("F", call)

    return wrap
