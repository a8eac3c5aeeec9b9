"""An evaluation from its protocol to its result: plan, images, features, numbers, and what a reader must know."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from galip import _deprecated
from galip.distributed import Distributed
from galip.errors import InputError
from galip.evaluation.bundle import Bundle, bundle_of, read_bundle
from galip.evaluation.checks import check_given, check_statistics, memory_space
from galip.evaluation.evaluated import Evaluated
from galip.evaluation.extracted import Extracted, feature_set
from galip.evaluation.extractors.clip import CLIPExtractor
from galip.evaluation.extractors.for_protocol import open_for
from galip.evaluation.extractors.judge import JudgeExtractor
from galip.evaluation.extractors.protocol import FeatureExtractor
from galip.evaluation.features import encode_captions, extract_features
from galip.evaluation.image_sets import open_captioned, open_images
from galip.evaluation.images import at_resolution
from galip.evaluation.measure import measure
from galip.evaluation.memorisation import Memorisation, memorisation
from galip.evaluation.metrics.registry import METRICS, OWN_SPACES
from galip.evaluation.metrics.task import FeatureSet
from galip.evaluation.pixel_facts import PixelFacts
from galip.evaluation.plan import Plan
from galip.evaluation.planning import make_plan, plan_of_images
from galip.evaluation.protocols.schema import Protocol, digest_of_settings
from galip.evaluation.real_features import RealFeatures
from galip.evaluation.references import References
from galip.evaluation.report.artifacts import NEAREST_SHOWN, ArtifactImages, write_artifacts
from galip.evaluation.report.flags import export_flags, quality_flags
from galip.evaluation.result import ExtractorUsed, Result, write_result
from galip.evaluation.statistics import read_statistics
from galip.evaluation.stores import FeatureStore
from galip.evaluation.suites import Suite, read_suite
from galip.evaluation.work_folder import WorkFolder
from galip.model_repo.cache import cache_folder
from galip.utils.progress import Progress, no_progress
from galip.utils.provenance import versions

_PIXELS = "pixels"


class Evaluation:
    """An evaluation that is laid out: data opened, networks loaded, everything checked; `run` takes a model.

    One object serves many models, in training for example: features of real images are computed once.

    Args:
        protocol: the rules.
        references: the data and the networks.
        distributed: those that share the work; None: this one.
        progress: told what is done; None: nobody.

    Raises:
        InputError: something that the protocol needs is not given, or cannot be.
        GalipError: data or weights that cannot be read.
    """

    def __init__(
        self,
        protocol: Protocol,
        references: References = References(),  # noqa: B008 (frozen)
        distributed: Distributed | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.protocol, self.references = protocol, references
        self.distributed = distributed or Distributed()
        self.progress = progress or no_progress
        self.cache = references.cache or cache_folder()
        open_set = open_images if protocol.captions == "none" else open_captioned
        self.source = open_set(references.data, "--data") if references.data else None
        self.training = open_set(references.training, "--training") if references.training else None
        check_given(protocol, references)
        self.bundle: Bundle | None = read_bundle(bundle_of(protocol.bundle)) if protocol.bundle else None
        self.suites: list[Suite] = [read_suite(name) for name in (*protocol.suites, *references.prompts)]
        listed = self.bundle.listed if self.bundle else ()
        # Of given images without captions there is a plan when they are known.
        self.plan = make_plan(protocol, self.source, listed, self.suites) if protocol.captions != "none" else Plan([])
        self.statistics = read_statistics(references.reference) if references.reference else None
        if self.statistics is not None:
            check_statistics(protocol, references, self.statistics)
        self.memory_space = memory_space(
            protocol, self.source is not None and protocol.reference in ("asked", "all"), self.statistics
        )
        if self.training is not None and self.memory_space is None:
            raise InputError(
                f"--training {references.training}: the check needs real images that were not trained on, too; "
                "give --data without --reference, or leave it out"
            )
        self.extractors = {space: self._extractor(space) for space in protocol.spaces if space not in OWN_SPACES}
        for space in self.extractors:
            self._check_statistics_fit(space)

    def _extractor(self, space: str) -> FeatureExtractor:
        if space == "judge":
            assert self.bundle is not None  # as was checked
            extractor: FeatureExtractor = JudgeExtractor(self.bundle.judge, self.bundle.texts)
        else:
            extractor = open_for(self.protocol, space, (self.references.weights or {}).get(space))
        return extractor.to(self.distributed.device)

    def _check_statistics_fit(self, space: str) -> None:
        if self.statistics is None or space not in self.protocol.compared_spaces:
            return
        given, made = len(self.statistics.mu), self.extractors[space].dim
        if given != made:
            raise InputError(
                f"{self.references.reference}: statistics of features of {given} numbers; {space} makes {made}, so "
                "they are another network's"
            )

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The resolved protocol with everything else that fixes the numbers."""
        extra: dict[str, Any] = {
            "suites": [{"name": s.name, "version": s.version, "digest": s.digest} for s in self.suites],
            "spaces": {name: METRICS[name].space for name in self.protocol.metrics},
        }
        if self.bundle is not None:
            extra["bundle"] = self.bundle.digest
        if self.references.reference is not None:
            extra["reference_file"] = hashlib.sha256(self.references.reference.read_bytes()).hexdigest()[:16]
        return self.protocol.settings() | extra

    @property
    def digest(self) -> str:
        """Of the settings, but for texts and the choice of metrics. A result has the size in it that was used."""
        return digest_of_settings(self.settings)

    @property
    def data_digest(self) -> str:
        """Of the real images, or of the captions where there are none."""
        if self.bundle is not None:
            return self.bundle.digest
        return self.source.digest[:16] if self.source is not None else self.plan.digest

    # ---- the work

    def run(self, evaluated: Evaluated, out: Path | None = None, replace: bool = False) -> Result | None:
        """Evaluate a model, or images that were generated earlier.

        What is done is kept in the folder `out` with the suffix `.work` until the result is written; a second call with
        the same arguments goes on there.

        Args:
            evaluated: the model or the images.
            out: where the main process writes the result, and the folder of images beside it; None: nowhere, and the
                work is done in a temporary folder.
            replace: whether another evaluation's unfinished work in that place is thrown away.

        Returns:
            The result, on the main process; None on the others.

        Raises:
            InputError: the protocol does not fit what is evaluated.
            GalipError: an image is broken, data cannot be read, the folder holds another evaluation, or another
                evaluation is writing the same result.
        """
        started = time.monotonic()
        plan = self._plan_for(evaluated)
        resolution = self.protocol.resolution or evaluated.size
        extractors = self.extractors | self._own_extractors(evaluated)
        settings = self.settings | {"resolution": resolution}
        about = {
            "settings": digest_of_settings(settings),
            "model": evaluated.digest,
            "engine": evaluated.engine,
            "data": self.data_digest,
            "plan": plan.digest,
            "networks": {space: _digest_of_both_sides(extractor) for space, extractor in sorted(extractors.items())},
        }
        work: WorkFolder | None = None

        def open_work() -> Path:
            nonlocal work
            work = WorkFolder(out, about, replace)
            return work.path

        folder = self.distributed.from_main(open_work)
        result, done = None, False
        try:
            extracted = self._extract(evaluated, plan, resolution, extractors, folder)
            if self.distributed.is_main:
                result = self._conclude(evaluated, plan, extractors, extracted, settings, out, started)
            done = True
        finally:
            if work is not None:  # what is half done stays where the same command finds it again
                work.close(done)
        self.distributed.wait()
        return result

    def _plan_for(self, evaluated: Evaluated) -> Plan:
        if evaluated.given is not None:
            if self.suites:
                raise InputError(
                    f"{evaluated.name}: images generated earlier have their own captions; leave --prompts out"
                )
            if self.protocol.truncation != 1:
                raise InputError(
                    f"truncation={self.protocol.truncation} does nothing to the images in {evaluated.name}"
                )
            return plan_of_images(self.protocol, evaluated.given, self.source)
        if evaluated.truncation not in (None, self.protocol.truncation):
            raise InputError(
                f"{evaluated.name} generates with truncation {evaluated.truncation}, but protocol "
                f"{self.protocol.name} says {self.protocol.truncation}"
            )
        return self.plan

    def _own_extractors(self, evaluated: Evaluated) -> dict[str, FeatureExtractor]:
        spaces = [space for space in self.protocol.spaces if space in OWN_SPACES]
        if not spaces:
            return {}
        clips = {space: evaluated.own_clip(released=space == "released") for space in spaces}
        if None in clips.values():
            names = ", ".join(name for name in self.protocol.metrics if METRICS[name].space in spaces)
            raise InputError(f"{evaluated.name} has no CLIP of its own that reads captions; leave {names} out")
        return {space: clip.to(self.distributed.device) for space, clip in clips.items() if clip is not None}

    def _extract(
        self,
        evaluated: Evaluated,
        plan: Plan,
        resolution: int,
        extractors: Mapping[str, FeatureExtractor],
        folder: Path,
    ) -> Extracted:
        """All features, each process its share; on the disk are those of an earlier call that was interrupted."""
        captions = [sample.caption for sample in plan.samples]
        reading = {METRICS[name].space for name in self.protocol.metrics if METRICS[name].family.reads}
        text_sides: dict[str, Any] = {
            space: (extractors[space], FeatureStore(folder / f"captions-{space}", len(captions), extractors[space].dim))
            for space in sorted(reading)
        }
        encode_captions(captions, text_sides, self.distributed, self.progress)

        looking: dict[str, FeatureExtractor] = {**extractors, _PIXELS: PixelFacts()}
        stores = {
            space: FeatureStore(folder / f"generated-{space}", len(plan.samples), extractor.dim)
            for space, extractor in looking.items()
        }

        def images(rows: range) -> Tensor:
            samples = plan.samples[rows.start : rows.stop]
            return at_resolution(evaluated.images(samples), resolution, self.protocol.quantise)

        pairs = {space: (extractor, stores[space]) for space, extractor in looking.items()}
        extract_features(images, pairs, self.distributed, self.progress, "generating")
        extracted = Extracted(stores, {space: store for space, (_, store) in text_sides.items()}, {}, {})
        if self.source is not None and plan.reference:
            features = RealFeatures(self.source, plan.reference, resolution, self.cache, self.protocol.native)
            extracted.real = features.compute(looking, self.distributed, self.progress, "real images")
        if self.training is not None:
            assert self.memory_space is not None  # as was checked
            every = range(len(self.training))
            features = RealFeatures(self.training, every, resolution, self.cache, self.protocol.native)
            space = {self.memory_space: extractors[self.memory_space]}
            extracted.training = features.compute(space, self.distributed, self.progress, "training images")
        return extracted

    # ---- the numbers

    def _conclude(
        self,
        evaluated: Evaluated,
        plan: Plan,
        extractors: Mapping[str, FeatureExtractor],
        extracted: Extracted,
        settings: dict[str, Any],
        out: Path | None,
        started: float,
    ) -> Result:
        known = {space: self.statistics for space in self.protocol.compared_spaces if self.statistics is not None}
        features = {space: feature_set(space, plan, extracted, known.get(space), self.bundle) for space in extractors}
        measured = measure(self.protocol, plan, features, self.progress)
        memorised = self._memorisation(plan, features, extracted)
        clips = {space: made_by for space, made_by in extractors.items() if isinstance(made_by, CLIPExtractor)}
        own = {space for space, clip in clips.items() if space in OWN_SPACES or evaluated.looks_through(clip)}
        pixels = extracted.generated[_PIXELS].whole()
        real_pixels = extracted.real[_PIXELS].whole() if _PIXELS in extracted.real else None
        if self.bundle is not None:
            real_pixels = self.bundle.facts
        flags = quality_flags(self.protocol, plan, pixels, real_pixels, features, measured, own, memorised)
        if not evaluated.tells_its_clip:
            flags += export_flags(clips)
        result = Result(
            protocol=self.protocol.name,
            protocol_digest=digest_of_settings(settings),
            settings=settings,
            model=evaluated.name,
            model_digest=evaluated.digest,
            images_seen=evaluated.images_seen,
            data=self.references.data or self.protocol.name,
            data_digest=self.data_digest,
            n_generated=len(plan.compared),
            n_reference=_reference_count(features),
            metrics=measured.metrics,
            real_baseline=measured.real_baseline,
            groups=measured.groups,
            group_real_baseline=measured.group_real_baseline,
            extractors={
                space: ExtractorUsed(weights=extractor.weights, digest=_digest_of_both_sides(extractor))
                for space, extractor in extractors.items()
            },
            versions={"python": platform.python_version()} | versions(),
            machine=_machine(self.distributed, evaluated.engine),
            seed=self.protocol.seed,
            seconds=time.monotonic() - started,
            flags=flags,
        )
        if out is not None:
            shown = ArtifactImages(plan, evaluated, self.source, self.training, settings["resolution"])
            write_artifacts(out, self.protocol, shown, measured, memorised)
            write_result(out, result)
        return result

    def _memorisation(
        self, plan: Plan, features: Mapping[str, FeatureSet], extracted: Extracted
    ) -> Memorisation | None:
        for space, store in extracted.training.items():
            here = features[space]
            if here.reference is None:
                return None
            compared = [sample.number for sample in plan.compared]
            count = min(NEAREST_SHOWN, store.count)
            return memorisation(here.generated[compared], here.reference, store.whole(), count=count)
        return None


def _reference_count(features: Mapping[str, FeatureSet]) -> int | None:
    for here in features.values():
        if here.reference is not None:
            return len(here.reference)
        if here.statistics is not None:
            return here.statistics.count
    return None


def _digest_of_both_sides(extractor: FeatureExtractor) -> str:
    """An extractor's digest, with that of its text side where it has one that can be another."""
    if not isinstance(extractor, CLIPExtractor):
        return extractor.digest
    return hashlib.sha256(f"{extractor.digest} {extractor.text_digest}".encode()).hexdigest()[:16]


def _machine(distributed: Distributed, engine: str) -> dict[str, str | int | float]:
    """What computed: none of it should change a number by more than rounding.

    Args:
        distributed: the processes that shared the work, and their device.
        engine: what generated; empty where the images were there already.
    """
    device = distributed.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    found: dict[str, str | int | float] = {
        "system": platform.platform(),
        "device": f"{device.type} ({name})",
        "processes": distributed.world,
        "threads": torch.get_num_threads(),
    }
    return found | {"engine": engine} if engine else found


def __getattr__(name: str) -> Any:
    return _deprecated.renamed(__name__, name)
