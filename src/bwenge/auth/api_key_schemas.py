"""Wire shapes of API keys."""

from datetime import UTC, datetime
from typing import Annotated, Final
from uuid import UUID

from pydantic import AfterValidator, AliasChoices, AwareDatetime, Field

from bwenge.auth.api_keys import KeyRequest
from bwenge.auth.schemas import Name
from bwenge.kit.http.schemas import RequestBody, ResponseBody, Timestamp
from bwenge.kit.identity import Role

MAX_PERSONAS: Final = 100


def _in_utc(value: datetime) -> datetime:
    """A time of the year 9999 may be in no year that there is, in UTC."""
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("this time is too far away") from error


FutureTime = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class ApiKeyBody(RequestBody):
    name: Name
    role: Role = Field(description="At most one's own; lowered to one's own where that sinks later")
    persona_ids: list[UUID] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_PERSONAS,
        description="Confines the key to these personas and to the routes about personas, their documents and one's "
        "own sessions with them; without them it may use all that its maker may",
    )
    expires_at: FutureTime | None = Field(default=None, description="Without it the key lives until it is deleted")

    def request(self) -> KeyRequest:
        return KeyRequest(self.name, self.role, persona_ids=self.persona_ids, expires_at=self.expires_at)


class ApiKeyResponse(ResponseBody):
    key_id: UUID = Field(validation_alias=AliasChoices("id", "key_id"))
    prefix: str = Field(description="How the key begins", examples=["bwk_h3Xq0PzA"])
    name: str
    role: Role
    persona_ids: list[UUID] | None
    created_at: Timestamp
    expires_at: Timestamp | None
    last_used_at: Timestamp | None = Field(description="To the minute")
    created_by: UUID


class MadeApiKeyResponse(ApiKeyResponse):
    key: str = Field(description="Shown this once: it is stored as a hash")
