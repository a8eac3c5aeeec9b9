"""The routes below /v1: OpenAI's image API, and videos beside it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi import Request as HTTPRequest
from starlette.responses import Response

from galip import __version__
from galip.errors import GalipError
from galip.serving import videos
from galip.serving.http.errors import RequestError
from galip.serving.http.schemas import GenerationRequest, ImagesResponse, ModelCard, ModelList, VideoRequest
from galip.serving.http.service import MEDIA_TYPES, Service
from galip.serving.pool import EncodedImage, ImageRequest, WeightedPrompt
from galip.utils.video import check_video

IMAGE_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}, "image/jpeg": {}, "image/webp": {}}, "description": "The image."}
}
_VIDEO_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"content": {"video/mp4": {}, "image/webp": {}, "image/gif": {}}, "description": "The video."}
}


def add_image_routes(app: FastAPI, service: Service) -> None:
    """Add /v1/images and /v1/models to an app."""
    settings = service.settings

    @app.post("/v1/images/generations", response_model=ImagesResponse, tags=["images"])
    async def generate(asked: GenerationRequest, request: HTTPRequest) -> Response:
        """Generate images; OpenAI's request and answer, with `seed` and `truncation` beside."""
        service.check_model(asked.model)
        prompt, side = service.clean_prompt(asked.prompt), service.side(asked.size)
        if asked.n > settings.max_n:
            raise RequestError(
                400, f"n is {asked.n}, and at most {settings.max_n} images are generated", "n", "invalid_value"
            )
        seeds = service.seeds(asked.seed, asked.n)
        images = await service.generate(
            [
                ImageRequest(
                    (WeightedPrompt(prompt, seed),),
                    asked.truncation,
                    None if side is None else (side, side),
                    format=asked.output_format,
                    quality=asked.output_compression,
                )
                for seed in seeds
            ]
        )
        data: list[dict[str, Any]] = []
        for image, seed in zip(images, seeds, strict=True):
            if asked.response_format == "url":
                address = request.url_for("linked_image", name=service.links.add(image))
                data.append({"url": str(address), "seed": seed})
            else:
                data.append({"b64_json": base64.b64encode(image.data).decode(), "seed": seed})
        return _images(data, images[0])

    @app.get("/v1/images/files/{name}", tags=["images"], response_class=Response, responses=IMAGE_ANSWER)
    async def linked_image(name: str) -> Response:
        """An image behind a link, for as long as it is kept."""
        image = service.links.get(name)
        if image is None:
            raise RequestError(404, "this image is not kept any more; generate it again", code="expired")
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(image.data, media_type=MEDIA_TYPES[image.format], headers=headers)

    @app.post("/v1/images/interpolations", tags=["images"], response_class=Response, responses=_VIDEO_ANSWER)
    async def interpolate(asked: VideoRequest) -> Response:
        """Make a video from image to image. The answer is the file itself, or, for `png`, its frames as JSON."""
        service.check_model(asked.model)
        side = service.side(asked.size)
        keyframes = [
            WeightedPrompt(service.clean_prompt(keyframe.prompt, f"keyframes.{number}.prompt"), keyframe.seed)
            for number, keyframe in enumerate(asked.keyframes)
        ]
        count = videos.num_frames(len(keyframes), asked.frames, asked.loop)
        if count > settings.max_frames:
            message = (
                f"this video would have {count} frames, and at most {settings.max_frames} are generated; use fewer"
            )
            raise RequestError(400, message, "frames", "invalid_value")
        info = service.pool.info()
        as_frames = asked.output_format == "png"
        if not as_frames:
            try:
                check_video(Path(f"video.{asked.output_format}"), asked.fps, side or info.image_size)
            except GalipError as error:
                raise RequestError(
                    400, f"output_format {asked.output_format}: {error}", "output_format", "invalid_value"
                ) from error
        requests = videos.frame_requests(
            keyframes, asked.frames, asked.loop, asked.easing, asked.truncation, side, "png" if as_frames else "rgb"
        )
        texts = {"model": info.name, "weights": info.weights, "galip": __version__}
        texts["keyframes"] = json.dumps([[frame.prompt, frame.seed] for frame in keyframes], ensure_ascii=False)
        with service.video_slot():
            images = videos.generate_frames(service.pool, requests, min(settings.max_batch, settings.max_queue))
            if as_frames:
                frames = await service.in_time(_all(images), settings.video_time_limit)
                return _images([{"b64_json": base64.b64encode(frame.data).decode()} for frame in frames], frames[0])
            video = await service.in_time(
                videos.encode_video(images, asked.output_format, asked.fps, texts), settings.video_time_limit
            )
        return Response(video, media_type=MEDIA_TYPES[asked.output_format])

    @app.get("/v1/models", tags=["models"])
    async def models() -> ModelList:
        """The one model that is served."""
        return ModelList(data=[ModelCard(id=service.pool.info().name)])

    @app.get("/v1/models/{model:path}", tags=["models"])
    async def model(model: str) -> ModelCard:
        """The same by its name."""
        service.check_model(model)
        return ModelCard(id=model)


def _images(data: list[dict[str, Any]], first: EncodedImage) -> Response:
    answer = {
        "created": int(time.time()),
        "data": data,
        "background": "opaque",
        "output_format": first.format,
        "size": f"{first.width}x{first.height}",
    }
    return Response(json.dumps(answer), media_type="application/json")


async def _all(images: AsyncIterator[EncodedImage]) -> list[EncodedImage]:
    return [image async for image in images]
