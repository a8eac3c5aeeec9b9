"""Texts of any origin on any terminal, bars where a person looks, and an orderly end."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from rich.table import Table

from galip.utils import terminal
from galip.utils.terminal import Console, amount, note, printable, progress_bars, say, say_json, session

NASTY = "a[/red]b [link=x]c[/] :smile: \x1b[31mred\x1b]0;title\x07 \x9b2J \r\u202egnp.\u2028 猫"
WRITTEN_OUT = "a[/red]b [link=x]c[/] :smile: \\x1b[31mred\\x1b]0;title\\x07 \\x9b2J \\r\\u202egnp.\\u2028 猫"


def test_control_characters_are_written_out() -> None:
    assert printable(NASTY) == WRITTEN_OUT
    assert printable("a\nb\tc") == "a\\nb\\tc"
    assert printable("a\nb", keep="\n") == "a\nb"
    assert printable("👩‍🚒 é ünïcödé 猫") == "👩‍🚒 é ünïcödé 猫"
    assert printable(7) == "7"


def test_a_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say(NASTY)
    note(f"{NASTY}\n{NASTY}")
    out, err = capsys.readouterr()
    assert out == WRITTEN_OUT + "\n"
    assert err == f"{WRITTEN_OUT}\\n{WRITTEN_OUT}\n"


def test_a_table_shows_its_cells_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(box=None)
    table.add_column(NASTY, no_wrap=True)
    table.add_row(NASTY)
    console = Console(width=200)
    console.print(table)
    console.print(NASTY)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [WRITTEN_OUT] * 3


def test_a_bar_shows_a_stage_as_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    with progress_bars() as progress:
        progress("one step", 1, 1)
        progress("measuring [/red]\x1b[31m", 1, 3)
        progress("measuring [/red]\x1b[31m", 3, 3)
        progress("unknown", 5, 0)
    shown = capsys.readouterr().err
    assert "measuring [/red]\\x1b[31m" in shown and "3/3" in shown and "unknown" in shown
    assert "one step" not in shown
    with Console(stderr=True).status(NASTY):
        pass
    assert "[/red]b [link=x]c[/] :smile: \\x1b[31mred" in capsys.readouterr().err


def test_no_bar_where_nobody_looks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with progress_bars() as progress:
        progress("measuring", 1, 3)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_bars(shown=False) as progress:
        progress("measuring", 1, 3)
    assert capsys.readouterr() == ("", "")


def test_what_is_printed_during_a_bar_goes_where_it_belongs() -> None:
    code = (
        "from galip.utils.terminal import progress_bars, say\n"
        "with progress_bars() as progress:\n"
        "    progress('generating', 1, 3)\n"
        "    say('path.png')\n"
    )
    environment = os.environ | {"FORCE_COLOR": "1"}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert told.stdout == "path.png\n"
    assert "generating" in told.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
)
def test_what_the_terminal_cannot_encode_is_replaced(environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from galip.utils.terminal import *\n"
        "from rich.table import Table\n"
        "with session():\n"
        "    say('é 猫 🙂 \\udcff'); note('猫'); say_json({'猫': '🙂'})\n"
        "    table = Table('é 猫'); table.add_row('🙂'); Console().print(table)\n",
        encoding="utf-8",
    )
    command = [sys.executable, str(script)]
    ended = subprocess.run(command, capture_output=True, check=False, env=os.environ | environment)
    assert ended.returncode == 0, ended.stderr
    first, *rest = ended.stdout.splitlines()
    assert b"\\u732b \\U0001f642 \\udcff" in first
    assert json.loads(b"\n".join(rest[:3])) == {"猫": "🙂"}
    assert ended.stderr.strip() == b"\\u732b"


def test_json_is_readable_where_that_can_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say_json({"a": "猫\x1b"}, indent=None)
    assert capsys.readouterr().out == '{"a": "猫\\u001b"}\n'
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    say_json({"a": "猫"}, indent=None)
    assert ascii_only.buffer.getvalue() == b'{"a": "\\u732b"}\n'


def test_messages_and_warnings_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("galip.somewhere")
    with session():
        logger.info("converting %s", "a[/red]\x1bb")
        logger.warning("it is slow")
        logger.debug("unseen")
        warnings.warn("two words\nand a line", UserWarning, stacklevel=1)
        warnings.warn("not for people", DeprecationWarning, stacklevel=1)
    logger.info("afterwards")
    assert capsys.readouterr().err.splitlines() == [
        "converting a[/red]\\x1bb",
        "Warning: it is slow",
        "Warning: two words\\nand a line",
    ]


def test_the_streams_and_handlers_are_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout.errors, signal.getsignal(signal.SIGTERM), list(logging.getLogger("galip").handlers)
    with session():
        assert sys.stdout.errors == "backslashreplace"
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert (sys.stdout.errors, signal.getsignal(signal.SIGTERM), logging.getLogger("galip").handlers) == before


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_terminated_command_tidies_up_and_its_workers_end_in_silence(name: str) -> None:
    code = (
        "import os, signal, sys, time\nfrom galip.utils.terminal import session\n"
        f"signal.signal(signal.{name}, signal.SIG_DFL)\n"  # whatever starts the tests may ignore it
        "with session():\n"
        "    worker = os.fork()\n"
        "    if not worker: time.sleep(60), os._exit(0)\n"
        "    try:\n"
        "        time.sleep(1)\n"  # what comes while a process is being forked is lost
        f"        os.kill(worker, signal.{name}); print(os.waitpid(worker, 0)[1], flush=True)\n"
        f"        os.kill(os.getpid(), signal.{name}); time.sleep(60)\n"
        "    finally: print('tidied')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=50)
    number = getattr(signal, name)
    assert ended.returncode == 128 + number
    assert ended.stdout.splitlines() == [str(int(number)), "tidied"]
    assert ended.stderr == ""


def test_amounts() -> None:
    assert [amount(number, "image") for number in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]


def test_nothing_prints_past_the_terminal() -> None:
    """Commands print through this module alone: `print` and rich's own console would show markup and control codes."""
    folder = Path(terminal.__file__).parents[1] / "cli"
    for path in folder.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "typer.echo" not in text and "rich.console" not in text, path
        assert " print(" not in text or path.name == "__init__.py", path
