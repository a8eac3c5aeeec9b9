"""The route of videos, which OpenAI's image API does not have."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import Response

from galip import __version__
from galip.errors import GalipError
from galip.serving import videos
from galip.serving.http.answers import frames_answer
from galip.serving.http.errors import RequestError
from galip.serving.http.images import Responses
from galip.serving.http.schemas import VideoRequest
from galip.serving.http.service import MEDIA_TYPES, Service
from galip.serving.pool import EncodedImage, WeightedPrompt
from galip.utils.video import check_video

_VIDEO_FILE: Responses = {
    200: {"content": {"video/mp4": {}, "image/webp": {}, "image/gif": {}}, "description": "The video."}
}


def add_video_routes(app: FastAPI, service: Service) -> None:
    """Add /v1/images/interpolations to an app."""
    settings = service.settings

    @app.post("/v1/images/interpolations", tags=["videos"], summary="Make a video", responses=_VIDEO_FILE)
    async def interpolate(asked: VideoRequest) -> Response:
        """A video from image to image. The answer is the file itself, or, for `png`, its frames as JSON."""
        headers = service.ignored_header(asked)
        service.check_model(asked.model)
        info = service.pool.info()
        size = service.size(asked.size) or (info.image_size, info.image_size)
        if size[0] != size[1]:
            raise RequestError(400, f"size {asked.size}: a video is square", "size", "invalid_value")
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
        as_frames = asked.output_format == "png"
        if not as_frames:
            try:
                check_video(Path(f"video.{asked.output_format}"), asked.fps, size[0])
            except GalipError as error:
                raise RequestError(
                    400, f"output_format {asked.output_format}: {error}", "output_format", "invalid_value"
                ) from error
        requests = videos.frame_requests(
            keyframes, asked.frames, asked.loop, asked.easing, asked.truncation, size[0], "png" if as_frames else "rgb"
        )
        texts = {"model": info.name, "weights": info.weights, "galip": __version__}
        texts["keyframes"] = json.dumps([[frame.prompt, frame.seed] for frame in keyframes], ensure_ascii=False)
        with service.video_slot():
            images = videos.generate_frames(service.pool, requests, min(settings.max_batch, settings.max_queue))
            if as_frames:
                return frames_answer(await service.in_time(_all(images), settings.video_time_limit), headers)
            video = await service.in_time(
                videos.encode_video(images, asked.output_format, asked.fps, texts), settings.video_time_limit
            )
        return Response(video, media_type=MEDIA_TYPES[asked.output_format], headers=headers)


async def _all(images: AsyncIterator[EncodedImage]) -> list[EncodedImage]:
    return [image async for image in images]
