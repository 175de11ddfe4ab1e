"""Wire shapes: what every request body refuses, and how times are written."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, PlainSerializer, model_validator

from bwenge.kit.storable import require_storable

MAX_KEYS: Final = 100

Timestamp = Annotated[
    datetime,
    PlainSerializer(
        lambda value: value.astimezone(UTC).isoformat().replace("+00:00", "Z"), return_type=str, when_used="json"
    ),
]
"""RFC 3339 in UTC with `Z`."""


class RequestBody(BaseModel):
    """A body from a client: unknown fields are refused, and so is text that PostgreSQL cannot hold.

    An object of more than `MAX_KEYS` keys is refused before a finding is made of each of them.
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_as_a_whole(cls, value: Any) -> Any:
        _require_few_keys(value)
        require_storable(value)
        return value


def _require_few_keys(value: Any) -> None:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if len(item) > MAX_KEYS:
                raise ValueError(f"an object has at most {MAX_KEYS} keys")
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


class ResponseBody(BaseModel):
    model_config = ConfigDict(from_attributes=True)
