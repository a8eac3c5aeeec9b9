"""What every user runs works in a Python that has no torch: its modules are blocked here, as if not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BLOCKED = "import sys\nfor name in ('torch', 'transformers', 'diffusers', 'accelerate'): sys.modules[name] = None\n"
TESTS = Path(__file__).parents[1]


def run_blocked(code: str) -> str:
    path = f"sys.path.insert(0, {str(TESTS)!r})\n"
    done = subprocess.run([sys.executable, "-c", BLOCKED + path + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_module_that_generates_can_be_imported() -> None:
    code = """
import importlib, pkgutil, galip.generation, galip.model_repo, galip.utils
names = [m.name for package in (galip.generation, galip.model_repo, galip.utils)
         for m in pkgutil.iter_modules(package.__path__, package.__name__ + ".")]
names += ["galip.latent." + name for name in ("clip", "directions", "editing", "grids", "interpolation", "keyframes",
          "inversion_folder", "mixing", "reranking", "smoothness", "speeds", "walks")]
for name in names:
    importlib.import_module(name)
print(len(names) > 30)
"""
    assert run_blocked(code) == "True"


def test_steering_needs_no_torch() -> None:
    code = """
from generation.linear_backend import LinearBackend
from galip.generation.pipeline import TextToImage
from galip.latent import Keyframe, best_of, direction, mix, path_length, prompts_by_seeds, shift, walk
pipe = TextToImage(LinearBackend())
frames = list(walk(pipe, [Keyframe("a cat", 1), Keyframe("two birds", 2)], frames=4, speed="clip"))
sheet = list(prompts_by_seeds(pipe, ["a cat", "two birds"], [0, 1]).generate(pipe))
e = shift(mix(pipe, "a cat", "two birds"), direction(pipe, "a", "b"))
best = best_of(pipe, "a cat", 4, keep=2, seed=0)
found = path_length(pipe, ["a cat"], pairs=3)
print(len(frames), len(sheet), e.shape, len(best[0].images), found.pairs)
"""
    assert run_blocked(code) == "5 4 (3, 5) 2 3"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("galip.load(engine='torch')", "engine torch needs torch, transformers, diffusers and accelerate"),
        ("galip.load(device='cuda')", "engine torch needs torch"),
        ("latent.best_of(pipe, 'a', 2, clip='x/y')", "--clip x/y needs torch"),
    ],
)
def test_what_needs_torch_says_so_in_one_line(call: str, message: str) -> None:
    code = f"""
import galip
from galip import latent
from generation.linear_backend import LinearBackend
from galip.generation.pipeline import TextToImage
pipe = TextToImage(LinearBackend())
try: {call}
except galip.errors.GalipError as error: print(error)
"""
    told = run_blocked("import galip.errors\n" + code)
    assert message in told
    assert "pip install '.[torch]'" in told
    assert "\n" not in told
