"""`galip serve`: what is wrong is said in one line, before anything is loaded. The service itself: tests/serving."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import tiny
from cli.running import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny")


def error_of(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    ended = run(capsys, "serve", *argv)
    assert ended.code == 2
    line: str = ended.err.strip().splitlines()[-1]
    assert line.startswith("Error: ")
    return line


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model", "no/such/place"], "no/such/place"),
        (["--engine", "steam"], "steam"),
        (["--max-n", "100"], "a request for max_n=100 would never be let in"),
        (["--max-size", "0"], "--max-size 0: Input should be greater than or equal to 1"),
        (["--time-limit", "0"], "--time-limit 0"),
        (["--cluster", "slurm"], "'--cluster': Value error, 'slurm' is not one of 'ray'"),
        (["--log-level", "loud"], "'--log-level': Value error, 'loud' is not one of 'debug'"),
        (["--api-keys", "no-such-file"], "no-such-file: No such file or directory"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid: there is no such address"),
    ],
)
def test_mistakes_are_one_clean_line(capsys: pytest.CaptureFixture[str], argv: list[str], message: str) -> None:
    assert message in error_of(capsys, *argv)


def test_an_empty_file_of_keys_is_no_open_door(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GALIP_API_KEY", raising=False)
    keys = tmp_path / "keys.txt"
    keys.write_text("\n  \n")
    assert f"--api-keys {keys}: it holds no key" in error_of(capsys, "--model", folder, "--api-keys", keys)


def test_a_port_that_is_taken_is_told_before_the_model_is_loaded(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"127.0.0.1:{port} cannot be had" in error_of(capsys, "--model", folder, "--port", port)
