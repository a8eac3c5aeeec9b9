"""What whoever runs the service decides: limits, names and keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

KEY_VARIABLE = "GALIP_API_KEY"
"""The environment variable that may hold a key: command lines and configuration files are seen by others."""


class Settings(BaseModel):
    """The service's configuration. `galip serve` has an option for each field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_prompt: int = Field(500, ge=1, le=10_000, description="Characters of a caption.")
    max_n: int = Field(16, ge=1, le=256, description="Pictures of one request.")
    max_size: int = Field(1024, ge=1, le=4096, description="Side in pixels that a picture is enlarged to at the most.")
    max_batch: int = Field(16, ge=1, le=256, description="Pictures drawn at once.")
    max_queue: int = Field(64, ge=1, description="Pictures that may wait; beyond that requests get 429.")
    time_limit: float = Field(30.0, gt=0, description="Seconds that a request may take.")
    max_frames: int = Field(1200, ge=2, description="Frames of a film.")
    max_films: int = Field(2, ge=1, description="Films made at the same time; beyond that requests get 429.")
    film_time_limit: float = Field(300.0, gt=0, description="Seconds that a film may take.")
    max_body: int = Field(64 * 1024, ge=1024, description="Bytes of a request's body.")
    link_lifetime: float = Field(3600.0, gt=0, description="Seconds for which a picture's link works.")
    link_bytes: int = Field(64 * 2**20, ge=1, description="Memory for pictures behind links; the oldest go first.")
    origins: tuple[str, ...] = Field((), description="Other web pages' origins that may use the API, or *.")
    api_keys: tuple[str, ...] = Field((), repr=False, description="Keys of which a request must give one; none: open.")

    @model_validator(mode="after")
    def _a_request_must_fit_into_the_queue(self) -> Settings:
        if self.max_n > self.max_queue:
            raise ValueError(
                f"max_queue is {self.max_queue}, so a request for max_n={self.max_n} would never be let in"
            )
        return self
