"""Who is calling: members of a tenant and the platform's staff. What routes ask of them: `bwenge.kit.http.security`."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.errors import Forbidden


class Role(StrEnum):
    """Roles inside an organisation, lowest first; each may do what those below it may."""

    USER = "user"
    EXPERT = "expert"
    ADMIN = "admin"
    OWNER = "owner"

    def at_least(self, other: "Role") -> bool:
        return _RANK[self] >= _RANK[other]


_RANK: Final = {role: rank for rank, role in enumerate(Role)}

OPERATOR: Final = "operator"
"""The role of the platform's staff, who belong to no organisation."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A member of an organisation, or an API key that speaks for one.

    Attributes:
        key_id: The API key, where one speaks.
        confined_to: The ids of the things that the key may reach, of the kind that keys are confined by; None means
            all that the member may use.
        session_id: The session that an access token belongs to; None where no token speaks.
    """

    user_id: UUID
    org_id: UUID
    role: Role
    key_id: UUID | None = None
    confined_to: frozenset[UUID] | None = None
    session_id: UUID | None = None

    def may_use(self, thing_id: UUID) -> bool:
        """False where an API key is confined to others; says nothing of what the member may see."""
        return self.confined_to is None or thing_id in self.confined_to


@dataclass(frozen=True, slots=True)
class Operator:
    """One of the platform's staff, outside every organisation; `session_id` as a principal's."""

    user_id: UUID
    session_id: UUID | None = None


Caller = Principal | Operator


def member(caller: Caller) -> Principal:
    """The caller as a member of an organisation; raises `Forbidden` for an operator."""
    if isinstance(caller, Operator):
        raise Forbidden
    return caller


class TokenVerifier(Protocol):
    """Checks an access token's signature and times locally. Raises `Unauthenticated`."""

    def verify(self, token: str) -> Caller: ...


class KeyVerifier(Protocol):
    """Looks an API key up. Raises `Unauthenticated`, also where the member that it speaks for is not active."""

    prefix: str
    """How every key begins, and no access token does."""

    async def verify_key(self, key: str) -> Principal: ...


class Membership(Protocol):
    """What a token cannot know: whether its caller still is who it says."""

    async def require_active(self, session: AsyncSession, principal: Principal) -> None:
        """Raise `Unauthenticated` unless the principal is an active member of the session's tenant, in this role.

        An API key must not have been deleted or have expired meanwhile, and nobody have ended the token's session.
        """
        ...

    async def require_active_operator(self, session: AsyncSession, operator: Operator) -> None:
        """Raise `Unauthenticated` unless the operator still is an active one; the session is the platform's."""
        ...


class OperatorDenials(Protocol):
    """Where members' attempts at what only operators may do are kept."""

    async def record(self, principal: Principal, *, call: str) -> None:
        """Keep the fact in a unit of work of its own, which the refusal does not undo; `call` is `GET /operator/orgs`.

        Raises `Unauthenticated` where the principal is no active member any more.
        """
        ...
