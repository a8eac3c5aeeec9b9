"""Where the weights of a graph are: references into a model folder's files, or in the graph itself.

References are ONNX external data; nothing is copied. A graph whose weights are references follows the files: new values
of the same shapes are its weights from then on. ONNX does not allow references out of the graph's own folder, so graphs
lie at the model folder's root.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from torch import Tensor, nn

from galip.errors import GalipError
from galip.model_repo.graphs import weights_header
from galip.model_repo.weights import weight_files

_KEPT_WHOLE = 4096
"""Weights of fewer numbers stay in fp32 in a graph of half the bytes: biases are among them, and they cost nothing."""

_TYPES = {"F64": ir.DataType.DOUBLE, "F32": ir.DataType.FLOAT, "F16": ir.DataType.FLOAT16, "BF16": ir.DataType.BFLOAT16}


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in a safetensors file, in bytes."""

    file: Path
    offset: int
    length: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Origin:
    """Where the weights of a part of a model are stored.

    Attributes:
        network: the part.
        name: its folder's name in the model folder: "generator", ...
    """

    network: nn.Module
    name: str


def refer(model: ir.Model, module: nn.Module, origins: Sequence[Origin], folder: Path) -> None:
    """Let a graph's weights be references into a model folder's files, in place.

    Weights that are stored in another precision than fp32 are cast where they are used; engines do that once, when they
    load the graph.

    Args:
        model: of `galip.export.tracing.trace`.
        module: what it was made from: its parameters have the names of the graph's weights.
        origins: the parts of the model that the parameters belong to.
        folder: the model folder.

    Raises:
        GalipError: a weight is not stored in the folder, or in another shape.
    """
    stored = _stored_weights(origins, folder)
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name in list(model.graph.initializers):
        if name not in parameters:
            continue  # a constant of the graph's own
        if id(parameters[name]) not in stored:
            raise GalipError(f"{folder}: the weight {name} is not stored there; save the model again")
        key, place = stored[id(parameters[name])]
        if place.shape != tuple(parameters[name].shape) or place.dtype not in _TYPES:
            found = f"{place.dtype} {list(place.shape)}"
            raise GalipError(f"{folder}: the weight {key} is stored as {found}; save the model again")
        location, shape = place.file.relative_to(folder).as_posix(), ir.Shape(place.shape)
        kind = _TYPES[place.dtype]
        tensor = ir.ExternalTensor(location, place.offset, place.length, kind, shape=shape, name=key, base_dir=folder)
        _replace(model.graph, name, tensor)


def _stored_weights(origins: Sequence[Origin], folder: Path) -> Mapping[int, tuple[str, StoredTensor]]:
    """Where each parameter is stored, by the parameter's id."""
    found: dict[int, tuple[str, StoredTensor]] = {}
    for origin in origins:
        tensors = stored_tensors(folder / origin.name)
        # A weight that a network has under several names is stored under one of them.
        weights: list[tuple[str, Tensor]] = list(origin.network.named_parameters(remove_duplicate=False))
        found |= {id(weight): (f"{origin.name}.{key}", tensors[key]) for key, weight in weights if key in tensors}
    return found


def stored_tensors(part: Path) -> dict[str, StoredTensor]:
    """Where each tensor of a model's part lies.

    Raises:
        GalipError: there are no weights, or a file is damaged.
    """
    found: dict[str, StoredTensor] = {}
    for file in weight_files(part):
        content = weights_header(file)
        header = json.loads(content)
        header.pop("__metadata__", None)
        begin = 8 + len(content)
        for name, entry in header.items():
            start, stop = entry["data_offsets"]
            found[name] = StoredTensor(file, begin + start, stop - start, entry["dtype"], tuple(entry["shape"]))
    return found


def embed(model: ir.Model, half: bool = False) -> None:
    """Let a graph hold its weights itself, in place.

    Args:
        model: a graph with its weights in memory or as references.
        half: store the large ones as float16, half the bytes; engines cast them once, when they load the graph, and
            compute as before.
    """
    graph = model.graph
    for name in list(graph.initializers):
        tensor = graph.initializers[name].const_value
        if tensor is None or tensor.dtype not in _TYPES.values():
            continue
        array = tensor.numpy().astype(np.float32)
        stored = array.astype(np.float16) if half and array.size >= _KEPT_WHOLE else array
        _replace(graph, name, ir.tensor(stored, name=name))


def _replace(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> None:
    """Give the weight `name` another tensor, and that its name; what uses it goes on to see fp32."""
    old = graph.initializers.pop(name)
    cast = None if old.dtype == ir.DataType.FLOAT else next(iter(old.uses())).node
    shape, kind = ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)
    new = ir.Value(name=tensor.name, type=kind, shape=shape, const_value=tensor)
    graph.register_initializer(new)
    seen = new
    if tensor.dtype != ir.DataType.FLOAT:
        node = ir.node("Cast", [new], attributes={"to": ir.DataType.FLOAT})
        graph.insert_before(graph[0], node)
        seen = node.outputs[0]
        seen.name = f"{tensor.name}.fp32"
    ir.convenience.replace_all_uses_with(old if cast is None else cast.outputs[0], seen)
    if cast is not None:
        graph.remove(cast)
