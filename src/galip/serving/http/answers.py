"""Generated images as OpenAI's clients expect them: one JSON object, or a stream of events."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from pydantic import BaseModel
from starlette.responses import Response

from galip.serving.http.schemas import ImageData, ImageEvent, ImageOptions, ImagesResponse, TokenDetails, Usage
from galip.serving.pool import EncodedImage

EventType = Literal["image_generation.completed", "image_edit.completed"]
_QUALITIES = get_args(ImageEvent.model_fields["quality"].annotation)


def image_answer(
    images: Sequence[EncodedImage],
    seeds: Sequence[int | None],
    asked: ImageOptions,
    event: EventType,
    link: Callable[[EncodedImage], str],
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer to a request for images.

    Args:
        images: at least one, all of one size and format.
        seeds: of each image; None where it has no seed.
        asked: what was asked for.
        event: the name of a stream's events.
        link: keeps an image and gives its address, for `response_format` "url".
        headers: of the answer.
    """
    background: Any = "transparent" if asked.background == "transparent" else "opaque"
    safety = asked.safety_identifier or asked.user
    quality: Any = asked.quality if asked.quality in _QUALITIES else "auto"
    first = images[0]
    shown = {"background": background, "output_format": asked.output_format, "size": f"{first.width}x{first.height}"}
    if asked.stream:
        events = [
            ImageEvent(
                type=event,
                created_at=int(time.time()),
                b64_json=_base64(image),
                seed=seed,
                quality=quality,
                safety_identifier=safety,
                usage=_usage([image] if number == 0 else []),
                **shown,
            )
            for number, (image, seed) in enumerate(zip(images, seeds, strict=True))
        ]
        content = "".join(f"event: {event}\ndata: {_json(each)}\n\n" for each in events)
        return Response(
            content, media_type="text/event-stream", headers={"Cache-Control": "no-cache", **(headers or {})}
        )
    data = [
        ImageData(url=link(image), seed=seed)
        if asked.response_format == "url"
        else ImageData(b64_json=_base64(image), seed=seed)
        for image, seed in zip(images, seeds, strict=True)
    ]
    answer = ImagesResponse(
        created=int(time.time()),
        data=data,
        quality=None if quality == "auto" else quality,
        safety_identifier=safety,
        usage=_usage(images[:1]),  # all of a request are of one prompt
        **shown,
    )
    return Response(_json(answer), media_type="application/json", headers=dict(headers or {}))


def frames_answer(frames: Sequence[EncodedImage], headers: Mapping[str, str]) -> Response:
    """The frames of a video one by one, as JSON."""
    answer = {
        "created": int(time.time()),
        "data": [{"b64_json": _base64(frame)} for frame in frames],
        "background": "opaque",
        "output_format": frames[0].format,
        "size": f"{frames[0].width}x{frames[0].height}",
    }
    return Response(json.dumps(answer), media_type="application/json", headers=dict(headers))


def _usage(images: Sequence[EncodedImage]) -> Usage:
    tokens = sum(image.prompt_tokens for image in images)
    return Usage(
        input_tokens=tokens,
        input_tokens_details=TokenDetails(text_tokens=tokens),
        output_tokens_details=TokenDetails(text_tokens=0),
        total_tokens=tokens,
    )


def _base64(image: EncodedImage) -> str:
    return base64.b64encode(image.data).decode()


def _json(model: BaseModel) -> str:
    return model.model_dump_json(exclude_none=True)
