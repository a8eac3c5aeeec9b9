"""The service under load and in trouble: full queues, clients that go away, workers that hang or die, the end."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import tiny
from PIL import Image
from serving.local_service import LocalService, serving, wait_for

import galip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[LocalService]:
    with serving(folder, max_batch=4, max_queue=8, max_n=8) as service:
        yield service


@pytest.fixture
def crowd() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as crowd:
        yield crowd


def pixels(response: httpx.Response) -> np.ndarray:
    data = base64.b64decode(response.json()["data"][0]["b64_json"])
    return np.asarray(Image.open(io.BytesIO(data)), dtype=np.int16)


def test_requests_at_the_same_time_share_batches_and_get_their_own_images(
    service: LocalService, crowd: ThreadPoolExecutor, folder: Path
) -> None:
    batches, images = service.metric("galip_batch_size_count"), service.metric("galip_pictures_total")
    with service.standing_still():
        answers = [crowd.submit(service.generate, f"picture {seed}", seed=seed) for seed in range(9)]
        # One batch may be with the worker already, the rest waits.
        wait_for(lambda: service.metric("galip_requests_running") == 10)  # and the one that asks
        time.sleep(0.2)
    found = [answer.result() for answer in answers]
    assert {answer.status_code for answer in found} <= {200, 429}
    generated = [seed for seed, answer in enumerate(found) if answer.status_code == 200]
    assert len(generated) >= 8
    assert service.metric("galip_pictures_total") - images == len(generated)
    assert service.metric("galip_batch_size_count") - batches < len(generated)
    pipe = galip.load(folder, engine="torch", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    for seed in generated:
        expected = np.asarray(pipe([f"picture {seed}"], seed=seed).images[0], dtype=np.int16)
        assert np.abs(pixels(found[seed]) - expected).max() <= 1


def test_beyond_the_queue_requests_are_shed_and_the_rest_is_served(
    service: LocalService, crowd: ThreadPoolExecutor
) -> None:
    with service.standing_still():
        answers = [crowd.submit(service.generate, seed=seed) for seed in range(30)]
        refused = [answer for answer in answers if _done(answer, 1.0) and answer.result().status_code == 429]
        assert service.client.get("/healthz").status_code == 200
        assert service.client.get("/readyz").status_code == 200
    assert len(refused) >= 30 - 8 - 4
    for answer in refused:
        assert 1 <= int(answer.result().headers["retry-after"]) <= 60
        assert answer.result().json()["error"]["code"] == "queue_full"
    assert [answer.result().status_code for answer in answers if answer not in refused].count(200) >= 8
    assert service.generate().status_code == 200


def test_whoever_goes_away_frees_the_place(service: LocalService) -> None:
    async def come_and_go() -> None:
        async with httpx.AsyncClient(base_url=service.url) as client:
            body = {"prompt": "a red heart", "n": 2}
            # They fit into the queue together, whether or not the worker has taken some of them already.
            tasks = [asyncio.create_task(client.post("/v1/images/generations", json=body)) for _ in range(4)]
            await asyncio.to_thread(wait_for, lambda: service.metric("galip_requests_running") == 5)  # and the one here
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    with service.standing_still():
        asyncio.run(come_and_go())
        # Long before the standing worker's time is up, which would empty the queue too.
        wait_for(lambda: service.metric("galip_queue_pictures") == 0, 15)
        assert (
            'galip_requests_total{endpoint="/v1/images/generations",status="499"}'
            in service.client.get("/metrics").text
        )
    assert service.generate().status_code == 200


def test_a_video_takes_turns_with_other_requests(service: LocalService, crowd: ThreadPoolExecutor) -> None:
    keyframes = [{"prompt": "a red heart", "seed": seed} for seed in range(20)]
    body = {"keyframes": keyframes, "frames": 50, "output_format": "png"}
    video = crowd.submit(service.client.post, "/v1/images/interpolations", json=body)
    wait_for(lambda: service.metric("galip_queue_pictures") + service.metric("galip_requests_running") > 1)
    answers = [service.generate(seed=seed).status_code for seed in range(5)]
    assert not video.done()
    assert answers == [200] * 5
    assert len(video.result().json()["data"]) == 951


def test_a_dead_worker_loses_only_what_it_was_generating(folder: Path, crowd: ThreadPoolExecutor) -> None:
    with serving(folder, max_batch=1, time_limit=600.0) as service:  # a replacement takes its time on a busy machine
        before = service.worker()
        with service.standing_still() as pid:
            answers = [crowd.submit(service.generate, seed=seed) for seed in range(4)]
            wait_for(lambda: service.metric("galip_queue_pictures") == 3)
            os.kill(pid, signal.SIGKILL)
            found = [answer.result() for answer in answers]
        assert sorted(answer.status_code for answer in found) == [200, 200, 200, 500]
        lost = next(answer for answer in found if answer.status_code == 500)
        assert lost.json()["error"]["code"] == "worker_lost"
        assert service.metric("galip_workers_lost_total") == 1
        assert service.worker() != before
        assert service.metric("galip_workers") == 1


def test_with_two_workers_the_other_one_goes_on(folder: Path) -> None:
    with serving(folder, workers=2, max_batch=1) as service:
        wait_for(lambda: service.metric("galip_workers") == 2)
        os.kill(service.worker(), signal.SIGKILL)
        statuses = [service.generate(seed=seed).status_code for seed in range(6)]
        assert statuses.count(500) <= 1
        assert service.client.get("/readyz").status_code == 200
        wait_for(lambda: service.metric("galip_workers") == 2)


def test_what_hangs_is_ended_when_its_time_is_up(folder: Path) -> None:
    with serving(folder, time_limit=1.0) as service:
        pid = service.worker()
        with service.standing_still():
            answer = service.generate()
            assert answer.status_code in (500, 504)
            assert answer.json()["error"]["code"] in ("worker_lost", "timeout")
            wait_for(lambda: not Path(f"/proc/{pid}/stat").exists() or _is_zombie(pid))
        wait_for(lambda: service.client.get("/readyz").status_code == 200)
        wait_for(lambda: service.generate().status_code == 200)


# ---- the command


@contextlib.contextmanager
def command(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`galip serve`, ready, and its address."""
    words = [sys.executable, "-m", "galip", "serve", "--model", str(folder), "--port", "0", "--engine", "torch"]
    process = subprocess.Popen([*words, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("galip: ").strip()
        assert url.startswith("http://127.0.0.1:")
        wait_for(lambda: httpx.get(url + "readyz").status_code == 200)
        yield process, url
    finally:
        process.kill()
        process.wait()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes through /proc")


@needs_proc
def test_sigterm_answers_what_was_asked_and_ends_everything(folder: Path, crowd: ThreadPoolExecutor) -> None:
    with command(folder) as (process, url):
        started = children(process.pid)
        worker = max(started, key=lambda pid: Path(f"/proc/{pid}/statm").read_text().split()[1].zfill(12))
        os.kill(worker, signal.SIGSTOP)
        body = {"prompt": "a red heart"}
        answer = crowd.submit(httpx.post, url + "v1/images/generations", json=body, timeout=60)
        wait_for(lambda: "galip_requests_running 2.0" in httpx.get(url + "metrics").text)
        process.terminate()
        time.sleep(0.5)
        assert process.poll() is None
        os.kill(worker, signal.SIGCONT)
        assert answer.result().status_code == 200
        assert process.wait(30) == 0
        wait_for(lambda: not any(_lives(pid) for pid in started))


@needs_proc
def test_workers_do_not_outlive_a_server_that_was_killed(folder: Path) -> None:
    with command(folder) as (process, _url):
        started = children(process.pid)
        assert started
        process.kill()
        process.wait()
        wait_for(lambda: not any(_lives(pid) for pid in started))


def test_a_model_that_cannot_be_loaded_ends_the_command(folder: Path, tmp_path: Path) -> None:
    broken = tiny.save(tmp_path / "broken")
    weights = broken / "generator" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[8:10] = b"}}"
    weights.write_bytes(bytes(data))
    words = [sys.executable, "-m", "galip", "serve", "--model", str(broken), "--port", "0", "--engine", "torch"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert "Error: " in ended.stderr.splitlines()[-1]
    assert str(broken) in ended.stderr.splitlines()[-1]


def _done(answer: Future[httpx.Response], seconds: float) -> bool:
    with contextlib.suppress(AssertionError):
        wait_for(answer.done, seconds)
    return answer.done()


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def _lives(pid: int) -> bool:
    try:
        return not _is_zombie(pid)
    except FileNotFoundError:
        return False
