"""The HTTP API with a real worker: what OpenAI's client gets, videos, errors, and what machines are told."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import openai
import pytest
import tiny
from PIL import Image
from serving.local_service import LocalService, serving

import galip
from galip.generation.noise import noise
from galip.latent import Keyframe, blend_noise, blend_sentences, walk
from galip.utils import image_io

HEART = "a red heart"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def pipe(folder: Path) -> galip.GALIPPipeline:
    pipe = galip.load(folder, engine="torch", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[LocalService]:
    with serving(folder, max_prompt=80, max_n=6, max_size=96, max_frames=40, max_videos=1, max_body=4096) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: LocalService) -> openai.OpenAI:
    return openai.OpenAI(base_url=service.url + "/v1", api_key="none", max_retries=0)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def array(image: Image.Image | bytes) -> np.ndarray[Any, Any]:
    image = opened(image) if isinstance(image, bytes) else image
    return np.asarray(image.convert("RGB"), dtype=np.int16)


def same(a: Image.Image | bytes, b: Image.Image | bytes) -> bool:
    """Whether two images are the same up to rounding: a batch of another size adds in another order."""
    return bool((np.abs(array(a) - array(b)) <= 1).all())


def error(response: httpx.Response) -> dict[str, Any]:
    found = response.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return dict(found)


# ---- OpenAI's client, unchanged


def test_the_official_client_gets_the_pipelines_images(client: openai.OpenAI, pipe: galip.GALIPPipeline) -> None:
    answer = client.images.generate(prompt=HEART, n=3, extra_body={"seed": 5, "truncation": 0.5})
    assert answer.data is not None
    images = [base64.b64decode(image.b64_json or "") for image in answer.data]
    expected = pipe([HEART], num_images_per_prompt=3, seed=5, truncation=0.5).images
    assert [opened(image).format for image in images] == ["PNG"] * 3
    assert all(same(got, wanted) for got, wanted in zip(images, expected, strict=True))
    assert not same(images[0], images[1])
    assert [image.seed for image in answer.data] == [5, 6, 7]  # type: ignore[attr-defined]


def test_without_a_seed_each_image_has_one_that_repeats_it(client: openai.OpenAI) -> None:
    first, second = (client.images.generate(prompt=HEART).data or [] for _ in range(2))
    assert first[0].seed != second[0].seed  # type: ignore[attr-defined]
    again = client.images.generate(prompt=HEART, extra_body={"seed": first[0].seed}).data or []  # type: ignore[attr-defined]
    assert again[0].b64_json == first[0].b64_json


def test_a_link_leads_to_the_image(client: openai.OpenAI) -> None:
    image = (client.images.generate(prompt=HEART, response_format="url", extra_body={"seed": 1}).data or [])[0]
    assert image.b64_json is None
    found = httpx.get(image.url or "")
    assert found.headers["content-type"] == "image/png"
    direct = (client.images.generate(prompt=HEART, extra_body={"seed": 1}).data or [])[0]
    assert found.content == base64.b64decode(direct.b64_json or "")


@pytest.mark.parametrize(("name", "format"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_formats(client: openai.OpenAI, name: Any, format: str) -> None:
    answer = client.images.generate(prompt=HEART, output_format=name)
    assert opened(base64.b64decode((answer.data or [])[0].b64_json or "")).format == format
    assert answer.output_format == name


def test_compression_is_heeded(service: LocalService) -> None:
    fine, coarse = (
        service.generate(seed=1, size="96x96", output_format="jpeg", output_compression=quality).json()["data"][0]
        for quality in (95, 5)
    )
    assert len(coarse["b64_json"]) < len(fine["b64_json"])


def test_sizes_are_reached_by_lanczos(client: openai.OpenAI, pipe: galip.GALIPPipeline) -> None:
    answer = client.images.generate(prompt=HEART, size="96x96", extra_body={"seed": 1})  # type: ignore[call-overload]
    assert answer.size == "96x96"
    own = pipe([HEART], seed=1).images[0]
    assert same(base64.b64decode(answer.data[0].b64_json), image_io.resized(own, 96))
    for size in ("auto", f"{tiny.IMAGE_SIZE}x{tiny.IMAGE_SIZE}"):
        answer = client.images.generate(prompt=HEART, size=size, extra_body={"seed": 1})  # type: ignore[call-overload]
        assert same(base64.b64decode(answer.data[0].b64_json), own)


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("dall-e-3")
    client.images.generate(prompt=HEART, model="tiny")
    with pytest.raises(openai.NotFoundError, match="only 'tiny'"):
        client.images.generate(prompt=HEART, model="dall-e-3")


def test_fields_of_openai_without_meaning_here_are_taken(client: openai.OpenAI) -> None:
    client.images.generate(
        prompt=HEART, quality="high", style="vivid", user="me", background="opaque", moderation="low"
    )


def test_a_file_says_what_made_it(service: LocalService) -> None:
    answer = service.generate(" a  red heart ", seed=9).json()
    texts = opened(base64.b64decode(answer["data"][0]["b64_json"])).info
    assert (texts["prompt"], texts["seed"], texts["model"]) == (HEART, "9", "tiny")


# ---- what is wrong with a request

WRONG: list[tuple[dict[str, Any], str | None, str]] = [
    ({}, "prompt", "prompt is missing"),
    ({"prompt": "   "}, "prompt", "empty"),
    ({"prompt": "x" * 81}, "prompt", "81 characters, and at most 80"),
    ({"prompt": "a\x00b"}, "prompt", "control character"),
    ({"prompt": 3}, "prompt", "string"),
    ({"prompt": HEART, "n": 0}, "n", "greater than or equal to 1"),
    ({"prompt": HEART, "n": 7}, "n", "at most 6"),
    ({"prompt": HEART, "size": "97x97"}, "size", "up to 96 x 96"),
    ({"prompt": HEART, "size": "16x16"}, "size", "images are 32 x 32"),
    ({"prompt": HEART, "size": "96x16"}, "size", "images are 32 x 32"),
    ({"prompt": HEART, "size": "../../etc"}, "size", "a size such as"),
    ({"prompt": HEART, "size": "64x64", "fit": "stretch"}, "fit", "pad"),
    ({"prompt": None}, "prompt", "prompt is missing"),
    ({"prompt": HEART, "seed": -1}, "seed", "greater than or equal to 0"),
    ({"prompt": HEART, "seed": 2**63}, "seed", "less than"),
    ({"prompt": HEART, "seed": 2**63 - 1, "n": 2}, "seed", "too large"),
    ({"prompt": HEART, "truncation": -1}, "truncation", "greater than or equal to 0"),
    ({"prompt": HEART, "response_format": "path"}, "response_format", "b64_json"),
    ({"prompt": HEART, "output_format": "tiff"}, "output_format", "png"),
    ({"prompt": HEART, "background": "transparent"}, "background", "no alpha channel"),
    ({"prompt": HEART, "stream": "perhaps"}, "stream", "boolean"),
    ({"prompt": HEART, "partial_images": 4}, "partial_images", "less than or equal to 3"),
    ({"prompt": HEART, "output_format": "gif"}, "output_format", "png"),
]


@pytest.mark.parametrize(("body", "param", "message"), WRONG, ids=[json.dumps(body)[:40] for body, _, _ in WRONG])
def test_wrong_requests_name_the_field(service: LocalService, body: Any, param: str | None, message: str) -> None:
    response = service.client.post("/v1/images/generations", json=body)
    assert response.status_code == 400
    found = error(response)
    assert found["type"] == "invalid_request_error"
    assert found["param"] == param
    assert message in found["message"]


@pytest.mark.parametrize("content", [b"{", b"[]", b"", b"\xff\xfe", b'{"prompt": "a", "truncation": NaN}'])
def test_a_body_that_is_no_object_is_refused(service: LocalService, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = service.client.post("/v1/images/generations", content=content, headers=headers)
    assert response.status_code == 400
    error(response)


def test_the_official_client_knows_the_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt=HEART, n=7)
    assert refused.value.param == "n"


def test_large_bodies_are_refused_before_they_are_read(service: LocalService) -> None:
    body = json.dumps({"prompt": "x" * 5000}).encode()
    told = service.client.post("/v1/images/generations", content=body)
    assert (told.status_code, error(told)["code"]) == (413, "too_large")
    parts = (body[start : start + 1000] for start in range(0, len(body), 1000))  # no length is told
    assert service.client.post("/v1/images/generations", content=parts).status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/images/generations", 405),
        ("POST", "/v1/images/edits", 501),
        ("GET", "/v1/images/files/unknown.png", 404),
        ("GET", "/v1/images/files/..%2F..%2Fetc%2Fpasswd", 404),
        ("GET", "/static/..%2Fapp.py", 404),
        ("GET", "/static/%2e%2e/app.py", 404),
    ],
)
def test_other_addresses_answer_in_the_same_shape(service: LocalService, method: str, path: str, status: int) -> None:
    response = service.client.request(method, path)
    assert response.status_code == status
    error(response)


# ---- what the page asks


def test_a_point_is_the_image_and_a_blend_is_controls(service: LocalService, pipe: galip.GALIPPipeline) -> None:
    points = [{"prompt": HEART, "seed": 3, "weight": 3}, {"prompt": "a blue car", "seed": 8, "weight": 1}]
    one = service.client.post("/app/draw", json={"points": points[:1]}).content
    assert same(one, pipe([HEART], seed=3).images[0])
    both = service.client.post("/app/draw", json={"points": points, "truncation": 0.7}).content
    z = blend_noise(noise([3, 8], tiny.Z_DIM), [3, 1])[None]
    e = blend_sentences(pipe.embed([HEART, "a blue car"]), [3, 1])[None]
    assert same(both, pipe.generate(z, e, truncation=0.7)[0])
    assert not same(one, both)


def test_an_address_shows_a_image_and_says_when_it_is_the_same(service: LocalService) -> None:
    address = "/app/draw?prompt=a+red+heart&seed=3"
    first = service.client.get(address)
    body = {"points": [{"prompt": HEART, "seed": 3}]}
    assert first.content == service.client.post("/app/draw", json=body).content
    again = service.client.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = service.client.get(address + "1", headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"points": []}, "points"),
        ({"points": [{"prompt": "x"}] * 33}, "points"),
        ({"points": [{"prompt": "x", "weight": 0}]}, "points"),
        ({"points": [{"prompt": "x", "weight": -1}]}, "points.0.weight"),
        ({"points": [{"prompt": "x"}, {"prompt": ""}]}, "points.1.prompt"),
        ({"points": [{"prompt": "x"}], "size": 4000}, "size"),
    ],
)
def test_wrong_points_are_named(service: LocalService, body: Any, param: str) -> None:
    response = service.client.post("/app/draw", json=body)
    assert response.status_code == 400
    assert error(response)["param"] == param


def test_facts_say_what_the_page_needs(service: LocalService) -> None:
    facts = service.client.get("/app/facts").json()
    assert facts["model"] == "tiny"
    assert (facts["side"], facts["max_size"], facts["max_n"], facts["engine"]) == (tiny.IMAGE_SIZE, 96, 6, "torch")


def test_pages_load_nothing_from_elsewhere(service: LocalService) -> None:
    for path in ("/", "/docs"):
        page = service.client.get(path)
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert "http" not in page.text.replace("http-equiv", "")
    for path in ("/static/app.js", "/static/swagger/swagger-ui-bundle.js", "/static/docs.js"):
        assert service.client.get(path).status_code == 200
    assert "/v1/images/generations" in service.client.get("/openapi.json").json()["paths"]


# ---- videos

KEYFRAMES = [{"prompt": HEART, "seed": 3}, {"prompt": "a blue car", "seed": 8}]


def make_video(service: LocalService, **fields: Any) -> httpx.Response:
    return service.client.post("/v1/images/interpolations", json={"keyframes": KEYFRAMES, "frames": 5, **fields})


@pytest.mark.parametrize("loop", [False, True])
def test_frames_of_a_video_are_those_of_a_walk(service: LocalService, pipe: galip.GALIPPipeline, loop: bool) -> None:
    answer = make_video(service, output_format="png", loop=loop, easing="smooth").json()
    frames = [base64.b64decode(image["b64_json"]) for image in answer["data"]]
    expected = walk(pipe, [Keyframe(HEART, 3), Keyframe("a blue car", 8)], 5, loop=loop, easing="smooth")
    assert len(frames) == len(expected)
    assert all(same(got, wanted) for got, wanted in zip(frames, expected, strict=True))


def test_a_video_has_its_frames_size_and_speed(service: LocalService) -> None:
    response = make_video(service, size=64, fps=10, output_format="mp4")
    assert response.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(response.content)) as video:
        stream = video.streams.video[0]
        assert (stream.width, stream.height, float(stream.average_rate or 0)) == (64, 64, 10.0)
        assert sum(1 for _ in video.decode(stream)) == 6


@pytest.mark.parametrize("format", ["webp", "gif"])
def test_animations(service: LocalService, format: str) -> None:
    response = make_video(service, output_format=format, fps=20)
    assert response.headers["content-type"] == f"image/{format}"
    assert opened(response.content).n_frames == 6  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"frames": 40}, "frames"),
        ({"keyframes": KEYFRAMES[:1]}, "keyframes"),
        ({"keyframes": [{"prompt": HEART}, {"prompt": " "}]}, "keyframes.1.prompt"),
        ({"easing": "bouncing"}, "easing"),
        ({"fps": 100, "output_format": "gif"}, "output_format"),
        ({"size": 33, "output_format": "mp4"}, "output_format"),
        ({"output_format": "avi"}, "output_format"),
    ],
)
def test_wrong_videos_are_refused_before_they_are_generated(service: LocalService, fields: Any, param: str) -> None:
    before = service.metric("galip_pictures_total")
    response = make_video(service, **fields)
    assert response.status_code == 400
    assert error(response)["param"] == param
    assert service.metric("galip_pictures_total") == before


# ---- keys, other origins


def test_a_key_is_asked_for_where_something_is_generated(folder: Path) -> None:
    with serving(folder, api_keys=("first key", "second"), origins=("https://example.org",)) as service:
        refused = service.generate()
        assert refused.status_code == 401
        assert error(refused)["code"] == "invalid_api_key"
        for key in ("first", "Second", "first key second"):
            assert service.client.get("/app/facts", headers={"Authorization": f"Bearer {key}"}).status_code == 401
        for path in ("/", "/static/app.js", "/healthz", "/readyz", "/metrics", "/docs"):
            assert service.client.get(path).status_code == 200
        for path in ("/static-not", "/metricsx", "/v1/models", "/v1/images/filesx"):
            assert service.client.get(path).status_code == 401
        client = openai.OpenAI(base_url=service.url + "/v1", api_key="second", max_retries=0)
        image = (client.images.generate(prompt=HEART, response_format="url").data or [])[0]
        assert httpx.get(image.url or "").status_code == 200  # the link is the secret

        asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
        allowed = service.client.options("/v1/images/generations", headers=asked)
        assert allowed.headers["access-control-allow-origin"] == "https://example.org"
        refused = service.client.options("/v1/images/generations", headers=asked | {"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in refused.headers


def test_a_key_is_asked_for_behind_a_proxys_path_too(folder: Path) -> None:
    with serving(folder, root_path="/pictures", api_keys=("key",)) as service:
        assert service.client.get("/").status_code == 200
        assert service.client.get("/app/facts").status_code == 401
        assert service.client.get("/app/facts", headers={"Authorization": "Bearer key"}).status_code == 200
