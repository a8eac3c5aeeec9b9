"""An evaluation from its protocol to its result: plan, pictures, features, numbers, and what a reader must know."""

from __future__ import annotations

import copy
import hashlib
import json
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from galip.data.open import open_source
from galip.data.protocol import ImageSource
from galip.data.streaming import StreamedShards
from galip.distributed import Distributed
from galip.errors import GalipError, InputError
from galip.evaluation.bundle import Bundle, bundle_of, read_bundle
from galip.evaluation.extractors.clip import CLIPExtractor
from galip.evaluation.extractors.judge import JudgeExtractor
from galip.evaluation.extractors.registry import FeatureExtractor, open_extractor
from galip.evaluation.features import look_at_pictures, read_captions
from galip.evaluation.images import Drawn, DrawnByModel, DrawnPictures, at_resolution
from galip.evaluation.measure import Seen, measure
from galip.evaluation.memorisation import Memorisation, memorisation
from galip.evaluation.pixel_facts import PixelFacts
from galip.evaluation.plan import Plan, make_plan, plan_of_pictures
from galip.evaluation.protocols import METRICS, Protocol
from galip.evaluation.references import RealFeatures
from galip.evaluation.report.gathering import SHOWN, Shown, keep_files
from galip.evaluation.report.verdicts import look_for_trouble, of_an_export
from galip.evaluation.result import ExtractorUsed, Result, write_result
from galip.evaluation.statistics import read_statistics
from galip.evaluation.stores import FeatureStore
from galip.evaluation.suites import Suite, read_suite
from galip.evaluation.weights import same_network
from galip.model_repo.cache import cache_folder
from galip.models.clip import ClipInput
from galip.torch_backend.pipeline import GALIPPipeline
from galip.utils.progress import Progress, no_progress
from galip.utils.provenance import versions

_OWN = ("own", "released")
_PIXELS = "pixels"
COMPARING = ("frechet", "kernel", "mmd", "manifold")
"""Kinds of metrics that need real pictures."""

_READING = ("alignment", "r_precision")
_MEMORY_SPACES = ("judge", "dinov2", "clip", "inception", "inception-torchvision", "own", "released")
_ABOUT = "evaluation.json"


@dataclass(frozen=True)
class Against:
    """What a model is measured against, and with what.

    Attributes:
        data: captioned real pictures (`galip.data.open.open_source`); empty where the protocol brings its own.
        reference: an .npz with statistics of the reference, for protocols that ask for one.
        training: the pictures that the model was trained on, for the memorisation check; empty: no check.
        prompts: prompt suites by name, or files of prompts, beside the protocol's own.
        weights: of feature networks, by their names; missing ones are the usual ones.
        cache: where features of real pictures are kept; None: `cache_folder()`.
    """

    data: str = ""
    reference: Path | None = None
    training: str = ""
    prompts: tuple[str, ...] = ()
    weights: Mapping[str, str] | None = None
    cache: Path | None = None


