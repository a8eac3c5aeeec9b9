"""OpenAI's image API as the installed client has it: every field, streams, sizes, aliases, and what is told beside."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import numpy as np
import openai
import pytest
import tiny
from openai.types import ImagesResponse
from openai.types.image_gen_completed_event import ImageGenCompletedEvent
from openai.types.image_generate_params import ImageGenerateParamsBase, ImageGenerateParamsStreaming
from PIL import Image
from serving.local_service import LocalService, serving

import galip
from galip.generation.resize import fit_to
from galip.serving.encoding import encode_image
from galip.serving.http.schemas import WITHOUT_EFFECT, GenerationRequest
from galip.serving.pool import ImageRequest, WeightedPrompt

HEART = "a red heart"

NOT_HERE = {"complexity", "frame_count", "frame_duration_ms", "svg"}
"""Fields of OpenAI's that are named in a header and ignored: they plan, animate, or write SVG."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[LocalService]:
    with serving(folder, max_size=192, aliases=("gpt-image-1", "dall-e-3")) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: LocalService) -> openai.OpenAI:
    return openai.OpenAI(base_url=service.url + "/v1", api_key="none", max_retries=0)


def opened(b64_json: str | None) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(b64_json or "")))


def array(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image.convert("RGB"), np.int16)


# ---- fields


def test_every_field_of_the_installed_client_is_known() -> None:
    """A new release of the client that has more fields fails here, and says which."""
    known = {*get_type_hints(ImageGenerateParamsBase), *get_type_hints(ImageGenerateParamsStreaming)}
    ours = set(GenerationRequest.model_fields)
    assert known - ours - NOT_HERE == set()
    assert known >= NOT_HERE, "of NOT_HERE something is gone"
    assert set(WITHOUT_EFFECT) <= ours & known


def test_nulls_are_the_same_as_leaving_out(service: LocalService) -> None:
    fields = {*get_type_hints(ImageGenerateParamsBase), "stream"} - {"prompt", "user"}
    answer = service.generate(**dict.fromkeys(fields), user=None, seed=3, truncation=None)
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"] == service.generate(seed=3).json()["data"]


def test_the_answer_has_what_the_clients_type_has(client: openai.OpenAI, service: LocalService) -> None:
    answer = client.images.generate(
        prompt=HEART, n=2, quality="high", safety_identifier="somebody", user="ignored", output_format="webp"
    )
    assert isinstance(answer, ImagesResponse)
    assert (answer.background, answer.output_format, answer.size) == ("opaque", "webp", "32x32")
    assert (answer.quality, answer.safety_identifier) == ("high", "somebody")
    assert answer.usage is not None and answer.usage.input_tokens_details is not None
    assert answer.usage.input_tokens == answer.usage.input_tokens_details.text_tokens == answer.usage.total_tokens > 0
    assert answer.usage.output_tokens == 0
    longer = client.images.generate(prompt=HEART + " and a blue car on a green hill")
    assert longer.usage is not None and longer.usage.input_tokens > answer.usage.input_tokens
    plain = service.generate(user="me").json()
    assert "quality" not in plain and plain["safety_identifier"] == "me"
    assert opened((answer.data or [])[0].b64_json).format == "WEBP"


def test_compression_is_100_unless_asked_otherwise(service: LocalService) -> None:
    data = [
        service.generate(seed=1, size="96x96", output_format="jpeg", **fields).json()["data"]
        for fields in ({}, {"output_compression": 100}, {"output_compression": 60})
    ]
    assert data[0] == data[1] != data[2]


def test_unknown_fields_are_named_and_ignored(client: openai.OpenAI, service: LocalService) -> None:
    raw = client.images.with_raw_response.generate(
        prompt=HEART, complexity="low", svg={"model": "x"}, extra_body={"sede": 3, "seed": 5}
    )
    assert raw.headers["x-ignored-fields"] == "complexity,sede,svg"
    assert (raw.parse().data or [])[0].seed == 5  # type: ignore[attr-defined]
    assert "x-ignored-fields" not in service.generate().headers
    odd = service.generate(**{"a\r\nX-Evil: b": 1, "ü": 2})
    assert (odd.status_code, odd.headers.get("x-evil")) == (200, None)


def test_strict_refuses_them(folder: Path) -> None:
    with serving(folder, strict=True) as service:
        refused = service.generate(sede=3)
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "sede"
        assert service.generate(seed=3, quality="low").status_code == 200


# ---- streams


def test_a_stream_ends_with_the_images(client: openai.OpenAI) -> None:
    whole = client.images.generate(prompt=HEART, n=2, extra_body={"seed": 3})
    events = list(client.images.generate(prompt=HEART, n=2, stream=True, partial_images=2, extra_body={"seed": 3}))
    assert [event.type for event in events] == ["image_generation.completed"] * 2
    for event, image in zip(events, whole.data or [], strict=True):
        assert isinstance(event, ImageGenCompletedEvent)
        ImageGenCompletedEvent.model_validate(event.model_dump(), strict=True)
        assert event.b64_json == image.b64_json
        assert (event.size, event.background, event.output_format) == ("32x32", "opaque", "png")
    assert events[0].usage.total_tokens > 0  # type: ignore[union-attr]
    assert events[1].usage.total_tokens == 0  # type: ignore[union-attr]


def test_a_stream_that_cannot_begin_is_an_ordinary_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt="", stream=True)
    assert refused.value.param == "prompt"


