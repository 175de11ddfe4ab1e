"""Wire shapes of organisations, their members, and the ways in."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, AliasChoices, AwareDatetime, Field

from bwenge.auth.organizations import require_time_zone
from bwenge.auth.schemas import Email, Language, Name
from bwenge.kit.http.schemas import RequestBody, ResponseBody, Timestamp
from bwenge.kit.identity import Role

TimeZone = Annotated[
    str, Field(min_length=1, max_length=64, examples=["Africa/Kigali"]), AfterValidator(require_time_zone)
]


class OrganizationResponse(ResponseBody):
    org_id: UUID = Field(validation_alias="id")
    name: str
    time_zone: str = Field(examples=["Africa/Kigali"])
    language: str
    created_at: Timestamp


class OrganizationBody(RequestBody):
    """What an owner may change; a field that is null or left out stays."""

    name: Name | None = None
    time_zone: TimeZone | None = Field(default=None, description="An IANA name; reports are drawn up in it")
    language: Language | None = None


class InvitationBody(RequestBody):
    email: Email
    role: Role
    name: Name | None = Field(default=None, description="How the mail greets")


class InvitationResponse(ResponseBody):
    invite_id: UUID = Field(validation_alias=AliasChoices("id", "invite_id"))
    email: str
    role: Role
    name: str | None
    invited_by: UUID | None
    created_at: Timestamp
    expires_at: Timestamp


class IssuedInvitationResponse(InvitationResponse):
    invite_token: str = Field(description="Shown this once")
    url: str = Field(description="Where the invited person opens the account")
    mailed: bool = Field(description="Whether the address was sent the link; if not, pass it on")


class JoinLinkBody(RequestBody):
    role: Literal["user"] = "user"
    max_uses: int = Field(ge=1, le=10_000, examples=[45])
    expires_at: AwareDatetime = Field(description="At most 366 days from now")
    group_id: UUID | None = Field(default=None, description="The class that learners join; an expert's own")


class JoinLinkResponse(ResponseBody):
    join_link_id: UUID = Field(validation_alias=AliasChoices("id", "join_link_id"))
    role: Literal["user"] = "user"
    max_uses: int
    uses: int
    expires_at: Timestamp
    group_id: UUID | None
    created_by: UUID | None
    created_at: Timestamp


class IssuedJoinLinkResponse(JoinLinkResponse):
    join_token: str = Field(description="Shown this once")
    url: str = Field(description="Where learners open their accounts")


class MemberBody(RequestBody):
    """What may be changed of a member; a field that is null or left out stays."""

    role: Role | None = None
    is_active: bool | None = None
    name: Name | None = None


class ImportedMemberResponse(ResponseBody):
    row: int = Field(description="As a spreadsheet counts: the columns' names are row 1")
    status: Literal["created", "refused"]
    name: str
    username: str | None
    email: str | None
    group: str | None
    user_id: UUID | None = None
    password: str | None = Field(default=None, description="Shown this once")
    error_code: str | None = Field(
        default=None, examples=["username_taken"], description="One of the published codes of refusals"
    )
    message: str | None = Field(default=None, description="The refusal in words")


class MemberImportResponse(ResponseBody):
    created: int
    refused: int
    items: list[ImportedMemberResponse]
