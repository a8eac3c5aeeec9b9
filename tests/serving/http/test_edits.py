"""Edits and variations: images that OpenAI's client brings, found by inversion in a process of their own."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import numpy as np
import openai
import pytest
import tiny
from openai.types.image_create_variation_params import ImageCreateVariationParams
from openai.types.image_edit_completed_event import ImageEditCompletedEvent
from openai.types.image_edit_params import ImageEditParamsBase, ImageEditParamsStreaming
from PIL import Image
from serving.local_service import LocalService, serving

import galip
from galip.latent.inversion import psnr
from galip.serving.http.schemas import EditForm, VariationForm

HEART = "a red heart"
NOT_HERE = {"complexity", "frame_count", "frame_duration_ms", "svg", "image", "mask", "markup"}
"""Of the client's fields: those of other services, the files, and what is refused."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[LocalService]:
    limits = {"edit_steps": 100, "max_size": 96, "max_n": 4, "max_edits": 2, "max_upload": 64 * 1024}
    with serving(folder, edits=True, **limits) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: LocalService) -> openai.OpenAI:
    return openai.OpenAI(base_url=service.url + "/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def own(folder: Path) -> Image.Image:
    """An image that the model generated, so that it can be found again."""
    return galip.load(folder, engine="torch", device="cpu")(HEART, seed=3).images[0]


@pytest.fixture(scope="module")
def upload(own: Image.Image) -> tuple[str, bytes]:
    file = io.BytesIO()
    own.save(file, "PNG")
    return "heart.png", file.getvalue()


def pixels(image: Any) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(base64.b64decode(image.b64_json))) as opened:
        return np.asarray(opened.convert("RGB"))


def error(response: httpx.Response) -> dict[str, Any]:
    return dict(response.json()["error"])


def test_every_field_of_the_installed_client_is_known() -> None:
    """A new release of the client that has more fields fails here, and says which."""
    known = {*get_type_hints(ImageEditParamsBase), *get_type_hints(ImageEditParamsStreaming)}
    assert known - set(EditForm.model_fields) - NOT_HERE == set()
    assert set(get_type_hints(ImageCreateVariationParams)) - set(VariationForm.model_fields) == {"image"}


def test_variations_lie_around_the_image(client: openai.OpenAI, own: Image.Image, upload: tuple[str, bytes]) -> None:
    near = client.images.create_variation(image=upload, n=2, extra_body={"seed": 5, "amount": 0.0}).data or []
    far = client.images.create_variation(image=upload, n=2, extra_body={"seed": 5, "amount": 1.0}).data or []
    found, again = map(pixels, near)
    assert np.array_equal(found, again)
    assert [image.seed for image in far] == [5, 6]  # type: ignore[attr-defined]
    assert not np.array_equal(*map(pixels, far))
    assert psnr(found, np.asarray(own)) > psnr(pixels(far[0]), np.asarray(own)) + 4


def test_an_edit_goes_towards_the_prompt(client: openai.OpenAI, upload: tuple[str, bytes]) -> None:
    def edited(strength: float) -> np.ndarray[Any, Any]:
        answer = client.images.edit(image=[upload], prompt="a blue car", extra_body={"strength": strength})
        return pixels((answer.data or [])[0])

    (found,) = client.images.create_variation(image=upload, extra_body={"amount": 0}).data or []
    assert np.array_equal(edited(0.0), pixels(found))
    assert not np.array_equal(edited(1.0), pixels(found))


def test_an_edit_is_answered_like_a_generation(client: openai.OpenAI, upload: tuple[str, bytes]) -> None:
    answer = client.images.edit(
        image=upload, prompt=HEART, size="96x64", output_format="webp", model="tiny", n=2, input_fidelity="high"
    )  # type: ignore[call-overload]
    assert (answer.size, answer.output_format, len(answer.data)) == ("96x64", "webp", 2)
    with Image.open(io.BytesIO(base64.b64decode(answer.data[1].b64_json))) as image:
        assert (image.format, image.size) == ("WEBP", (96, 64))
    raw = client.images.with_raw_response.edit(image=upload, prompt=HEART, complexity="low")
    assert raw.headers["x-ignored-fields"] == "complexity"
    link = client.images.create_variation(image=upload, response_format="url").data or []
    assert httpx.get(link[0].url or "").headers["content-type"] == "image/png"