class Evaluation:
    """An evaluation that is laid out: data opened, networks loaded, everything checked; `run` takes a model.

    One object serves many models, in training for example: features of real pictures are computed once.

    Args:
        protocol: the rules.
        against: the data and the networks.
        processes: those that share the work; None: this one.
        progress: told what is done; None: nobody.

    Raises:
        InputError: something that the protocol needs is not given, or cannot be.
        GalipError: data or weights that cannot be read.
    """

    def __init__(
        self,
        protocol: Protocol,
        against: Against = Against(),
        processes: Distributed | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.protocol, self.against = protocol, against
        self.processes = processes or Distributed()
        self.progress = progress or no_progress
        self.cache = against.cache or cache_folder()
        self.bundle: Bundle | None = None
        if protocol.reference == "bundle":
            self.bundle = read_bundle(bundle_of(protocol.name))
        self.source = open_pictures(against.data, "--data") if against.data else None
        self.training = open_pictures(against.training, "--training") if against.training else None
        self._check_given()
        self.suites: list[Suite] = [read_suite(name) for name in (*protocol.suites, *against.prompts)]
        listed = self.bundle.listed if self.bundle else ()
        self.plan = make_plan(protocol, self.source, listed, self.suites)
        self.statistics = read_statistics(against.reference) if against.reference else None
        self.extractors = {space: self._extractor(space) for space in protocol.spaces if space not in _OWN}
        for space, extractor in self.extractors.items():
            if self.statistics is not None and space in self._comparing and len(self.statistics.mu) != extractor.dim:
                raise InputError(
                    f"{against.reference}: statistics of features of {len(self.statistics.mu)} numbers; {space} makes "
                    f"{extractor.dim}, so they are another network's"
                )
            extractor.to(self.processes.device)

        self._check_comparable()

    # ---- what is needed

    def _check_comparable(self) -> None:
        """What is compared with needs to be known in the features that it is compared in."""
        if self.statistics is not None and self.statistics.features is None:
            for name in self.protocol.metrics:
                if METRICS[name].kind in COMPARING and METRICS[name].kind != "frechet":
                    raise InputError(
                        f"metric {name} needs the real pictures, and {self.against.reference} holds statistics only; "
                        "leave it out, or --reference"
                    )
        if self.training is not None and self._memory_space is None:
            raise InputError(
                f"--training {self.against.training}: the check needs real pictures that were not trained on, too; "
                "give --data without --reference, or leave it out"
            )

    @property
    def _memory_space(self) -> str | None:
        """Where drawn, real and training pictures are compared: in the best space that knows real ones."""
        spaces = self.protocol.spaces
        if self.source is None or not self.plan.reference:
            held = self.statistics is not None and self.statistics.features is not None
            spaces = ("judge",) if self.bundle is not None else tuple(self._comparing) if held else ()
        known = [space for space in _MEMORY_SPACES if space in spaces and space in self.protocol.spaces]
        return known[0] if known else None

    def _check_given(self) -> None:
        protocol, against = self.protocol, self.against
        if self.bundle is not None and (against.data or against.reference):
            raise InputError(f"protocol {protocol.name} brings its own reference; leave --data and --reference out")
        if protocol.reference == "statistics" and against.reference is None:
            raise InputError(
                f"protocol {protocol.name} compares with statistics: give --reference FILE.npz (arrays mu and sigma)"
            )
        if self.bundle is None and not against.data and protocol.captions != "prompts":
            split = protocol.split or "any, or --prompts alone"
            raise InputError(f"protocol {protocol.name} needs captioned pictures: give --data ({split})")
        if protocol.reference == "none":
            for name in protocol.metrics:
                if METRICS[name].kind in COMPARING:
                    raise InputError(f"metric {name} compares with real pictures: give --data, or leave it out")
        if against.reference is not None and protocol.reference != "statistics" and protocol.name != "custom":
            raise InputError(f"protocol {protocol.name} computes its reference from --data; leave --reference out")
        if self.bundle is not None and (foreign := self._comparing - {"judge"}):
            names = [name for name in protocol.metrics if METRICS[name].space in foreign]
            raise InputError(
                f"protocol {protocol.name} has its judge's features of real pictures only; leave {names[0]} out"
            )
        opened = [space for space in protocol.spaces if space not in (*_OWN, "judge")]
        unknown = set(against.weights or ()) - set(opened)
        if unknown:
            raise InputError(
                f"--weights {sorted(unknown)[0]}=...: no metric of this evaluation opens that network; "
                f"it opens {', '.join(opened) or 'none'}"
            )
        if protocol.reference == "statistics" and len(self._comparing) > 1:
            raise InputError(
                f"--reference {against.reference}: statistics are of one network's features, but metrics of "
                f"{', '.join(sorted(self._comparing))} are asked for; choose with --metrics"
            )

    @property
    def _comparing(self) -> set[str]:
        """Spaces in which drawn and real pictures are compared."""
        return {METRICS[name].space for name in self.protocol.metrics if METRICS[name].kind in COMPARING}

    def _extractor(self, space: str) -> FeatureExtractor:
        if space == "judge":
            if self.bundle is None:
                names = ", ".join(name for name, metric in METRICS.items() if metric.space == "judge")
                raise InputError(f"the judge belongs to protocol emoji64; leave its metrics out ({names})")
            return JudgeExtractor(self.bundle.judge, self.bundle.texts)
        return open_extractor(space, (self.against.weights or {}).get(space))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The resolved protocol with everything else that fixes the numbers."""
        extra: dict[str, Any] = {
            "suites": [{"name": s.name, "version": s.version, "digest": s.digest} for s in self.suites],
            "spaces": {name: METRICS[name].space for name in self.protocol.metrics},
        }
        if self.bundle is not None:
            extra["bundle"] = self.bundle.digest
        if self.against.reference is not None:
            extra["reference_file"] = hashlib.sha256(self.against.reference.read_bytes()).hexdigest()[:16]
        return self.protocol.model_dump(mode="json") | extra

    @property
    def digest(self) -> str:
        """Of the settings, but for texts and the choice of metrics. A result has the size in it that was used."""
        return _digest_of(self.settings)

    @property
    def data_digest(self) -> str:
        """Of the real pictures, or of the captions where there are none."""
        if self.bundle is not None:
            return self.bundle.digest
        return self.source.digest[:16] if self.source is not None else self.plan.digest

    # ---- the work

    def run(self, drawn: Drawn, out: Path | None = None, replace: bool = False) -> Result | None:
        """Evaluate a model.

        What is done is kept in the folder `out` with the suffix `.work` until the result is written; a second call with
        the same arguments goes on there.

        Args:
            drawn: the model, or pictures drawn earlier.
            out: where the main process writes the result, and the folder of pictures beside it; None: nowhere, and the
                work is done in a temporary folder.
            replace: whether another evaluation's unfinished work in that place is thrown away.

        Returns:
            The result, on the main process; None on the others.

        Raises:
            InputError: the protocol does not fit the model.
            GalipError: a picture is broken, data cannot be read, or the folder holds another evaluation.
        """
        started = time.monotonic()
        plan = self.plan
        if isinstance(drawn, DrawnByModel) and drawn.truncation != self.protocol.truncation:
            raise InputError(
                f"{drawn.name} is drawn with truncation {drawn.truncation}, but protocol {self.protocol.name} says "
                f"{self.protocol.truncation}"
            )
        if isinstance(drawn, DrawnPictures):
            if self.suites:
                raise InputError(f"{drawn.name}: pictures drawn earlier have their own captions; leave --prompts out")
            plan = plan_of_pictures(self.protocol, drawn.source, self.source)
        resolution = self.protocol.resolution or drawn.size
        extractors = self.extractors | self._own_extractors(drawn)
        settings = self.settings | {"resolution": resolution}
        about = {
            "settings": _digest_of(settings),
            "model": drawn.digest,
            "engine": drawn.engine,
            "data": self.data_digest,
            "plan": plan.digest,
            "networks": {space: _digest_of_both_sides(extractor) for space, extractor in sorted(extractors.items())},
        }
        work = self.processes.from_main(lambda: self._work_folder(about, out, replace))
        result, done = None, False
        try:
            texts = self._read(plan, extractors, work)
            pictures = self._draw(drawn, plan, resolution, extractors, work)
            real, training = self._real(plan, resolution, extractors)
            if self.processes.is_main:
                result = self._conclude(
                    drawn, plan, extractors, texts, pictures, real, training, settings, out, started
                )
            done = True
        finally:
            # What is half done stays where the same command finds it again.
            if self.processes.is_main and (done or out is None):
                shutil.rmtree(work, ignore_errors=True)
        self.processes.wait()
        return result

    def _own_extractors(self, drawn: Drawn) -> dict[str, FeatureExtractor]:
        spaces = [space for space in self.protocol.spaces if space in _OWN]
        if not spaces:
            return {}
        pipe = drawn.pipe if isinstance(drawn, DrawnByModel) else None
        if pipe is None or pipe.config.text_scale is not None or pipe.text_encoder is None:
            names = ", ".join(name for name in self.protocol.metrics if METRICS[name].space in spaces)
            raise InputError(f"{drawn.name} has no CLIP of its own that reads captions; leave {names} out")
        device = self.processes.device
        return {space: own_clip(pipe, drawn.name, released=space == "released").to(device) for space in spaces}

    @staticmethod
    def _work_folder(about: dict[str, Any], out: Path | None, replace: bool) -> Path:
        if out is None:
            return Path(tempfile.mkdtemp(prefix="galip-evaluation-"))
        folder = out.with_suffix(".work")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / _ABOUT
            if path.exists():
                there = json.loads(path.read_text(encoding="utf-8"))
                other = sorted(name for name in about if there.get(name) != about[name])
                if other and replace:
                    shutil.rmtree(folder)
                    folder.mkdir()
                elif other:
                    raise GalipError(
                        f"{folder}: holds an unfinished evaluation with other {', '.join(other)}; remove it, or choose "
                        "another --out"
                    )
            if not path.exists():
                unfinished = folder / f".{_ABOUT}"
                unfinished.write_text(json.dumps(about), encoding="utf-8")
                unfinished.replace(path)
        except (OSError, ValueError) as error:
            raise GalipError(f"{folder}: cannot be used ({error}); remove it, or choose another --out") from error
        return folder

    def _read(self, plan: Plan, extractors: Mapping[str, FeatureExtractor], work: Path) -> dict[str, FeatureStore]:
        """Vectors of the captions, in every space whose metrics read."""
        spaces = {METRICS[name].space for name in self.protocol.metrics if METRICS[name].kind in _READING}
        captions = [row.caption for row in plan.asked]
        reading: dict[str, Any] = {}
        for space in sorted(spaces):
            extractor = extractors[space]
            reading[space] = (extractor, FeatureStore(work / f"captions-{space}", len(captions), extractor.dim))
        read_captions(captions, reading, self.processes, self.progress)
        return {space: store for space, (_, store) in reading.items()}

    def _draw(
        self,
        drawn: Drawn,
        plan: Plan,
        resolution: int,
        extractors: Mapping[str, FeatureExtractor],
        work: Path,
    ) -> dict[str, FeatureStore]:
        looking = {
            space: (extractor, FeatureStore(work / f"drawn-{space}", len(plan.asked), extractor.dim))
            for space, extractor in [*extractors.items(), (_PIXELS, PixelFacts())]
        }

        def pictures(rows: range) -> Tensor:
            asked = plan.asked[rows.start : rows.stop]
            return at_resolution(drawn.draw(asked), resolution, self.protocol.quantise)

        look_at_pictures(pictures, looking, self.processes, self.progress, "drawing")
        return {space: store for space, (_, store) in looking.items()}

    def _real(
        self, plan: Plan, resolution: int, extractors: Mapping[str, FeatureExtractor]
    ) -> tuple[dict[str, FeatureStore], dict[str, FeatureStore]]:
        """Features of the reference set, and of the training pictures, by space."""
        real: dict[str, FeatureStore] = {}
        if self.source is not None and plan.reference:
            looking = {**extractors, _PIXELS: PixelFacts()}
            features = RealFeatures(self.source, plan.reference, resolution, self.cache)
            real = features.compute(looking, self.processes, self.progress, "real pictures")
        training: dict[str, FeatureStore] = {}
        if self.training is not None:
            space = self._memory_space
            assert space is not None  # as was checked
            features = RealFeatures(self.training, range(len(self.training)), resolution, self.cache)
            training = features.compute({space: extractors[space]}, self.processes, self.progress, "training pictures")
        return real, training

    # ---- the numbers

    def _conclude(
        self,
        drawn: Drawn,
        plan: Plan,
        extractors: Mapping[str, FeatureExtractor],
        texts: Mapping[str, FeatureStore],
        pictures: Mapping[str, FeatureStore],
        real: Mapping[str, FeatureStore],
        training: Mapping[str, FeatureStore],
        settings: dict[str, Any],
        out: Path | None,
        started: float,
    ) -> Result:
        seen = {
            space: self._seen(space, plan, pictures[space], texts.get(space), real.get(space)) for space in extractors
        }
        names = len(self.protocol.metrics)
        done = iter(range(names))
        measured = measure(self.protocol, plan, seen, lambda name: self.progress("metrics", next(done), names))
        self.progress("metrics", names, names)
        memorised = self._memory(plan, seen, training)
        own = {space for space in extractors if space in _OWN or self._is_own(extractors[space], drawn)}
        facts = real[_PIXELS].whole() if _PIXELS in real else self.bundle.facts if self.bundle else None
        flags = look_for_trouble(self.protocol, plan, pictures[_PIXELS].whole(), facts, seen, measured, own, memorised)
        if isinstance(drawn, DrawnByModel) and drawn.pipe is None:
            flags += of_an_export(space for space, made_by in extractors.items() if isinstance(made_by, CLIPExtractor))
        result = Result(
            protocol=self.protocol.name,
            protocol_digest=_digest_of(settings),
            settings=settings,
            model=drawn.name,
            model_digest=drawn.digest,
            images_seen=drawn.images_seen,
            data=self.against.data or self.protocol.name,
            data_digest=self.data_digest,
            n_drawn=len(plan.compared),
            n_reference=self._reference_count(seen),
            metrics=measured.metrics,
            floors=measured.floors,
            groups=measured.groups,
            group_floors=measured.group_floors,
            extractors={
                space: ExtractorUsed(weights=extractor.weights, digest=_digest_of_both_sides(extractor))
                for space, extractor in extractors.items()
            },
            versions={"python": platform.python_version()} | versions(),
            machine=_machine(self.processes, drawn.engine),
            seed=self.protocol.seed,
            seconds=time.monotonic() - started,
            flags=flags,
        )
        if out is not None:
            shown = Shown(self.protocol, plan, drawn, self.source, self.training, settings["resolution"])
            keep_files(out, shown, measured, memorised)
            write_result(out, result)
        return result

    def _seen(
        self, space: str, plan: Plan, pictures: FeatureStore, texts: FeatureStore | None, real: FeatureStore | None
    ) -> Seen:
        seen = Seen(pictures.whole(), None if texts is None else texts.whole())
        if real is not None:
            seen.reference = seen.real = real.whole()
            place = {record: row for row, record in enumerate(plan.reference)}
            seen.real_row = [-1 if row.record is None else place.get(row.record, -1) for row in plan.asked]
        elif self.bundle is not None and space == "judge":
            seen.reference, seen.statistics = self.bundle.reference.features, self.bundle.reference
            seen.real, seen.apart = self.bundle.real, True
            known = [bool(np.isfinite(row).all()) for row in self.bundle.real]
            listed = len(self.bundle.listed)
            seen.real_row = [n if n < listed and known[n] else -1 for n in range(len(plan.asked))]
        elif self.statistics is not None and space in self._comparing:
            seen.statistics, seen.reference = self.statistics, self.statistics.features
        return seen

    def _reference_count(self, seen: Mapping[str, Seen]) -> int | None:
        for here in seen.values():
            if here.reference is not None:
                return len(here.reference)
            if here.statistics is not None:
                return here.statistics.count
        return None

    def _memory(
        self, plan: Plan, seen: Mapping[str, Seen], training: Mapping[str, FeatureStore]
    ) -> Memorisation | None:
        for space, store in training.items():
            here = seen[space]
            held_out = here.reference
            if held_out is None:
                return None
            compared = [row.number for row in plan.compared]
            return memorisation(here.drawn[compared], held_out, store.whole(), count=min(SHOWN, store.count))
        return None

    @staticmethod
    def _is_own(extractor: FeatureExtractor, drawn: Drawn) -> bool:
        if not isinstance(extractor, CLIPExtractor) or not isinstance(drawn, DrawnByModel) or drawn.pipe is None:
            return False
        return same_network(extractor.network.model, drawn.pipe.vision_encoder)


def _digest_of(settings: dict[str, Any]) -> str:
    """Of settings, but for texts and the choice of metrics."""
    free = ("name", "about", "split", "metrics", "spaces")
    fixed = {name: value for name, value in settings.items() if name not in free}
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:16]


def _digest_of_both_sides(extractor: FeatureExtractor) -> str:
    """An extractor's digest, with that of its text side where it has one that can be another."""
    text = getattr(extractor, "text_digest", None)
    return extractor.digest if text is None else hashlib.sha256(f"{extractor.digest} {text}".encode()).hexdigest()[:16]


def open_pictures(name: str, called: str) -> ImageSource:
    """Captioned pictures that can be read in any order.

    Args:
        name: what `galip.data.open.open_source` takes.
        called: what an error calls them.

    Raises:
        InputError: they are streamed.
        GalipError: as `open_source`.
    """
    source = open_source(name)
    if isinstance(source, StreamedShards):
        raise InputError(
            f"{called} {name}: streamed shards have no order and no number; download them, and name the folder"
        )
    return source


def own_clip(pipe: GALIPPipeline, name: str, released: bool) -> CLIPExtractor:
    """The CLIP that a model looks through, as an extractor: what it sees of a score flatters the model.

    Args:
        pipe: the model.
        name: what it is called.
        released: pictures enter as in the release; False: as the model was trained with them.
    """
    text, vision = pipe.text_encoder, pipe.vision_encoder
    assert text is not None
    if text.dtype != torch.float32 or vision.dtype != torch.float32:
        text, vision = copy.deepcopy(text), copy.deepcopy(vision)  # an extractor makes them fp32 in place
    clip_input: ClipInput = "released" if released else pipe.generator.config.clip_input
    return CLIPExtractor(name, pipe.tokenizer, text, vision, clip_input)


def _machine(processes: Distributed, engine: str) -> dict[str, str | int | float]:
    """What computed: none of it should change a number by more than rounding.

    Args:
        processes: that shared the work, and their device.
        engine: what generated; empty where the images were there already.
    """
    device = processes.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    found: dict[str, str | int | float] = {
        "system": platform.platform(),
        "device": f"{device.type} ({name})",
        "processes": processes.world,
        "threads": torch.get_num_threads(),
    }
    return found | {"engine": engine} if engine else found
