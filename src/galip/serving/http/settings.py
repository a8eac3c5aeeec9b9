"""What whoever runs the service decides: limits, names and keys."""

from __future__ import annotations

import warnings
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

KEY_VARIABLE = "GALIP_API_KEY"
"""The environment variable that may hold a key: command lines and configuration files are seen by others."""

_RENAMED = {"max_films": "max_videos", "film_time_limit": "video_time_limit"}


class Settings(BaseModel):
    """The service's configuration. `galip serve` has an option for each field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_prompt: int = Field(500, ge=1, le=10_000, description="Characters of a prompt.")
    max_n: int = Field(16, ge=1, le=256, description="Images of one request.")
    max_size: int = Field(2048, ge=1, le=4096, description="Side in pixels that images are enlarged to at the most.")
    max_batch: int = Field(16, ge=1, le=256, description="Images generated at once.")
    max_queue: int = Field(64, ge=1, description="Images that may wait; beyond that requests get 429.")
    time_limit: float = Field(30.0, gt=0, description="Seconds that a request may take.")
    max_frames: int = Field(1200, ge=2, description="Frames of a video.")
    max_videos: int = Field(2, ge=1, description="Videos made at the same time; beyond that requests get 429.")
    video_time_limit: float = Field(300.0, gt=0, description="Seconds that a video may take.")
    max_body: int = Field(64 * 1024, ge=1024, description="Bytes of a request's body.")
    max_upload: int = Field(16 * 2**20, ge=1024, description="Bytes of a request that brings an image.")
    max_edits: int = Field(
        4, ge=1, description="Images that clients bring that may wait; beyond that requests get 429."
    )
    edit_steps: int = Field(100, ge=1, le=10_000, description="Steps of the search for what generates such an image.")
    edit_time_limit: float = Field(300.0, gt=0, description="Seconds that such a request may take.")
    link_lifetime: float = Field(3600.0, gt=0, description="Seconds for which an image's link works.")
    link_bytes: int = Field(64 * 2**20, ge=1, description="Memory for images behind links; the oldest go first.")
    origins: tuple[str, ...] = Field((), description="Other web pages' origins that may use the API, or *.")
    allowed_hosts: tuple[str, ...] = Field((), description="Names that requests may call this server by; none: any.")
    strict: bool = Field(False, description="Refuse fields that are unknown, instead of naming them in a header.")
    aliases: tuple[str, ...] = Field((), description="Further names that requests may call the model by.")
    api_keys: tuple[str, ...] = Field((), repr=False, description="Keys of which a request must give one; none: open.")

    @model_validator(mode="before")
    @classmethod
    def _take_old_names(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        for old in _RENAMED.keys() & values.keys():
            warnings.warn(
                f"{old} is now {_RENAMED[old]}; the old name goes with the next release", DeprecationWarning, 2
            )
        return {_RENAMED.get(name, name): value for name, value in values.items()}

    @model_validator(mode="after")
    def _a_request_must_fit_into_the_queue(self) -> Settings:
        if self.max_n > self.max_queue:
            raise ValueError(
                f"max_queue is {self.max_queue}, so a request for max_n={self.max_n} would never be let in"
            )
        return self
