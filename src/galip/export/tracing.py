"""A network of `galip.models` as an ONNX graph, written by torch's exporter and tidied."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
import torch
from onnxscript.optimizer import fold_constants
from torch import Tensor, nn

from galip.export.operators import translation_table

OPSET = 18
"""The ONNX operator set that graphs are written in."""

IR_VERSION = 10
"""The file format's version that belongs to it: engines refuse files that are newer than they are."""

_MOST_FOLDED = 4096
"""Numbers of a constant that is computed now; larger ones are weights, or made of them, and computed by the engine."""


@dataclass(frozen=True)
class Dynamic:
    """A size that is known only when the graph runs.

    Attributes:
        name: of the size, in the graph.
        max: the largest.
    """

    name: str
    max: int


Axes = Mapping[str, Mapping[int, Dynamic]]
"""For each input, the axes whose size is dynamic."""


@torch.no_grad()
def trace(network: nn.Module, inputs: Mapping[str, Tensor], axes: Axes, output: str) -> ir.Model:
    """Write a network as ONNX. Its weights keep their names and values; nothing that is computed of them is stored.

    Args:
        network: takes `inputs` by position and gives one tensor; fp32 on the CPU.
        inputs: examples, by name, in their order. Sizes that are dynamic must be at least 2 here.
        axes: which sizes are dynamic.
        output: the output's name.
    """
    sizes = {size: torch.export.Dim(size.name, min=1, max=size.max) for each in axes.values() for size in each.values()}
    shapes = tuple({axis: sizes[size] for axis, size in axes.get(name, {}).items()} for name in inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter, about itself
        program = torch.export.export(network, tuple(inputs.values()), dynamic_shapes=shapes)
        exported = torch.onnx.export(
            program,
            args=(),
            dynamo=True,
            input_names=list(inputs),
            output_names=[output],
            opset_version=OPSET,
            custom_translation_table=translation_table(),
            optimize=False,
            verbose=False,
        )
    assert exported is not None
    _name_sizes(exported.model, axes)
    return _tidy(exported.model)


def _name_sizes(model: ir.Model, axes: Axes) -> None:
    """Call dynamic sizes by their names; the exporter has numbered them."""
    named: dict[str | None, str] = {}
    for value in model.graph.inputs:
        shape = value.shape
        assert shape is not None
        for axis, size in axes.get(str(value.name), {}).items():
            named[str(shape[axis])] = size.name
    for value in (*model.graph.inputs, *model.graph.outputs):
        assert value.shape is not None
        value.shape = ir.Shape([named.get(str(size), size) for size in value.shape])


def _tidy(model: ir.Model) -> ir.Model:
    """Fold what is computed of sizes alone, take out repetitions, names of source lines and types of inner values."""
    weights = {name: value.const_value for name, value in model.graph.initializers.items()}
    for name in weights:
        model.graph.initializers[name].const_value = None  # so that nothing of them is folded
    passes.ClearMetadataAndDocStringPass()(model)
    fold_constants(model, onnx_shape_inference=True, input_size_limit=_MOST_FOLDED, output_size_limit=_MOST_FOLDED)
    passes.RemoveUnusedNodesPass()(model)
    passes.CommonSubexpressionEliminationPass()(model)
    _fix_reshapes(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.ClearMetadataAndDocStringPass()(model)
    for name, value in model.graph.initializers.items():
        value.const_value = weights.get(name, value.const_value)
    kept = {*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()}
    for node in model.graph:
        for value in node.outputs:
            if value not in kept:
                value.shape = value.type = None
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "galip", ""
    model.graph.name = "galip"
    return model


def _fix_reshapes(model: ir.Model) -> None:
    """Where all sizes but one of a reshape are known, let the engine find it, instead of computing it by operators."""
    for node in list(model.graph):
        shape = node.inputs[1].producer() if node.op_type == "Reshape" and node.inputs[1] is not None else None
        if shape is None or shape.op_type != "Concat":
            continue
        parts = [part for part in shape.inputs if part is not None]
        known = [ir.convenience.get_const_tensor(part) for part in parts]
        unknown = [part for part, constant in zip(parts, known, strict=True) if constant is None]
        sizes = [size for constant in known for size in ([-1] if constant is None else constant.numpy().tolist())]
        # One unknown part that is one number, and no size of 0 or -1, which mean something else.
        if len(unknown) == 1 and unknown[0].shape == [1] and sum(size < 1 for size in sizes) == 1:
            name = "sizes_" + "_".join(map(str, sizes))
            if name not in model.graph.initializers:
                tensor = ir.tensor(np.array(sizes, dtype=np.int64), name=name)
                model.graph.register_initializer(ir.Value(name=name, const_value=tensor))
            node.replace_input_with(1, model.graph.initializers[name])
