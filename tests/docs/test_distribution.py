"""The distribution: its metadata, and the Dockerfile's steps, run without docker."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
URL = "https://example.org/owner/galip"


def copied() -> list[str]:
    """What the build stage copies from the checkout."""
    lines = [line.split() for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and "--from" not in line]
    return [name for line in lines for name in line[1:-1]]


def test_relative_links_become_absolute() -> None:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = "[a](docs/a.md) ![b](docs/b.png) [c](https://x.org/c) [d](#d) [e](LICENSE)"
    assert module.absolute_links(text, URL) == (
        f"[a]({URL}/blob/main/docs/a.md) ![b]({URL}/raw/main/docs/b.png) [c](https://x.org/c) [d](#d) "
        f"[e]({URL}/blob/main/LICENSE)"
    )
    readme = module.absolute_links((ROOT / "README.md").read_text(), URL)
    assert not re.findall(r"\]\((?!https://|#)", readme)
    for name in re.findall(rf"\({re.escape(URL)}/(?:raw|blob)/main/([^)#]+)", readme):
        assert (ROOT / name).exists(), name


def test_texts_do_not_install_a_name_that_is_not_ours() -> None:
    files = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/*.py"), ROOT / "Dockerfile"]
    ours = re.compile(r"""pip install (?:-\S+ )*["']?galip\b(?![-/])""")
    assert [file for file in files if ours.search(file.read_text())] == []


def test_the_dockerfile_names_files_and_extras_that_are_there() -> None:
    assert all((ROOT / name).exists() for name in copied())
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = [name for found in re.findall(r"\.whl\)\[([\w,]+)\]", DOCKERFILE) for name in found.split(",")]
    assert asked and all(name in extras for name in asked)
    assert re.findall(r"^FROM .* AS (\w+)", DOCKERFILE, re.M) == ["build", "light", "gpu"]


@pytest.mark.slow  # builds a wheel
def test_the_dockerfiles_steps_make_a_wheel_that_generates(tmp_path: Path) -> None:
    source, wheels = tmp_path / "src", tmp_path / "wheels"
    source.mkdir()
    for name in copied():
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(wheels), "."]
    ended = subprocess.run(
        build, cwd=source, env=os.environ | {"PROJECT_URL": URL}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [name for name in opened.namelist() if name.endswith("METADATA")]
        metadata = message_from_bytes(opened.read(name))
        licences = [name for name in opened.namelist() if "/licenses/" in name]
    assert metadata["License-Expression"] == "MIT AND CC-BY-4.0" and len(licences) == 2
    assert f"Homepage, {URL}" in metadata.get_all("Project-URL", [])
    assert f"]({URL}/blob/main/docs/quickstart.md)" in str(metadata.get_payload())
    target = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True)
    environment = os.environ | {"PYTHONPATH": str(target)}
    argv = [sys.executable, "-m", "galip", "generate", "a red heart", "--seed", "0", "-o", str(tmp_path / "out")]
    ended = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert list((tmp_path / "out").glob("*.png"))
