"""The engines that run exported graphs, behind one call: named numpy arrays in, one array out."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from galip.errors import GalipError
from galip.generation.telemetry import without_telemetry
from galip.utils.extras import require

Feeds = Mapping[str, NDArray[Any]]


class Network(Protocol):
    """A graph that an engine has loaded. It may be called from several threads, which then take turns."""

    def __call__(self, feeds: Feeds) -> NDArray[np.float32]:
        """The graph's output for inputs by name, all with the same batch size."""


def installed(engine: str) -> bool:
    """Whether the package of "openvino" or "onnxruntime" is there. It is not imported."""
    return find_spec(engine) is not None


def openvino_precisions() -> tuple[str, ...]:
    """What OpenVINO computes in on this processor by instructions made for it: of "fp32", "bf16", "fp16" and "int8".

    Raises:
        GalipError: OpenVINO is not installed.
    """
    there = _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name in ("fp32", "bf16", "fp16", "int8") if name.upper() in there)


def load_network(
    engine: str, file: Path, threads: int | None, chunks: Sequence[int] = (), precision: str = "fp32"
) -> Network:
    """Load a graph.

    Args:
        engine: "openvino", for .xml and .onnx files, or "onnxruntime", for .onnx files.
        file: the graph.
        threads: CPU threads; None: the engine's own choice.
        chunks: see `OpenVINONetwork`; ONNX Runtime is as fast with any batch.
        precision: what OpenVINO computes in; ONNX Runtime does as the graph says.

    Raises:
        GalipError: the engine is not installed, or the graph cannot be loaded.
    """
    if engine == "openvino":
        return OpenVINONetwork(file, threads, chunks, precision)
    return ONNXRuntimeNetwork(file, threads)


class OpenVINONetwork:
    """A graph in OpenVINO, on the CPU, in the precision that is asked for, whatever the processor would rather do.

    OpenVINO plans memory and fuses operators far better where it knows every shape: with a batch of unknown size the
    released generator takes about a fifth longer. So a batch is cut into chunks of known sizes, each of which is
    compiled when it is first needed.

    Args:
        file: an .xml or .onnx file.
        threads: CPU threads; None: OpenVINO's own choice.
        chunks: batch sizes, decreasing to 1, that a batch is cut into. None of them: every batch is run as it is.
        precision: "fp32", "bf16" or "fp16"; "int8" for a graph that is quantised, what is left of which computes in
            bf16 where the processor can.

    Raises:
        GalipError: OpenVINO is not installed, or refuses the file.
    """

    def __init__(
        self, file: Path, threads: int | None = None, chunks: Sequence[int] = (), precision: str = "fp32"
    ) -> None:
        self._core = _openvino().Core()
        if precision == "int8":
            precision = "bf16" if "bf16" in openvino_precisions() else "fp32"
        self._file, self._chunks = file, tuple(chunks)
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "fp16": "f16"}.get(precision, precision),
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # a service's processes would all be pinned to the same cores
        }
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._requests: dict[int | None, Any] = {}
        self._lock = threading.Lock()
        self._read()  # a damaged file is found now

    def __call__(self, feeds: Feeds) -> NDArray[np.float32]:
        """The graph's output for inputs by name."""
        if not self._chunks:
            return self._run(None, feeds)
        batch = len(next(iter(feeds.values())))
        parts, start = [], 0
        while start < batch:
            size = next(chunk for chunk in self._chunks if chunk <= batch - start)
            parts.append(self._run(size, {name: array[start : start + size] for name, array in feeds.items()}))
            start += size
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run(self, size: int | None, feeds: Feeds) -> NDArray[np.float32]:
        with self._lock:
            if size not in self._requests:
                self._requests[size] = self._compile(size)
            outputs = self._requests[size].infer({name: np.ascontiguousarray(array) for name, array in feeds.items()})
            return np.array(outputs[0])  # a copy: the request's own memory is written again by the next call

    def _compile(self, size: int | None) -> Any:
        graph = self._read()
        if size is not None:
            graph.reshape({node.get_any_name(): [size, *list(node.partial_shape)[1:]] for node in graph.inputs})
        return self._core.compile_model(graph, "CPU", self._settings).create_infer_request()

    def _read(self) -> Any:
        try:
            return self._core.read_model(str(self._file))
        except RuntimeError as error:
            reason = _first_line(error)
            raise GalipError(f"{self._file}: OpenVINO cannot read it ({reason}); export it again") from error


class ONNXRuntimeNetwork:
    """A graph in ONNX Runtime, on the CPU.

    Args:
        file: an .onnx file.
        threads: CPU threads; None: ONNX Runtime's own choice.

    Raises:
        GalipError: ONNX Runtime is not installed, or refuses the file.
    """

    def __init__(self, file: Path, threads: int | None = None) -> None:
        with without_telemetry():
            import onnxruntime
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1  # the graph is one chain
        options.log_severity_level = 3  # errors
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class
            raise GalipError(f"{file}: ONNX Runtime cannot load it ({_first_line(error)}); export it again") from error
        self._lock = threading.Lock()

    def __call__(self, feeds: Feeds) -> NDArray[np.float32]:
        """The graph's output for inputs by name."""
        with self._lock:
            output: NDArray[np.float32] = self._session.run(None, dict(feeds))[0]
            return output


def _openvino() -> Any:
    require("engine openvino", "openvino")
    with without_telemetry():
        import openvino
    return openvino


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
