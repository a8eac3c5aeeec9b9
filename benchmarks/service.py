"""What the service costs beside the engine itself, and how it behaves when too much is asked of it.

    python benchmarks/service.py                     # the bundled model, the engine that `auto` means
    python benchmarks/service.py --engine torch --quick

Starts `galip serve` on this machine and asks over the loopback, from a process of its own that shares the cores. In
turns with it, the same engine is called directly, in batches of 16, and its pictures are made PNG and base64 as the
service's answers are.

- Saturation: 8 clients that ask for 4 pictures each, again and again; pictures a second, beside the direct call.
- Latency: 1, 8 and 64 clients that ask for one picture each; median, 95th and 99th percentile, pictures a second.
- Overload: ten times as many clients as at saturation. What does not fit is refused (429) and asked for again.
- Endurance: 10,000 requests of one picture; memory of server and worker before, in the middle and at the end.
- Accident: the worker is killed while 8 clients ask; requests lost, and seconds until pictures come again.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import RESULTS, median, table, write_result

from galip.utils.provenance import machine

MODEL = "emoji-64"
CAPTIONS = [
    f"{colour} {thing}" for colour in ("a red", "a blue", "a green") for thing in ("heart", "car", "apple", "cat")
]
AT_SATURATION, EACH = 8, 4
ROUNDS = 3
_DIRECT_BATCH = 16
_PAUSE_WHEN_REFUSED = 0.05


@dataclass
class Load:
    """What clients saw.

    Attributes:
        seconds: of each request that was answered.
        pictures: that came.
        refused: answers 429.
        failed: other errors, and connections that broke.
        took: seconds of it all.
    """

    seconds: list[float] = field(default_factory=list)
    pictures: int = 0
    refused: int = 0
    failed: int = 0
    took: float = 0.0

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return self.pictures / self.took

    def percentile(self, share: float) -> float:
        """Milliseconds."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(int(len(ordered) * share), len(ordered) - 1)]

    def summary(self) -> dict[str, Any]:
        """For the result's file."""
        return {
            "requests": len(self.seconds),
            "pictures_per_second": self.rate,
            "refused": self.refused,
            "failed": self.failed,
            **{f"p{round(100 * share)}_ms": self.percentile(share) for share in (0.5, 0.95, 0.99) if self.seconds},
        }


async def ask(port: int, clients: int, each: int, seconds: float = 0.0, requests: int = 0) -> Load:
    """Ask from `clients` connections, for a time or until so many requests have been answered.

    HTTP is spoken here by hand: a client library would take more of the two cores than the server does.
    """
    load, begun = Load(), time.perf_counter()
    left = requests

    async def one(number: int) -> None:
        nonlocal left
        reader = writer = None
        turn = number
        while (left > 0) if requests else (time.perf_counter() - begun < seconds):
            left -= 1
            turn += 1
            body = json.dumps({"prompt": CAPTIONS[turn % len(CAPTIONS)], "n": each, "seed": turn}).encode()
            asked = time.perf_counter()
            try:
                if writer is None or reader is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(_HEAD % len(body) + body)
                status, answer = await _read(reader)
            except (OSError, asyncio.IncompleteReadError):
                load.failed += 1
                reader = writer = None
                await asyncio.sleep(_PAUSE_WHEN_REFUSED)
                continue
            if status == 200:
                load.seconds.append(time.perf_counter() - asked)
                load.pictures += answer.count(b'"b64_json"')
            elif status == 429:
                load.refused += 1
                left += 1
                await asyncio.sleep(_PAUSE_WHEN_REFUSED)
            else:
                load.failed += 1
        if writer is not None:
            writer.close()

    await asyncio.gather(*(one(1000 * number) for number in range(clients)))
    load.took = time.perf_counter() - begun
    return load


_HEAD = (
    b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    return status, await reader.readexactly(length)


@contextlib.contextmanager
def service(engine: str, threads: int | None) -> Iterator[tuple[int, int]]:
    """`galip serve`: its port and process number."""
    command = [sys.executable, "-m", "galip", "serve", "--model", MODEL, "--port", "0", "--engine", engine]
    command += ["--log-level", "error"] + (["--threads", str(threads)] if threads else [])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().strip().rstrip("/").rpartition(":")[2])
        wait_until_ready(port)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(port: int) -> None:
    """Return when a picture comes."""
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if asyncio.run(ask(port, 1, 1, requests=1)).pictures:
                return
        time.sleep(0.1)


