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
    from galip.generation.output import GALIPPipelineOutput

    assert galip.GALIPPipelineOutput is GALIPPipelineOutput


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lead'"):
        galip.lead  # noqa: B018


def test_noise_outputs_and_captions_need_no_torch() -> None:
    code = (
        "import galip.generation.noise, galip.generation.output, galip.generation.prompts, sys;"
        "galip.generation.output.to_pil(galip.generation.output.np.zeros((4, 4, 3)));"
        "print(*[m for m in ('torch', 'transformers', 'diffusers') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_a_module_of_the_last_version_still_works_and_warns() -> None:
    code = (
        "import warnings; warnings.simplefilter('error')\n"
        "try: import galip.outputs\n"
        "except DeprecationWarning as warning: print(warning)\n"
        "warnings.simplefilter('ignore')\n"
        "from galip.control.interpolation import slerp; import galip.loading, galip.latent.interpolation as new\n"
        "print(slerp is new.slerp, galip.loading.GalipError.__name__)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert told[0].startswith("galip.outputs is now galip.generation.output")
    assert told[1] == "True GalipError"


def test_names_and_arguments_of_the_last_version_still_work_and_warn() -> None:
    from galip import latent
    from galip.latent import keyframes, speeds

    with pytest.warns(DeprecationWarning, match=r"galip\.latent\.draw is now .*_old_names:draw"):
        assert latent.draw.__name__ == "draw"
    with pytest.warns(DeprecationWarning, match="pair_up.captions=...."):
        assert keyframes.pair_up(captions=["a cat"], seeds=[1])[0].prompt == "a cat"
    with pytest.warns(DeprecationWarning, match="look_by is now clip_features"):
        assert speeds.look_by is speeds.clip_features
