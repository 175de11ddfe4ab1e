"""Wire shapes: what every request body refuses, and how times are written."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer, model_validator

from bwenge.kit.storable import require_storable

Timestamp = Annotated[
    datetime,
    PlainSerializer(
        lambda value: value.astimezone(UTC).isoformat().replace("+00:00", "Z"), return_type=str, when_used="json"
    ),
]
"""RFC 3339 in UTC with `Z`."""


class RequestBody(BaseModel):
    """A body from a client: unknown fields are refused, and so is text that PostgreSQL cannot hold."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unstorable_text(cls, value: Any) -> Any:
        require_storable(value)
        return value


class ResponseBody(BaseModel):
    model_config = ConfigDict(from_attributes=True)
