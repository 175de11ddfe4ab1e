"""Wire shapes of groups."""

from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, model_validator

from bwenge.auth.schemas import Name
from bwenge.kit.http.schemas import RequestBody, ResponseBody, Timestamp

MAX_MEMBERS_ADDED = 200
MAX_PERSONAS_ADDED = 50


class GroupBody(RequestBody):
    name: Name
    owner_id: UUID | None = Field(default=None, description="Who teaches it; by default, whoever makes it")


class GroupChanges(RequestBody):
    """A field that is null or left out stays."""

    name: Name | None = None
    owner_id: UUID | None = Field(default=None, description="Only administrators give a group to somebody else")


class MembersBody(RequestBody):
    """One learner, or several at once."""

    user_id: UUID | None = None
    user_ids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_MEMBERS_ADDED)] | None = None

    @model_validator(mode="after")
    def _require_one_of_both(self) -> Self:
        if (self.user_id is None) == (self.user_ids is None):
            raise ValueError("give exactly one of user_id and user_ids")
        return self

    def ids(self) -> frozenset[UUID]:
        return frozenset(self.user_ids or () if self.user_id is None else (self.user_id,))


class PersonasBody(RequestBody):
    """One persona, or several at once."""

    persona_id: UUID | None = None
    persona_ids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_PERSONAS_ADDED)] | None = None

    @model_validator(mode="after")
    def _require_one_of_both(self) -> Self:
        if (self.persona_id is None) == (self.persona_ids is None):
            raise ValueError("give exactly one of persona_id and persona_ids")
        return self

    def ids(self) -> frozenset[UUID]:
        return frozenset(self.persona_ids or () if self.persona_id is None else (self.persona_id,))


class GroupResponse(ResponseBody):
    group_id: UUID = Field(validation_alias="id")
    name: str
    owner_id: UUID | None = Field(description="null when whoever taught it is gone")
    created_at: Timestamp
    updated_at: Timestamp


class MembersAdded(ResponseBody):
    """`added` are those of the learners who were not in the group before."""

    group_id: UUID
    user_ids: list[UUID]
    added: list[UUID]


class PersonasAdded(ResponseBody):
    """`added` are those of the personas that were not in the group before."""

    group_id: UUID
    persona_ids: list[UUID]
    added: list[UUID]


class GroupPersonaResponse(ResponseBody):
    persona_id: UUID = Field(validation_alias="id")
