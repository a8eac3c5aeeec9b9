"""What people bring: names and texts with markup, control characters and letters that the terminal has not; SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
from cli.running import run
from PIL import Image

NASTY = "m[/red]x"


def galip(folder: Path, *argv: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """`galip ARGV...` in a folder, in a process of its own."""
    command = [sys.executable, "-m", "galip", *map(str, argv)]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False, env=os.environ | environment)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose name and card are full of traps."""
    folder = tiny.save(tmp_path_factory.mktemp("odd") / NASTY)
    (folder / "README.md").write_text('---\nlicense: "a[/red]\\e[31mb"\ndatasets: ["[x]\\e]0;title\\a"]\n---\n# T\n')
    (folder / "training.json").write_text(json.dumps({"name [/b]\x1b[2J": "v [/i]\x1b[2J", "images": 7}))
    return folder


@pytest.mark.parametrize(
    "argv",
    [
        ("generate", "a [/red] cat", "--seed", 0, "--best-of", 2),
        ("walk", "a cat", "a [/red] dog", "--frames", 2, "--seed", 0),
        ("grid", "a [/red] cat", "--seed", 0),
        ("info",),
        ("models",),
    ],
)
def test_names_and_texts_are_printed_as_they_are(
    odd: Path,
    tmp_path: Path,
    argv: tuple[object, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if argv[0] == "models":
        model: tuple[object, ...] = ()
    else:
        model = (odd,) if argv[0] == "info" else ("--model", odd, "--engine", "torch")
    ended = run(capsys, *argv, *model)
    assert ended.code == 0, ended.err
    assert "\x1b" not in ended.out + ended.err and "\x07" not in ended.out + ended.err
    if argv[0] == "info":
        assert "a[/red]\\x1b[31mb" in ended.out and "v [/i]\\x1b[2J" in ended.out and NASTY in ended.out


def test_an_error_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    ended = run(capsys, "info", f"{NASTY}\x1b[31m")
    assert ended.code == 2
    assert f"{NASTY}\\x1b[31m" in ended.err or f"{NASTY}\\\\x1b[31m" in ended.err
    assert "\x1b" not in ended.err and len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_what_the_terminal_cannot_encode_ends_no_command(tmp_path: Path, odd: Path, encoding: str) -> None:
    images = tmp_path / "data"
    images.mkdir()
    for number in range(3):
        Image.new("RGB", (40, 40), (80 * number, 0, 0)).save(images / f"{number}.png")
        (images / f"{number}.txt").write_text(f"square {number}")
    Image.new("RGB", (40, 40)).save(images / "\u732b.png")  # no caption, so that its name is printed
    ended = galip(tmp_path, "data", "prepare", "folder", images, "-o", tmp_path / "out", PYTHONIOENCODING=encoding)
    assert ended.returncode == 0, ended.stderr
    assert b"\\u732b.png" in ended.stdout
    argv = ("generate", "\u732b \U0001f642", "--best-of", 2, "--seed", 0, "--model", odd, "--engine", "torch")
    ended = galip(tmp_path, *argv, PYTHONIOENCODING=encoding)
    assert ended.returncode == 0 and b"Traceback" not in ended.stderr, ended.stderr
    assert b"\\u732b" in ended.stderr
    (path,) = ended.stdout.decode().splitlines()
    assert (tmp_path / path).is_file()


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("name", ["walk.webp", "walk.gif", "walk.mp4", "walk"])
def test_a_walk_that_is_terminated_leaves_nothing(tmp_path: Path, model: Path, name: str) -> None:
    goal = tmp_path / "made" / name
    argv = ["walk", "a cat", "two birds", "--frames", "1000000", "--batch-size", "4", "--seed", "0", "-o", str(goal)]
    command = [sys.executable, "-m", "galip", *argv, "--model", str(model), "--engine", "torch", "--threads", "1"]
    # A shell in the background ignores SIGINT; what is asked here is SIGTERM, which nobody ignores.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(4000):
            if goal.parent.is_dir() and any(part.stat().st_size for part in goal.parent.iterdir()):
                break
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM
    assert out == "" and "Traceback" not in err
    assert list(goal.parent.iterdir()) == []
