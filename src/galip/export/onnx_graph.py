"""A small writer of ONNX graphs.

The networks here are short and fixed, so their graphs are written operator by operator from the folded modules. This
needs the package `onnx` alone, takes a moment where tracing exporters take minutes, gives the same graph with every
version of torch, and leaves the choice of operators (and with it the speed of the engines) to us.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from galip.errors import GalipError

OPSET = 18
"""The ONNX operator set that graphs are written in."""

IR_VERSION = 8
"""The file format's version that belongs to it: runtimes refuse files that are newer than they are."""

_KEPT_WHOLE = 4096
"""Constants of fewer numbers stay in fp32 in an fp16 graph: they cost nothing, and scales and biases are among them."""

Attribute = int | float | str | Sequence[int]


def import_onnx() -> ModuleType:
    """The package `onnx`.

    Raises:
        GalipError: it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise GalipError(
            "the package onnx is missing, which writes exported models: pip install 'galip[export]'"
        ) from error
    return onnx


class Graph:
    """An ONNX graph being written: constants and nodes go in, names of what they give come out.

    Args:
        name: the graph's name.
        inputs: by name (numpy's name of the type, shape); a string in a shape is a size known only when it runs.
        half: store large constants as float16. They are cast to float32 where they are used, which engines do once,
            when they load the graph: half the file, arithmetic as before.
    """

    def __init__(self, name: str, inputs: Mapping[str, tuple[str, Sequence[int | str]]], half: bool = False) -> None:
        self._onnx = import_onnx()
        self._name, self._half = name, half
        self._inputs = [
            self._onnx.helper.make_tensor_value_info(key, self._type(dtype), list(shape))
            for key, (dtype, shape) in inputs.items()
        ]
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._shared: dict[tuple[str, bytes, tuple[int, ...]], str] = {}

    def constant(self, value: Tensor | NDArray[Any]) -> str:
        """A constant: weights, or a small array. Equal small ones are stored once."""
        array = np.ascontiguousarray(value.detach().cpu().float().numpy() if isinstance(value, Tensor) else value)
        key = (str(array.dtype), array.tobytes() if array.size <= 64 else b"", array.shape)
        if array.size <= 64 and key in self._shared:
            return self._shared[key]
        name = f"constant_{len(self._constants)}"
        halved = self._half and array.dtype == np.float32 and array.size >= _KEPT_WHOLE
        stored = array.astype(np.float16) if halved else array
        self._constants.append(self._onnx.numpy_helper.from_array(stored, name))
        if halved:
            return self.node("Cast", name, to=self._type("float32"))
        if array.size <= 64:
            self._shared[key] = name
        return name

    def ints(self, *values: int) -> str:
        """A constant vector of whole numbers, as shapes and axes are given."""
        return self.constant(np.array(values, dtype=np.int64))

    def number(self, value: float) -> str:
        """A constant number."""
        return self.constant(np.array(value, dtype=np.float32))

    def node(self, op: str, *inputs: str, **attributes: Attribute) -> str:
        """The output of an operator of ONNX with its inputs and attributes."""
        return self.nodes(op, 1, *inputs, **attributes)[0]

    def nodes(self, op: str, count: int, *inputs: str, **attributes: Attribute) -> list[str]:
        """The same for an operator with several outputs."""
        first = len(self._nodes)
        outputs = [f"{op.lower()}_{first}" + (f"_{i}" if count > 1 else "") for i in range(count)]
        self._nodes.append(self._onnx.helper.make_node(op, list(inputs), outputs, name=outputs[0], **attributes))
        return outputs

    def linear(self, x: str, weight: Tensor, bias: Tensor | None = None) -> str:
        """`x` [..., in] through a linear layer with `weight` [out, in]."""
        product = self.node("MatMul", x, self.constant(weight.detach().T))
        return product if bias is None else self.node("Add", product, self.constant(bias))

    def split(self, x: str, sizes: Sequence[int], axis: int) -> list[str]:
        """`x` in pieces of these sizes along an axis."""
        return [x] if len(sizes) == 1 else self.nodes("Split", len(sizes), x, self.ints(*sizes), axis=axis)

    def rows(self, x: str, start: int, stop: int, axis: int) -> str:
        """`x[start:stop]` along an axis."""
        return self.node("Slice", x, self.ints(start), self.ints(stop), self.ints(axis))

    def size(self, x: str, axis: int) -> str:
        """The size of `x` along an axis, as a vector of one number."""
        return self.node("Shape", x, start=axis, end=axis + 1)

    def activation(self, x: str, name: str) -> str:
        """An activation by the name that transformers' configurations give it.

        Raises:
            GalipError: it is none of those that CLIP and T5 use.
        """
        if name == "relu":
            return self.node("Relu", x)
        if name in ("silu", "swish"):
            return self.node("Mul", x, self.node("Sigmoid", x))
        if name == "quick_gelu":
            return self.node("Mul", x, self.node("Sigmoid", self.node("Mul", x, self.number(1.702))))
        if name == "gelu":  # in the order that engines know as one operator
            erf = self.node("Erf", self.node("Div", x, self.number(2**0.5)))
            return self.node("Mul", self.node("Mul", x, self.node("Add", erf, self.number(1.0))), self.number(0.5))
        if name in ("gelu_new", "gelu_pytorch_tanh"):
            cube = self.node("Mul", self.node("Mul", self.node("Mul", x, x), x), self.number(0.044715))
            inner = self.node("Mul", self.node("Add", x, cube), self.number((2 / np.pi) ** 0.5))
            half = self.node("Mul", x, self.number(0.5))
            return self.node("Mul", half, self.node("Add", self.node("Tanh", inner), self.number(1.0)))
        raise GalipError(f"the activation {name!r} cannot be exported; relu, silu, gelu and its variants can")

    def finish(self, output: str, name: str, shape: Sequence[int | str]) -> Any:
        """The `onnx.ModelProto` whose one output is `output`, under the name `name`, in float32."""
        self._nodes.append(self._onnx.helper.make_node("Identity", [output], [name], name=name))
        helper = self._onnx.helper
        out = helper.make_tensor_value_info(name, self._type("float32"), list(shape))
        graph = helper.make_graph(self._nodes, self._name, self._inputs, [out], self._constants)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="galip")

    def _type(self, dtype: str) -> int:
        return int(self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
