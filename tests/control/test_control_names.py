"""The public names of `galip.control`, and that what needs no gradients needs no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from galip import control


def test_every_name_leads_somewhere() -> None:
    for name in control.__all__:
        assert getattr(control, name).__name__ == name
    assert set(control.__all__) <= set(dir(control))
    with pytest.raises(AttributeError, match="no attribute 'lead'"):
        control.lead  # noqa: B018


def test_what_draws_by_any_engine_needs_no_torch() -> None:
    names = "walk, prompts_by_seeds, direction, mix, blend_noise, edit, writing, read_keyframes, draw, best_of"
    code = (
        f"from galip.control import {names}; import sys;"
        "print(*[m for m in ('torch', 'transformers', 'diffusers', 'av') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