# ---- sizes


@pytest.mark.parametrize("size", ["96x64", "64x96", "192x32"])
def test_a_size_that_is_not_square_is_padded_or_cropped(client: openai.OpenAI, folder: Path, size: str) -> None:
    own = galip.load(folder, engine="torch", device="cpu")(HEART, seed=3).images[0]
    width, height = map(int, size.split("x"))
    for fit in ("pad", "crop"):
        answer = client.images.generate(prompt=HEART, size=size, extra_body={"seed": 3, "fit": fit})  # type: ignore[call-overload]
        assert answer.size == size
        image = opened(answer.data[0].b64_json)
        assert image.size == (width, height)
        assert np.abs(array(image) - array(fit_to(own, (width, height), fit))).max() <= 2  # type: ignore[arg-type]


def test_padding_shows_all_of_an_image_and_cropping_its_middle() -> None:
    image = Image.new("RGB", (8, 8), (200, 10, 10))
    image.paste((0, 0, 255), (2, 2, 6, 6))
    wide = np.asarray(fit_to(image, (32, 16), "pad"))
    assert (wide[:, :8] == (200, 10, 10)).all() and (wide[:, 24:] == (200, 10, 10)).all()
    assert wide[8, 16, 2] > 200 > 50 > wide[8, 16, 0], "Lanczos swings a little"
    assert np.array_equal(wide[:, 8:24], np.asarray(image.resize((16, 16), Image.Resampling.LANCZOS)))
    tall = np.asarray(fit_to(image, (16, 32), "crop"))
    assert np.array_equal(tall, np.asarray(image.resize((32, 32), Image.Resampling.LANCZOS))[:, 8:24])


# ---- transparency


def test_the_alpha_channel_is_kept_where_it_is_asked_for() -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (2, 2, 6, 6))
    prompt = (WeightedPrompt(HEART, 3),)
    kept = Image.open(io.BytesIO(encode_image(image, ImageRequest(prompt, transparent=True), {}).data))
    assert kept.mode == "RGBA" and kept.getpixel((0, 0))[3] == 0 and kept.getpixel((4, 4)) == (0, 0, 255, 255)
    wide = encode_image(image, ImageRequest(prompt, size=(32, 16), transparent=True, format="webp"), {})
    padded = Image.open(io.BytesIO(wide.data))
    assert padded.size == (32, 16) and padded.getpixel((1, 1))[3] == 0 and padded.getpixel((16, 8))[3] > 200
    laid = Image.open(io.BytesIO(encode_image(image, ImageRequest(prompt), {}).data))
    assert laid.mode == "RGB" and laid.getpixel((0, 0)) == (255, 255, 255)


# ---- models


def test_a_model_has_aliases(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "gpt-image-1", "dall-e-3"]
    assert client.models.retrieve("gpt-image-1").id == "gpt-image-1"
    first, second = (
        client.images.generate(prompt=HEART, model=name, extra_body={"seed": 1}) for name in ("tiny", "dall-e-3")
    )
    assert first.data == second.data
    with pytest.raises(openai.NotFoundError):
        client.images.generate(prompt=HEART, model="gpt-image-2")


# ---- what is told beside


def test_every_answer_has_an_id_of_its_own(client: openai.OpenAI, service: LocalService) -> None:
    first, second = client.images.generate(prompt=HEART), client.images.generate(prompt=HEART)
    assert first._request_id and first._request_id.startswith("req_")
    assert first._request_id != second._request_id
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt="")
    assert refused.value.request_id and refused.value.request_id.startswith("req_")
    assert service.client.get("/").headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("path", ["/", "/docs", "/static/app.js", "/healthz", "/v1/models", "/openapi.json"])
def test_head_says_what_get_would(service: LocalService, path: str) -> None:
    got, head = service.client.get(path), service.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.headers["content-length"] == str(len(got.content))
    assert service.client.head("/nowhere").status_code == 404
    assert service.client.head("/v1/images/generations").status_code == 405


def test_the_description_states_errors_and_the_key(service: LocalService) -> None:
    described = service.client.get("/openapi.json").json()
    assert described["components"]["securitySchemes"]["key"] == {
        "type": "http",
        "scheme": "bearer",
        "description": "Asked for where the server was started with a key.",
    }
    assert "HTTPValidationError" not in json.dumps(described)
    ids, summaries = [], []
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            ids.append(operation["operationId"])
            summaries.append(operation["summary"])
            assert "422" not in operation["responses"]
            if method == "post":
                assert {"400", "401", "413", "429", "503"} <= operation["responses"].keys(), path
            if path in ("/healthz", "/readyz", "/metrics", "/v1/images/files/{name}"):
                assert "security" not in operation
            else:
                assert operation["security"] == [{}, {"key": []}], path
    assert len(set(ids)) == len(ids)
    assert "Generate images" in summaries and len(set(summaries)) == len(summaries)
    body = described["components"]["schemas"]["GenerationRequest"]
    assert body["required"] == ["prompt"]
    reference = described["paths"]["/v1/images/generations"]["post"]["responses"]["400"]["content"]
    assert reference == {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}
    for name in ("ErrorResponse", "ErrorDetails"):
        assert name in described["components"]["schemas"]


def test_an_error_has_the_described_shape(service: LocalService) -> None:
    found: httpx.Response = service.generate("")
    assert set(found.json()["error"]) == {"message", "type", "param", "code"}
