"""What every test gets: no network, no GPU needed, quiet libraries, and no skip that nobody knows of."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.pop("GALIP_DEBUG", None)
if "PYTEST_XDIST_WORKER" in os.environ:  # each of several processes has a core to itself
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Converted models must not come from, or go to, the cache of whoever runs the tests.
os.environ["GALIP_CACHE"] = tempfile.mkdtemp(prefix="galip-tests-")
atexit.register(shutil.rmtree, os.environ["GALIP_CACHE"], ignore_errors=True)
# A shell starts what runs behind it with Ctrl-C ignored, and every command that a test starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


if find_spec("openvino") is None:  # of the extra export, which the tests marked `engines` need
    collect_ignore = ["export/test_graphs.py"]

_FORKING = ("data/", "data_prep/", "training/", "cli/test_data.py", "cli/test_train.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none, and say so; put tests that start processes by fork first.

    A process in which OpenVINO or ONNX Runtime has started its threads cannot be forked safely: workers hang or crash.
    Training never does both; this process would.
    """
    here = Path(__file__).parent
    items.sort(key=lambda item: not item.path.relative_to(here).as_posix().startswith(_FORKING))
    needing = [item for item in items if item.get_closest_marker("gpu")]
    if not needing:
        return
    import torch

    if not torch.cuda.is_available():
        for item in needing:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and this machine has none"))


SKIPS = Path(__file__).with_name("skips.txt")
_skipped: dict[str, str] = {}


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
        _skipped[report.nodeid] = str(report.longrepr[2]).removeprefix("Skipped: ")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


def unlisted_skips() -> list[str]:
    """Skips of this session that `skips.txt` does not allow."""
    lines = SKIPS.read_text(encoding="utf-8").splitlines()
    allowed = [line.split(None, 1) for line in lines if line.strip() and not line.startswith("#")]
    return [
        f"{test}: {reason}"
        for test, reason in _skipped.items()
        if not any(re.match(where, test) and reason == why for where, why in allowed)
    ]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skip that is not in the committed list fails the session."""
    if unlisted_skips() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which, above pytest's own closing line."""
    for line in unlisted_skips():
        terminalreporter.write_line(f"ERROR: a skip that tests/skips.txt does not list: {line}", red=True)
