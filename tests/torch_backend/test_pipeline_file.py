"""pipeline.py: diffusers loads a saved model where galip cannot be imported, and generates the same images."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tiny

from galip.torch_backend.pipeline import GALIPPipeline
from galip.torch_backend.pipeline_file import pipeline_source

WITHOUT_GALIP = """
import importlib.abc, sys

class NoGalip(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "galip" or name.startswith("galip."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoGalip())
import numpy as np
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained(sys.argv[1], custom_pipeline="pipeline", trust_remote_code=True)
prompts = ["a red heart", "two  birds &amp; a cat"]
output = pipe(prompts, 2, seed=7, output_type="np", batch_size=3)
assert output.seeds == [7, 8, 7, 8]
np.save(sys.argv[2], output.images)
assert pipe("a cat").images[0].size == (32, 32)
pipe.save_pretrained(sys.argv[3])
"""


@pytest.mark.parametrize("text", ["clip", "t5"])
def test_diffusers_alone_generates_the_same_images(tmp_path: Path, text: str) -> None:
    pipe = tiny.pipeline(text=text)
    pipe.save_pretrained(tmp_path / "model", graphs=False)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["HF_HOME"] = str(tmp_path / "hub")  # where diffusers keeps a copy of pipeline.py
    argv = [sys.executable, "-c", WITHOUT_GALIP, *(str(tmp_path / name) for name in ("model", "images.npy", "again"))]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    ours = pipe(["a red heart", "two birds & a cat"], 2, seed=7, output_type="np").images
    assert np.abs(np.load(tmp_path / "images.npy") - ours).max() <= 1e-5
    index = json.loads((tmp_path / "again" / "model_index.json").read_text())
    assert index["generator"] == ["galip.models.generator", "MateGenerator"]


def test_diffusers_loads_it_where_galip_is_installed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    from diffusers import DiffusionPipeline

    pipe = tiny.pipeline()
    pipe.save_pretrained(tmp_path / "model", graphs=False)
    loaded = DiffusionPipeline.from_pretrained(
        tmp_path / "model", custom_pipeline=str(tmp_path / "model" / "pipeline.py"), trust_remote_code=True
    )
    images = loaded("a red heart", seed=3, output_type="np").images
    assert np.abs(images - pipe("a red heart", seed=3, output_type="np").images).max() <= 1e-5
    assert isinstance(GALIPPipeline.from_pretrained(tmp_path / "model"), GALIPPipeline)


def test_joined_modules_have_no_name_twice_and_import_nothing_of_galip_but_to_see_whether_it_is_there() -> None:
    tree = ast.parse(pipeline_source())
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    names += [ast.unparse(node.targets[0]) for node in tree.body if isinstance(node, ast.Assign)]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    imported = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [line for line in imported if "galip" in line] == ["import galip.models.generator"]
    compile(pipeline_source(), "pipeline.py", "exec")
