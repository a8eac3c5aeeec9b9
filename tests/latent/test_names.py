"""The public names of `galip.latent`, and that what needs no gradients needs no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from galip import latent


def test_every_name_leads_somewhere() -> None:
    for name in latent.__all__:
        assert getattr(latent, name).__name__ == name
    assert set(latent.__all__) <= set(dir(latent))
    with pytest.raises(AttributeError, match="no attribute 'lead'"):
        latent.lead  # noqa: B018


def test_what_draws_by_any_engine_needs_no_torch() -> None:
    names = "walk, prompts_by_seeds, direction, mix, blend_noise, edit, writing, read_keyframes, best_of"
    code = (
        f"from galip.latent import {names}; import sys;"
        "print(*[m for m in ('torch', 'transformers', 'diffusers', 'av') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
