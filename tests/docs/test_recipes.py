"""docs/recipes: every file does what it says, as far as one machine can tell."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "docs" / "recipes"


def load(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_comfyui_calls_its_nodes_as_it_does() -> None:
    """As ComfyUI's executor: inputs by the names of INPUT_TYPES, one result for each of RETURN_TYPES."""
    nodes = load(RECIPES / "comfyui" / "__init__.py", "comfyui_galip")
    assert set(nodes.NODE_CLASS_MAPPINGS) == set(nodes.NODE_DISPLAY_NAME_MAPPINGS)

    def execute(name: str, **linked: Any) -> Any:
        node = nodes.NODE_CLASS_MAPPINGS[name]
        inputs = {}
        for key, (kind, *options) in node.INPUT_TYPES()["required"].items():
            inputs[key] = linked.get(key, kind[0] if isinstance(kind, list) else (options or [{}])[0].get("default"))
        results = getattr(node(), node.FUNCTION)(**inputs)
        assert len(results) == len(node.RETURN_TYPES)
        return results[0]

    pipe = execute("GALIPLoader", engine="onnxruntime")
    images = execute("GALIPGenerate", model=pipe, images=2, seed=5)
    own = np.stack([np.asarray(image) for image in pipe("3d emoji of red heart", 2, seed=5).images])
    assert images.shape == (2, 64, 64, 3) and np.abs(images.numpy() * 255 - own).max() <= 0.5
    assert execute("GALIPGenerate", model=pipe, size=96).shape == (1, 96, 96, 3)


def test_the_space_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for gradio, which only keeps what it is given."""
    gradio = types.ModuleType("gradio")
    for name in ("Interface", "Textbox", "Slider", "Number", "Gallery"):
        setattr(gradio, name, type(name, (), {"__init__": lambda self, *args, **given: vars(self).update(args=args)}))
    gradio.Error = type("Error", (Exception,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    app = load(RECIPES / "space" / "app.py", "space_app")
    (generate,) = app.demo.args
    images, seeds = generate("a red heart", 3.0, 7.0, 1.0)
    assert len(images) == 3 and isinstance(images[0], Image.Image) and seeds == "seeds 7 to 9"
    with pytest.raises(gradio.Error, match="empty"):  # type: ignore[attr-defined]
        generate("", 1, -1, 1.0)
    settings = yaml.safe_load((RECIPES / "space" / "README.md").read_text().split("---")[1])
    assert settings["sdk"] == "gradio" and (RECIPES / "space" / settings["app_file"]).is_file()


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    notebook = json.loads((RECIPES / "colab.ipynb").read_text())
    assert notebook["nbformat"] == 4 and not any(cell.get("outputs") for cell in notebook["cells"])
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    ended = subprocess.run(
        [sys.executable, "-c", "\n\n".join(cells)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_kubernetes_names_an_application_that_is_there() -> None:
    resource = yaml.safe_load((RECIPES / "rayservice.yaml").read_text())
    (application,) = yaml.safe_load(resource["spec"]["serveConfigV2"])["applications"]
    module, name = application["import_path"].split(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None and f"def {name}(args" in Path(str(spec.origin)).read_text()
    documented = (ROOT / "docs" / "cluster.md").read_text()
    assert all(f"{key}:" in documented for key in application["args"])


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
@pytest.mark.parametrize("ends", ["by itself", "by its time limit"])
def test_slurm_starts_torchrun_and_goes_on_after_its_limit(tmp_path: Path, ends: str) -> None:
    """With stand-ins for Slurm's commands and torchrun."""
    commands = {
        "scontrol": f'if [ "$1" = show ]; then echo node7; echo node8; else echo "$@" >> {tmp_path}/requeued; fi',
        "srun": 'shift; exec "$@"',
        "torchrun": f'echo "$@" > {tmp_path}/argv; trap "echo saved > {tmp_path}/saved; exit 0" TERM\n'
        + ("exit 0" if ends == "by itself" else "while :; do sleep 0.05; done"),
    }
    for name, text in commands.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "node[7-8]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "11", "SLURM_GPUS_ON_NODE": "8"}
    environment = os.environ | slurm | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_RESTART_COUNT": "1"}
    job = subprocess.Popen(["bash", str(RECIPES / "train.sbatch"), "coco", "-o", "runs/a"], env=environment)
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "argv").exists() or not (tmp_path / "argv").read_text():
            assert time.monotonic() < until
            time.sleep(0.05)
        if ends == "by its time limit":
            time.sleep(0.5)  # until both have set their traps
            job.send_signal(signal.SIGTERM)
        assert job.wait(60) == 0
    finally:
        job.kill()
    said = (tmp_path / "argv").read_text()
    assert "--nnodes 2 --nproc_per_node 8" in said and "--rdzv_endpoint node7:29500" in said
    assert said.endswith("-m galip train coco -o runs/a --resume latest\n")
    assert (tmp_path / "saved").exists() == (tmp_path / "requeued").exists() == (ends == "by its time limit")
