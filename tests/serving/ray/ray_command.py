"""`galip serve --cluster ray` as a process of its own, and the processes that Ray starts for it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from serving.local_service import LocalService, wait_for

START = 600.0
"""Seconds that Ray and a replica may take to start on a machine with other things to do."""

WORKER = "ray::ServeReplica:galip:worker"


class RayService(LocalService):
    """What tests ask of the service on a Ray cluster of this machine.

    Attributes:
        process: the command.
    """

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        super().__init__(url, [])
        self.process = process

    def worker(self) -> int:
        """The process number of a worker's replica; 0 while there is none."""
        return next((pid for pid in descendants(self.process.pid) if title(pid).startswith(WORKER)), 0)


@contextlib.contextmanager
def command(folder: Path, *options: str) -> Iterator[RayService]:
    """The command, ready to draw."""
    words = [sys.executable, "-m", "galip", "serve", "--model", str(folder), "--port", "0", "--engine", "torch"]
    words += ["--device", "cpu", "--name", "tiny", "--cluster", "ray", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    log = folder.with_name(f"{folder.name}.log")
    with log.open("w") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, env=environment)
    try:
        wait_for(lambda: "galip: http" in log.read_text() or process.poll() is not None, START)
        url = re.findall(r"galip: (http://127\.0\.0\.1:[0-9]+)/", log.read_text())[0]
        wait_for(lambda: _ready(url), START)
        yield RayService(url, process)
    finally:
        started = descendants(process.pid)
        process.kill()
        process.wait()
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _ready(url: str) -> bool:
    time.sleep(0.5)  # a machine that is starting Ray has enough to do
    return httpx.get(url + "/readyz").status_code == 200


def descendants(pid: int) -> list[int]:
    """Every process that a process has started, and those that these have."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def title(pid: int) -> str:
    """What a process calls itself."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def listening(pids: list[int]) -> set[tuple[str, int]]:
    """The addresses and ports at which these processes listen; addresses as in /proc/net/tcp, bytes in hexadecimal."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            inodes |= {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()}
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                address, _, port = fields[1].partition(":")
                addresses.add((address, int(port, 16)))
    return addresses
