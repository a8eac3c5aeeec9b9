"""The service on Ray Serve: its options, its configuration, and the command on a cluster of this machine."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tiny
import yaml
from PIL import Image
from serving.local_service import wait_for
from serving.ray.ray_command import START, RayService, command, descendants, listening, title

import galip
from galip.errors import InputError
from galip.serving.model_worker import ModelSpec
from galip.serving.ray.cluster import Replicas, ServiceArguments, application, parse_replicas
from galip.serving.ray.connection import Cluster, allocate

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes through /proc")

BATCH, QUEUE = 4, 8
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


# ---- options


@pytest.mark.parametrize(("text", "replicas"), [("1", (1, 1)), (" 3", (3, 3)), ("1-4", (1, 4)), ("2-2", (2, 2))])
def test_replicas_are_a_number_or_a_range(text: str, replicas: tuple[int, int]) -> None:
    assert parse_replicas(text) == Replicas(*replicas)


@pytest.mark.parametrize("text", ["", "0", "0-4", "4-1", "-1", "1-", "1.5", "all", "1-4-8"])
def test_other_numbers_of_replicas_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--replicas"):
        parse_replicas(text)


def test_models_share_a_machine_and_take_gpus_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("galip.serving.ray.connection.usable_cores", lambda: 8)
    here = allocate(ModelSpec("m"), Cluster(True, 8, 0), 3)
    assert (here.spec.threads, here.cpus, here.gpus, here.spec.device) == (2, 2, 0, None)
    crowded = allocate(ModelSpec("m", threads=16), Cluster(True, 20, 0), 20)
    assert (crowded.spec.threads, crowded.cpus) == (16, 1)
    there = allocate(ModelSpec("m"), Cluster(False, 640, 8), 3)
    assert (there.spec.threads, there.cpus, there.gpus, there.spec.device) == (1, 1, 1, "cuda")
    assert allocate(ModelSpec("m", device="cpu"), Cluster(False, 640, 8), 3).gpus == 0
    assert allocate(ModelSpec("m", device="cuda"), Cluster(False, 640, 0), 3).gpus == 1  # machines may be added
    with pytest.raises(InputError, match="3 models at the same time need a GPU each, and there are 2"):
        allocate(ModelSpec("m"), Cluster(True, 8, 2), 3)
    with pytest.raises(InputError, match="cuda:1"):
        allocate(ModelSpec("m", device="cuda:1"), Cluster(True, 8, 2), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modle": "emoji-64"}, "modle"),
        ({"replicas": "none"}, "--replicas none"),
        ({"device": "cuda:1"}, "cuda:1"),
        ({"threads": 0}, "threads"),
        ({"settings": {"max_batch": 0}}, "settings.max_batch"),
        ({"settings": {"max_n": 64, "max_queue": 8}}, "would never be let in"),
    ],
)
def test_arguments_of_a_configuration_file_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        application(arguments)


@pytest.mark.cluster
def test_a_configuration_file_holds_what_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from galip.serving.ray.cluster import application\n"
        "app = application({'replicas': '2-5', 'device': 'cuda', 'settings': {'max_batch': 8, 'max_queue': 33}})\n"
    )
    built = tmp_path / "serve.yaml"
    words = [sys.executable, "-m", "ray.serve.scripts", "build", "--app-dir", str(tmp_path), "-o", str(built)]
    subprocess.run([*words, "mine:app"], check=True, capture_output=True)
    (config,) = yaml.safe_load(built.read_text())["applications"]
    assert config["route_prefix"] == "/"
    app, worker = sorted(config["deployments"], key=lambda deployment: str(deployment["name"]))
    scaling = worker["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (2, 5)
    assert scaling["target_ongoing_requests"] == 8
    assert (worker["max_ongoing_requests"], worker["max_queued_requests"]) == (16, 33 + 5 * 8)
    assert worker["ray_actor_options"]["num_gpus"] == 1
    assert app.get("num_replicas", 1) == 1


def configurations() -> list[dict[str, Any]]:
    """The configuration files of Serve in the guide, the one for Kubernetes too."""
    blocks = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text(encoding="utf-8").split("```yaml\n")[1:]
    found = [yaml.safe_load(block.partition("```")[0]) for block in blocks]
    return [yaml.safe_load(each["spec"]["serveConfigV2"]) if "spec" in each else each for each in found]


def test_the_guides_configurations_name_what_there_is() -> None:
    assert len(configurations()) == 2
    for configuration in configurations():
        (described,) = configuration["applications"]
        assert described["import_path"] == "galip.serving.ray.cluster:application"
        assert parse_replicas(ServiceArguments.model_validate(described["args"]).replicas).maximum > 1


@pytest.mark.cluster
def test_serve_takes_the_guides_configurations() -> None:
    from ray.serve.schema import ServeDeploySchema

    for configuration in configurations():
        ServeDeploySchema.model_validate(configuration)


# ---- the command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[RayService]:
    limits = ["--max-batch", str(BATCH), "--max-queue", str(QUEUE), "--max-n", "8", "--time-limit", "600"]
    with command(folder, *limits) as service:
        yield service


@pytest.fixture
def crowd() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as crowd:
        yield crowd


def on_ray(test: Any) -> Any:
    """Marks a test of the command."""
    return needs_proc(pytest.mark.cluster(test))


def pixels(response: httpx.Response, number: int = 0) -> np.ndarray[Any, Any]:
    data = base64.b64decode(response.json()["data"][number]["b64_json"])
    return np.asarray(Image.open(io.BytesIO(data)), dtype=np.int16)


@on_ray
def test_the_app_is_the_same_and_so_are_the_images(service: RayService, folder: Path) -> None:
    pipe = galip.load(folder, engine="torch", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    answer = service.generate("a red heart", n=3, seed=5)
    for number, expected in enumerate(pipe(["a red heart"], num_images_per_prompt=3, seed=5).images):
        assert np.abs(pixels(answer, number) - np.asarray(expected, dtype=np.int16)).max() <= 1
    facts = service.client.get("/app/facts").json()
    assert (facts["model"], facts["side"], facts["engine"]) == ("tiny", tiny.IMAGE_SIZE, "torch")
    assert "<html" in service.client.get("/").text
    refused = service.generate("", n=3)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "prompt")
    linked = service.generate("a red heart", response_format="url", seed=5).json()["data"][0]["url"]
    assert httpx.get(linked).content == base64.b64decode(answer.json()["data"][0]["b64_json"])
    assert service.metric("galip_workers") == 1


@on_ray
def test_ray_listens_on_this_machine_alone_but_for_the_replicas(service: RayService) -> None:
    pids = [service.process.pid, *descendants(service.process.pid)]
    replicas = [pid for pid in pids if title(pid).startswith("ray::ServeReplica")]
    assert replicas
    found = listening([pid for pid in pids if pid not in replicas])
    assert found
    assert {address for address, _ in found} <= LOOPBACK


@on_ray
def test_nobody_is_answered_by_a_replica_without_the_commands_token(service: RayService) -> None:
    import grpc

    pids = [service.process.pid, *descendants(service.process.pid)]
    replicas = [pid for pid in pids if title(pid).startswith("ray::ServeReplica")]
    open_to_all = {port for address, port in listening(replicas) if address not in LOOPBACK}
    assert open_to_all, (
        "Serve's replicas take calls of each other at all addresses; if not any more, say so in the docs"
    )
    for port in open_to_all:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/ray.serve.ASGIService/HandleRequest")
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", timeout=60)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


@on_ray
def test_nothing_is_reported_to_rays_makers(service: RayService) -> None:
    raylet = next(pid for pid in descendants(service.process.pid) if "raylet" in Path(f"/proc/{pid}/comm").read_text())
    assert "RAY_USAGE_STATS_ENABLED=0" in Path(f"/proc/{raylet}/environ").read_text().split("\0")


@on_ray
def test_requests_at_the_same_time_share_batches(service: RayService, crowd: ThreadPoolExecutor) -> None:
    batches, images = service.metric("galip_batch_size_count"), service.metric("galip_pictures_total")
    answers = [crowd.submit(service.generate, f"picture {seed}", seed=seed, size="512x512") for seed in range(10)]
    assert [answer.result().status_code for answer in answers] == [200] * 10
    generated = service.metric("galip_pictures_total") - images
    assert generated == 10
    assert service.metric("galip_batch_size_count") - batches <= generated / 2


@on_ray
def test_beyond_the_queue_requests_are_shed_and_the_rest_is_served(
    service: RayService, crowd: ThreadPoolExecutor
) -> None:
    """Requests of several images too: one that is let in halfway would be generated for nobody."""
    answers = [crowd.submit(service.generate, seed=seed, n=1 + seed % 4, size="1024x1024") for seed in range(60)]
    wait_for(lambda: service.metric("galip_queue_pictures") >= QUEUE)
    assert service.client.get("/readyz").status_code == 200
    found = [answer.result() for answer in answers]
    assert {answer.status_code for answer in found} == {200, 429}
    for refused in (answer for answer in found if answer.status_code == 429):
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json()["error"]["code"] == "queue_full"
    assert sum(len(answer.json()["data"]) for answer in found if answer.status_code == 200) >= BATCH + QUEUE - 4
    assert service.metric("galip_queue_pictures") == 0
    assert service.generate(n=8).status_code == 200


@on_ray
def test_whoever_goes_away_frees_the_place(service: RayService) -> None:
    async def come_and_go() -> None:
        async with httpx.AsyncClient(base_url=service.url) as client:
            body = {"prompt": "a red heart", "n": 6, "size": "1024x1024"}
            tasks = [asyncio.create_task(client.post("/v1/images/generations", json=body)) for _ in range(2)]
            await asyncio.to_thread(wait_for, lambda: service.metric("galip_queue_pictures") > BATCH)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    images = service.metric("galip_pictures_total")
    asyncio.run(come_and_go())
    wait_for(lambda: service.metric("galip_queue_pictures") == 0)
    assert service.generate().status_code == 200
    assert service.metric("galip_pictures_total") - images < BATCH + QUEUE


@on_ray
def test_a_dead_replica_loses_only_what_it_had_and_is_replaced(service: RayService, crowd: ThreadPoolExecutor) -> None:
    before, lost = service.worker(), service.metric("galip_workers_lost_total")
    held = 2 * BATCH
    answers = [crowd.submit(service.generate, seed=seed, size="1024x1024") for seed in range(held + 4)]
    wait_for(lambda: service.metric("galip_queue_pictures") > BATCH)
    os.kill(before, signal.SIGKILL)
    found = [answer.result() for answer in answers]
    statuses = [answer.status_code for answer in found]
    assert set(statuses) == {200, 500}
    assert 1 <= statuses.count(500) <= held
    assert all(answer.json()["error"]["code"] == "worker_lost" for answer in found if answer.status_code == 500)
    wait_for(lambda: service.client.get("/readyz").status_code == 200)
    assert service.generate().status_code == 200
    assert service.worker() != before
    assert service.metric("galip_workers_lost_total") == lost + 1


@on_ray
def test_sigterm_lets_a_video_be_finished_and_ends_everything(service: RayService, crowd: ThreadPoolExecutor) -> None:
    """The last one on this cluster."""
    keyframes = [{"prompt": "a red heart", "seed": seed} for seed in range(8)]
    body = {"keyframes": keyframes, "frames": 160, "output_format": "png"}
    video = crowd.submit(service.client.post, "/v1/images/interpolations", json=body)
    wait_for(lambda: service.metric("galip_queue_pictures") > 0)
    started = descendants(service.process.pid)
    service.process.terminate()
    wait_for(lambda: service.generate().status_code == 503)
    assert not video.done()
    assert len(video.result().json()["data"]) == 7 * 160 + 1
    assert service.process.wait(START) == 0
    wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in started))


@on_ray
def test_what_hangs_is_replaced_when_its_time_is_up(folder: Path) -> None:
    """A batch that takes longer than a request may is taken for one that will never end."""
    with command(folder, "--time-limit", "1", "--max-size", "4096") as service:
        before = service.worker()
        answer = service.generate(n=16, size="4096x4096")
        assert answer.status_code in (500, 504)
        assert answer.json()["error"]["code"] in ("worker_lost", "timeout")
        wait_for(lambda: service.worker() not in (0, before), START)
        wait_for(lambda: service.generate().status_code == 200, START)


@on_ray
def test_a_model_that_cannot_be_loaded_ends_the_command(tmp_path: Path) -> None:
    broken = tiny.save(tmp_path / "broken")
    config = broken / "generator" / "config.json"  # which nobody reads before a replica does
    config.write_text(json.dumps(json.loads(config.read_text()) | {"z_dim": tiny.Z_DIM + 1}))
    words = [sys.executable, "-m", "galip", "serve", "--model", str(broken), "--port", "0", "--engine", "torch"]
    ended = subprocess.run([*words, "--cluster", "ray"], capture_output=True, text=True, timeout=START, check=False)
    assert ended.returncode == 2
    assert "Error: " in ended.stderr.splitlines()[-1]
    assert str(broken) in ended.stderr.splitlines()[-1]