def test_an_edit_may_be_streamed(client: openai.OpenAI, upload: tuple[str, bytes]) -> None:
    events = list(client.images.edit(image=upload, prompt=HEART, n=2, stream=True))
    assert [event.type for event in events] == ["image_edit.completed"] * 2
    assert all(isinstance(event, ImageEditCompletedEvent) for event in events)


@pytest.mark.parametrize(
    ("files", "fields", "param", "message"),
    [
        ({}, {"prompt": HEART}, "image", "image is missing"),
        ({"image": b"not an image"}, {"prompt": HEART}, None, "image: "),
        ({"image": None}, {}, "prompt", "prompt is missing"),
        ({"image": None}, {"prompt": " "}, "prompt", "empty"),
        ({"image": None}, {"prompt": HEART, "n": "5"}, "n", "at most 4"),
        ({"image": None}, {"prompt": HEART, "n": "many"}, "n", "integer"),
        ({"image": None}, {"prompt": HEART, "strength": "2"}, "strength", "less than or equal to 1"),
        ({"image": None}, {"prompt": HEART, "size": "9x9"}, "size", "32 x 32"),
        ({"image": None, "mask": None}, {"prompt": HEART}, "mask", "as a whole"),
        ({}, {"prompt": HEART, "image": "heart.png"}, "image", "send a file"),
    ],
)
def test_wrong_forms_name_the_field(
    service: LocalService,
    upload: tuple[str, bytes],
    files: dict[str, bytes | None],
    fields: dict[str, str],
    param: str | None,
    message: str,
) -> None:
    sent = {name: ("image.png", upload[1] if content is None else content) for name, content in files.items()}
    response = service.client.post("/v1/images/edits", files=sent or {"other": ("x", b"x")}, data=fields)
    assert response.status_code == 400, response.text
    assert error(response)["param"] == param
    assert message in error(response)["message"]


def test_what_is_no_form_is_refused(service: LocalService) -> None:
    assert service.client.post("/v1/images/edits", json={"prompt": HEART}).status_code == 400
    broken = service.client.post(
        "/v1/images/edits", content=b"--x", headers={"Content-Type": "multipart/form-data; boundary=y"}
    )
    assert (broken.status_code, error(broken)["type"]) == (400, "invalid_request_error")
    two = [("image[]", ("a.png", b"a")), ("image[]", ("b.png", b"b"))]
    assert "2 are given" in error(service.client.post("/v1/images/variations", files=two))["message"]


def test_uploads_are_bounded_before_they_are_read(service: LocalService) -> None:
    response = service.client.post("/v1/images/variations", files={"image": ("a.png", b"x" * 70_000)})
    assert (response.status_code, error(response)["code"]) == (413, "too_large")


def test_others_are_served_and_too_many_are_refused(service: LocalService, upload: tuple[str, bytes]) -> None:
    def vary(number: int) -> httpx.Response:
        file = io.BytesIO()
        Image.new("RGB", (32, 32), (number, 90, 200)).save(file, "PNG")  # a search each
        return service.client.post("/v1/images/variations", files={"image": ("a.png", file.getvalue())})

    with ThreadPoolExecutor(6) as crowd:
        answers = [crowd.submit(vary, number) for number in range(6)]
        assert service.generate().status_code == 200
        statuses = [answer.result().status_code for answer in answers]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 2


def test_it_takes_no_longer_than_it_may(folder: Path, upload: tuple[str, bytes]) -> None:
    with serving(folder, edits=True, edit_steps=10_000, edit_time_limit=3.0) as service:
        late = service.client.post("/v1/images/variations", files={"image": upload})
        assert (late.status_code, error(late)["code"]) == (504, "timeout")
        assert service.generate().status_code == 200


def test_where_nothing_edits_it_is_said(folder: Path, service: LocalService, upload: tuple[str, bytes]) -> None:
    with serving(folder) as plain:
        refused = plain.client.post("/v1/images/edits", files={"image": upload}, data={"prompt": HEART})
        assert (refused.status_code, error(refused)["code"]) == (501, "not_supported")
        assert "torch" in error(refused)["message"]
        assert plain.client.get("/app/facts").json()["edits"] is False
    assert service.client.get("/app/facts").json()["edits"] is True


def test_forms_are_described(service: LocalService) -> None:
    described = service.client.get("/openapi.json").json()["paths"]["/v1/images/edits"]["post"]
    schema = described["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert schema["required"] == ["image", "prompt"]
    assert schema["properties"]["image"]["format"] == "binary"
    assert {"400", "413", "429", "501", "504"} <= described["responses"].keys()
