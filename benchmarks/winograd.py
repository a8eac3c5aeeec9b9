"""Does F(2x2, 3x3) pay where the engine does not do it? A 3x3 convolution beside its Winograd form, in OpenVINO.

    python benchmarks/winograd.py                        # the up-blocks' convolutions of released-b32-224, batch 1

Winograd's form computes 16 products where the convolution computes 36, and adds and moves memory for it: a tile of 4x4
numbers for each 2x2 of the output. Here it is written as a graph (slices and sums, one batched matrix product of 16,
sums and a reshape), so it is what a transformation of an exported graph could do; a library's own kernel keeps tiles in
registers, which a graph cannot. It is timed beside the plain convolution in turns, both in fp32.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import RESULTS, SIZES, table, write_result
from torch import Tensor, nn

from galip.generation.telemetry import without_telemetry
from galip.utils.provenance import machine

# Lavin and Gray, 2015: Y = A' [(G g G') * (B' d B)] A.
_G = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))


class Plain(nn.Module):
    """A 3x3 convolution with padding 1.

    Args:
        weight: [C', C, 3, 3].
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """[1, C', H, W] of [1, C, H, W]."""
        return F.conv2d(x, self.weight, padding=1)


class Winograd(nn.Module):
    """The same by F(2x2, 3x3), for images of even sides."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        g = torch.tensor(_G, dtype=torch.float64)
        transformed = torch.einsum("ik,ockl,jl->ijoc", g, weight.double(), g).reshape(16, *weight.shape[:2])
        self.weight = nn.Parameter(transformed.float().contiguous(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """[1, C', H, W] of [1, C, H, W]."""
        _, channels, height, width = x.shape
        x = F.pad(x, (1, 1, 1, 1))[0]
        rows = [x[:, i : i + height : 2] for i in range(4)]  # each [C, H/2, W+2]
        rows = [rows[0] - rows[2], rows[1] + rows[2], rows[2] - rows[1], rows[1] - rows[3]]
        tiles = []
        for row in rows:
            d = [row[:, :, j : j + width : 2] for j in range(4)]
            tiles += [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]  # each [C, H/2, W/2]
        m = torch.matmul(self.weight, torch.stack(tiles).reshape(16, channels, -1))
        m = m.reshape(4, 4, -1, height // 2, width // 2)
        top, bottom = m[0] + m[1] + m[2], m[1] - m[2] - m[3]  # [4, C', H/2, W/2]
        parts = [part for half in (top, bottom) for part in (half[0] + half[1] + half[2], half[1] - half[2] - half[3])]
        y = torch.stack(parts).reshape(2, 2, -1, height // 2, width // 2)
        return y.permute(2, 3, 0, 4, 1).reshape(1, -1, height, width)


def compiled(network: nn.Module, x: Tensor, threads: int) -> Any:
    """A function of an array, compiled by OpenVINO in fp32 for this shape."""
    with without_telemetry():
        import openvino
    graph = openvino.convert_model(network, example_input=x, input=[tuple(x.shape)])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    request = openvino.Core().compile_model(graph, "CPU", settings).create_infer_request()
    return lambda array: request.infer({0: array})[0]


def layer(channels: int, out: int, side: int, threads: int, runs: int) -> dict[str, Any]:
    """Least milliseconds of both, in turns, since other work only adds to them, and how far apart their outputs are."""
    torch.manual_seed(0)
    weight, x = torch.randn(out, channels, 3, 3) / (9 * channels) ** 0.5, torch.randn(1, channels, side, side)
    calls = {kind.__name__.lower(): compiled(kind(weight).eval(), x, threads) for kind in (Plain, Winograd)}
    array = x.numpy()
    plain, other = (call(array).copy() for call in calls.values())
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            begun = time.perf_counter()
            call(array)
            times[name].append(time.perf_counter() - begun)
    ms = {name: 1000 * min(each) for name, each in times.items()}
    difference = float(np.abs(plain - other).max())
    gflops = {"gflop_s": 18 * channels * out * side**2 / ms["plain"] / 1e6}
    return {"channels": channels, "out": out, "side": side, **ms, **gflops, "difference": difference}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="released-b32-224", choices=SIZES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/winograd-PRESET.json")
    given = parser.parse_args()
    generator = SIZES[given.preset].generator
    rows = [
        layer(channels, channels, side, given.threads, given.runs)
        for side, channels in zip(generator["block_sizes"], generator["block_channels"], strict=True)
        if side % 2 == 0
    ]
    heads = list(rows[0])
    print(table([*heads, "plain / winograd"], [[*row.values(), row["plain"] / row["winograd"]] for row in rows]))
    about = {"preset": given.preset, "threads": given.threads, "machine": machine(), "rows": rows}
    write_result(given.out or RESULTS / f"winograd-{given.preset}.json", about)


if __name__ == "__main__":
    main()
