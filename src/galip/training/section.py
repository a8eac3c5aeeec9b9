"""A part of the configuration's tree."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the tree: unknown fields are errors, values cannot change once they are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def given(self) -> dict[str, Any]:
        """The fields that are not None."""
        return {name: value for name, value in self if value is not None}