def direct(engine: str, threads: int | None, seconds: float) -> dict[str, Any]:
    """The engine without the service, in a process of its own: pictures a second, PNG and base64 included."""
    command = [sys.executable, __file__, "--direct", str(seconds), "--engine", engine]
    command += ["--threads", str(threads)] if threads else []
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def measure_direct(engine: str, threads: int | None, seconds: float) -> dict[str, Any]:
    """What the process of `direct` does."""
    import galip

    pipe = galip.load(MODEL, engine=engine, threads=threads)
    if hasattr(pipe, "set_progress_bar_config"):
        pipe.set_progress_bar_config(disable=True)

    def batch(first: int) -> None:
        captions = [CAPTIONS[(first // EACH) % len(CAPTIONS)]] * EACH
        captions = (captions * (_DIRECT_BATCH // EACH))[:_DIRECT_BATCH]
        for image in pipe(captions, seed=list(range(first, first + _DIRECT_BATCH)), batch_size=_DIRECT_BATCH).images:
            file = io.BytesIO()
            image.save(file, "PNG", compress_level=1)
            base64.b64encode(file.getvalue()).decode()

    for number in range(3):
        batch(number)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        batch(count)
        count += _DIRECT_BATCH
    return {"pictures_per_second": count / (time.perf_counter() - begun), "engine": getattr(pipe, "engine", "torch")}


def memory(pid: int) -> dict[str, float]:
    """MiB of the server and of all its workers together."""

    def resident(one: int) -> float:
        return int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    return {"server": resident(pid), "workers": sum(resident(child) for child in children(pid))}


def children(pid: int) -> list[int]:
    """Process numbers."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def accident(port: int, pid: int, seconds: float) -> dict[str, Any]:
    """Kill the largest child, which is the worker, in the middle of a load."""
    worker = max(children(pid), key=lambda child: int(Path(f"/proc/{child}/statm").read_text().split()[1]))

    load, again = asyncio.run(_with_accident(port, worker, seconds))
    return {"lost_requests": load.failed, "answered_requests": len(load.seconds), "seconds_until_drawn_again": again}


async def _with_accident(port: int, worker: int, seconds: float) -> tuple[Load, float]:
    loading = asyncio.create_task(ask(port, AT_SATURATION, EACH, seconds))
    await asyncio.sleep(seconds / 4)
    os.kill(worker, signal.SIGKILL)
    killed, answered = time.perf_counter(), 0
    await asyncio.sleep(0.05)
    while not answered:
        answered = (await ask(port, 1, 1, requests=1)).pictures
    again = time.perf_counter() - killed
    return await loading, again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--quick", action="store_true", help="a tenth of the time; figures are rough")
    parser.add_argument("--direct", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS / "service.json")
    arguments = parser.parse_args()
    if arguments.direct is not None:
        print(json.dumps(measure_direct(arguments.engine, arguments.threads, arguments.direct)))
        return

    seconds, requests = (2.0, 1000) if arguments.quick else (15.0, 10_000)
    result: dict[str, Any] = {"machine": machine(), "model": MODEL, "direct": [], "saturation": []}
    with service(arguments.engine, arguments.threads) as (port, pid):
        for _ in range(ROUNDS):
            result["direct"].append(direct(arguments.engine, arguments.threads, seconds))
            result["saturation"].append(asyncio.run(ask(port, AT_SATURATION, EACH, seconds)).summary())
        result["latency"] = {
            str(clients): asyncio.run(ask(port, clients, 1, seconds)).summary() for clients in (1, 8, 64)
        }
        result["overload"] = asyncio.run(ask(port, 10 * AT_SATURATION, EACH, seconds)).summary()
        result["memory"] = [memory(pid)]
        for _ in range(2):
            endured = asyncio.run(ask(port, 32, 1, requests=requests // 2))
            result["memory"].append(memory(pid) | {"failed": endured.failed})
        result["accident"] = accident(port, pid, 2 * seconds)

    alone = median([one["pictures_per_second"] for one in result["direct"]])
    served = median([one["pictures_per_second"] for one in result["saturation"]])
    result["share_of_direct"] = served / alone
    result["engine"] = result["direct"][0]["engine"]
    rows = [
        [f"{result['engine']}, called directly, batches of {_DIRECT_BATCH}", alone, "", "", "", ""],
        _row(f"{AT_SATURATION} clients, n = {EACH}", _middle(result["saturation"])),
        *(_row(f"{clients} clients, n = 1", one) for clients, one in result["latency"].items()),
        _row(f"{10 * AT_SATURATION} clients, n = {EACH}", result["overload"]),
    ]
    print(table(["", "pictures a second", "p50, ms", "p95, ms", "p99, ms", "refused"], rows))
    print(f"\nat saturation {100 * result['share_of_direct']:.0f}% of the direct call")
    for at, one in zip((0, requests // 2, requests), result["memory"], strict=True):
        print(f"after {at} requests: server {one['server']:.0f} MiB, workers {one['workers']:.0f} MiB")
    lost = result["accident"]
    print(
        f"worker killed: {lost['lost_requests']} requests of {AT_SATURATION} clients lost, "
        f"pictures again after {lost['seconds_until_drawn_again']:.1f} s"
    )
    write_result(arguments.out, result)


def _middle(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    return sorted(summaries, key=lambda one: one["pictures_per_second"])[len(summaries) // 2]


def _row(name: str, one: dict[str, Any]) -> list[Any]:
    return [name, one["pictures_per_second"], one["p50_ms"], one["p95_ms"], one["p99_ms"], one["refused"]]


if __name__ == "__main__":
    main()
