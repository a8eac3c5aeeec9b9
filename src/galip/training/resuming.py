"""What a resumed run has to set, and what it has to say."""

from __future__ import annotations

from typing import Any

import torch


def random_state(device: torch.device) -> dict[str, Any]:
    """This process's random state, for `set_random_state`."""
    state: dict[str, Any] = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(states: list[dict[str, Any]], rank: int) -> None:
    """Take up this process's state of those that a checkpoint holds.

    A process that the checkpoint does not know keeps its fresh state; samples do not depend on it.
    """
    if rank >= len(states):
        return
    state = states[rank]
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def differences(before: Any, now: Any, path: str = "") -> list[str]:
    """Where two trees of plain values differ: "run.batch: 32 -> 64"."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [
            line for key in keys for line in differences(before.get(key), now.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if before == now else [f"{path}: {before} -> {now}"]
