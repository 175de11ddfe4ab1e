"""Who is calling: the principal and the roles. What routes ask of them stands in `bwenge.kit.http.security`."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol
from uuid import UUID


class Role(StrEnum):
    """Roles inside an organisation, lowest first; each may do what those below it may."""

    USER = "user"
    EXPERT = "expert"
    ADMIN = "admin"
    OWNER = "owner"

    def at_least(self, other: "Role") -> bool:
        return _RANK[self] >= _RANK[other]


_RANK: Final = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True)
class Principal:
    user_id: UUID
    org_id: UUID
    role: Role


class TokenVerifier(Protocol):
    """Checks an access token's signature and times locally. Raises `Unauthenticated`."""

    def verify(self, token: str) -> Principal: ...
