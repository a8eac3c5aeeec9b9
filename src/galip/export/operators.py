"""How some of torch's operators are written in ONNX: in the few operators that engines know as one and compute fast.

torch's own exporter writes the same functions, but with shapes computed at every call and in orders of operations that
engines do not recognise, which costs a tenth of the time of a small model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch


def translation_table() -> dict[Any, Callable[..., Any]]:
    """By torch's operator: a function that writes it, as `torch.onnx.export` takes them."""
    aten = torch.ops.aten
    return {
        aten.scaled_dot_product_attention.default: _attention,
        aten.gelu.default: _gelu,
        aten.upsample_nearest2d.vec: _nearest,
        aten._upsample_bicubic2d_aa.vec: _antialiased,
    }


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    from onnxscript import opset18 as op

    if dropout_p or is_causal or enable_gqa:
        raise NotImplementedError("attention with dropout, is_causal or grouped queries")
    factor = op.Constant(value_float=query.shape[-1] ** -0.5 if scale is None else scale)
    scores = op.Mul(op.MatMul(query, op.Transpose(key, perm=[0, 1, 3, 2])), factor)
    if attn_mask is not None:
        scores = op.Add(scores, attn_mask)
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def _gelu(x: Any, approximate: str = "none") -> Any:
    from onnxscript import opset18 as op

    half, one = op.Constant(value_float=0.5), op.Constant(value_float=1.0)
    if approximate == "none":
        erf = op.Erf(op.Div(x, op.Constant(value_float=2**0.5)))
        return op.Mul(op.Mul(x, op.Add(erf, one)), half)
    cube = op.Mul(op.Mul(op.Mul(x, x), x), op.Constant(value_float=0.044715))
    inner = op.Mul(op.Add(x, cube), op.Constant(value_float=(2 / np.pi) ** 0.5))
    return op.Mul(op.Mul(x, half), op.Add(op.Tanh(inner), one))


def _nearest(x: Any, output_size: Sequence[int] | None = None, scale_factors: Sequence[float] | None = None) -> Any:
    """Nearest neighbour as torch means it: output pixel i shows input pixel floor(i * in / out)."""
    from onnxscript import opset18

    op: Any = opset18
    if output_size is None or scale_factors is not None:
        raise NotImplementedError("nearest neighbour with scale factors")
    sides = zip(x.shape[2:], output_size, strict=True)
    scales = [1.0, 1.0, *(_scale(int(before), int(after)) for before, after in sides)]
    return op.Resize(
        x,
        None,
        op.Constant(value_floats=scales),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _antialiased(
    x: Any, output_size: Sequence[int] | None, align_corners: bool, scale_factors: Sequence[float] | None = None
) -> Any:
    """Antialiased bicubic resampling, as two products with torch's own weights: OpenVINO has no operator for it."""
    from onnxscript import opset18

    op: Any = opset18
    if output_size is None or scale_factors is not None or align_corners:
        raise NotImplementedError("antialiased resampling with scale factors or aligned corners")
    sides = zip(x.shape[2:], output_size, strict=True)
    rows, columns = (_resampling(int(before), int(after)) for before, after in sides)
    # Columns first, [B, C, H, W] -> [B, C, H, w], then rows, -> [B, C, h, w].
    return op.MatMul(op.Constant(value=ir.tensor(rows.T.copy())), op.MatMul(x, op.Constant(value=ir.tensor(columns))))


def _resampling(before: int, after: int) -> Any:
    """The matrix [before, after] by which a row of numbers is resampled, float32."""
    each = torch.eye(before)[None, None]
    resampled = torch.nn.functional.interpolate(
        each, size=(before, after), mode="bicubic", align_corners=False, antialias=True
    )
    return resampled[0, 0].numpy()


def _scale(before: int, after: int) -> float:
    scale = np.float32(after / before)
    if int(before * float(scale)) < after:  # rounded down, and engines cut what is left of a pixel
        scale = np.nextafter(scale, np.float32(np.inf))
    return float(scale)
