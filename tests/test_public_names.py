"""`import galip` is light, and its names lead where they should."""

from __future__ import annotations

import subprocess
import sys

import pytest

import galip


def test_importing_galip_brings_no_heavy_library() -> None:
    code = "import galip, sys; print(*[m for m in ('torch', 'numpy', 'transformers', 'diffusers') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_public_names_are_listed_and_found() -> None:
    assert set(galip.__all__) <= set(dir(galip))
    from galip.outputs import GALIPPipelineOutput

    assert galip.GALIPPipelineOutput is GALIPPipelineOutput


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lead'"):
        galip.lead  # noqa: B018


def test_noise_outputs_and_captions_need_no_torch() -> None:
    code = (
        "import galip.noise, galip.outputs, galip.captions, sys;"
        "galip.outputs.to_pil(galip.outputs.np.zeros((4, 4, 3)));"
        "print(*[m for m in ('torch', 'transformers', 'diffusers') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
