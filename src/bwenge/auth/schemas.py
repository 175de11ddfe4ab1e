"""Wire shapes of registration, login and profiles."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, model_validator

from bwenge.auth.identifiers import (
    MAX_EMAIL_LENGTH,
    MAX_NAME_LENGTH,
    normalize_email,
    normalize_name,
    normalize_username,
)
from bwenge.auth.passwords import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH
from bwenge.kit.http.schemas import RequestBody, ResponseBody, Timestamp
from bwenge.kit.identity import Role

Language = Literal["en", "fr", "rw", "sw"]

# Lengths stand before what reads the text: pydantic goes from left to right, and no reader meets a megabyte.
Email = Annotated[
    str,
    Field(max_length=MAX_EMAIL_LENGTH, json_schema_extra={"format": "email"}, examples=["aline@gs-kimironko.rw"]),
    AfterValidator(normalize_email),
]
Username = Annotated[
    str, Field(min_length=3, max_length=64, examples=["aline.uwase"]), AfterValidator(normalize_username)
]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH), AfterValidator(normalize_name)]
# A password is taken as it was typed: spaces at its ends are part of it.
NewPassword = Annotated[
    str,
    StringConstraints(strip_whitespace=False, min_length=MIN_PASSWORD_LENGTH, max_length=MAX_PASSWORD_LENGTH),
    Field(repr=False, json_schema_extra={"format": "password"}),
]
PresentedPassword = Annotated[
    str,
    StringConstraints(strip_whitespace=False, min_length=1, max_length=MAX_PASSWORD_LENGTH),
    Field(repr=False, json_schema_extra={"format": "password"}),
]
Identifier = Annotated[str, Field(min_length=1, max_length=MAX_EMAIL_LENGTH)]
OpaqueToken = Annotated[str, Field(min_length=1, max_length=512)]


class RegistrationBody(RequestBody):
    """Exactly one of `org_name`, `invite_token` and `join_token` says which organisation the account belongs to."""

    name: Name
    email: Email | None = None
    username: Username | None = None
    password: NewPassword
    org_name: Name | None = Field(default=None, description="Makes a new organisation with this account as its owner")
    invite_token: OpaqueToken | None = Field(default=None, repr=False, description="Of POST /orgs/{org_id}/invite")
    join_token: OpaqueToken | None = Field(default=None, repr=False, description="Of POST /orgs/{org_id}/join-links")

    @model_validator(mode="after")
    def _require_one_way_in(self) -> Self:
        ways = (self.org_name, self.invite_token, self.join_token)
        if sum(way is not None for way in ways) != 1:
            raise ValueError("give exactly one of org_name, invite_token and join_token")
        return self

    @model_validator(mode="after")
    def _require_identifier(self) -> Self:
        if self.org_name is not None and self.email is None:
            raise ValueError("the owner of an organisation needs an email address")
        if self.invite_token is None and self.email is None and self.username is None:
            raise ValueError("give an email address or a username")
        return self


class AccountBody(RequestBody):
    """Exactly one of `email`, `username` and `identifier`, which may be either."""

    email: Identifier | None = None
    username: Identifier | None = None
    identifier: Identifier | None = None

    @model_validator(mode="after")
    def _require_one_identifier(self) -> Self:
        if sum(given is not None for given in (self.email, self.username, self.identifier)) != 1:
            raise ValueError("give exactly one of email, username and identifier")
        return self

    def account(self) -> str:
        return self.email or self.username or self.identifier or ""


class LoginBody(AccountBody):
    password: PresentedPassword


class RefreshBody(RequestBody):
    refresh_token: OpaqueToken | None = Field(
        default=None, repr=False, description="Left out where the browser's cookie holds it"
    )


class LogoutBody(RequestBody):
    refresh_token: OpaqueToken | None = Field(
        default=None,
        repr=False,
        description="Names the session to end; by default, the access token's own ends",
    )


class ProfileBody(RequestBody):
    """What members may change of themselves; a field that is null or left out stays."""

    name: Name | None = None
    language: Language | None = None


class UserResponse(ResponseBody):
    user_id: UUID = Field(validation_alias="id")
    name: str
    email: str | None
    username: str | None
    role: Role | Literal["operator"]
    is_active: bool
    org_id: UUID | None = Field(description="Null for an operator, who is in no organisation")
    language: str
    created_at: Timestamp


class AuditEntryResponse(ResponseBody):
    at: Timestamp
    actor_id: UUID | None
    action: str = Field(examples=["member.invited"])
    target_type: str | None
    target_id: str | None
    address: str | None
    detail: dict[str, Any]


class LoginResponse(ResponseBody):
    access_token: str
    refresh_token: str | None = Field(
        default=None,
        exclude_if=lambda token: token is None,
        description="Left out where it is put into the browser's cookie",
    )
    token_type: Literal["bearer"] = "bearer"  # noqa: S105  # RFC 6750's name of a scheme, no secret
    expires_in: int = Field(description="Seconds until the access token expires", examples=[1800])
    user: UserResponse


class JsonWebKey(BaseModel):
    """An Ed25519 public key (RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str
    use: Literal["sig"]
    alg: Literal["EdDSA"]


class JsonWebKeySet(BaseModel):
    keys: list[JsonWebKey]
