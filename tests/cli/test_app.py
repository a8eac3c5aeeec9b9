"""The command's frame: lazy commands, clean errors, exit codes."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest
import typer

from galip import __version__, cli
from galip.errors import GalipError, InputError

HEAVY = ("torch", "numpy", "transformers", "diffusers", "PIL", "yaml")


def run(*argv: str) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    return caught.value.code


def use_command(monkeypatch: pytest.MonkeyPatch, function: object) -> None:
    """Put `function` in the place of `galip info`."""
    app = typer.Typer(add_completion=False)
    app.command("info")(function)  # type: ignore[type-var]
    monkeypatch.setattr(cli, "_import_command", lambda name: typer.main.get_command(app))


@pytest.mark.parametrize("argv", [["--help"], ["--version"], [], ["nonsense"]])
def test_help_imports_no_command_and_no_heavy_library(argv: list[str]) -> None:
    code = (
        f"import sys\nfrom galip.cli import main\ntry: main({argv})\nexcept SystemExit: pass\n"
        f"print([m for m in sys.modules if m in {HEAVY} or m.startswith('galip.cli.')], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.strip().splitlines()[-1] == "[]"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out
    for name, command in cli.COMMANDS.items():
        assert f"{name} " in shown and command.line in shown


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_is_there_and_keeps_its_heavy_imports_inside(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    function = getattr(importlib.import_module(f"galip.cli.{name}"), name)
    assert inspect.getdoc(function)
    assert run(name, "--help") == 0
    assert "Usage: galip " + name in capsys.readouterr().out
    code = f"import sys, galip.cli.{name}; print('torch' in sys.modules or 'transformers' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"galip {__version__}\n"


def test_python_dash_m() -> None:
    result = subprocess.run([sys.executable, "-m", "galip", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"galip {__version__}\n"


def test_an_unknown_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("generat") == 2
    error = capsys.readouterr().err
    assert "No such command 'generat'" in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (GalipError("model 'x': not there"), "Error: model 'x': not there"),
        (InputError("first\n  second\r\nthird"), "Error: first second third"),
        (PermissionError(13, "Permission denied", "out/demo"), "Error: out/demo: Permission denied"),
        (OSError(28, "No space left on device"), "Error: [Errno 28] No space left on device"),
    ],
)
def test_a_users_error_is_one_clean_line(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def info() -> None:
        raise error

    use_command(monkeypatch, info)
    assert run("info") == 2
    captured = capsys.readouterr()
    assert captured.err == line + "\n" and captured.out == ""


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def info() -> None:
        raise GalipError("with its traceback")

    use_command(monkeypatch, info)
    monkeypatch.setenv("GALIP_DEBUG", "1")
    with pytest.raises(GalipError, match="with its traceback"):
        cli.main(["info"])


def test_a_defect_of_ours_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def info() -> None:
        raise ZeroDivisionError

    use_command(monkeypatch, info)
    with pytest.raises(ZeroDivisionError):
        cli.main(["info"])


def test_an_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def info() -> None:
        raise KeyboardInterrupt

    use_command(monkeypatch, info)
    assert run("info") == 130


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m galip --help | true"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert result.stderr == ""
