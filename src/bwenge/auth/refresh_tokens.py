"""Refresh tokens: rotated at each use, one family per login, and a copied one gives itself away.

After RFC 9700, section 4.14.2, with a grace: a client whose answer got lost, or two tabs of one browser, may present
the same token twice within seconds, and each gets a successor (a sibling) of its own.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import repository
from bwenge.auth.audit import attempt
from bwenge.auth.contract import AuditLog
from bwenge.auth.models import RefreshToken, User
from bwenge.auth.opaque_tokens import hash_token, new_token
from bwenge.auth.tokens import Clock, utc_now
from bwenge.kit.ids import new_id

REFRESH_TOKEN_LIFETIME: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class IssuedRefreshToken:
    token: str
    family_id: UUID
    user: User


class Refusal(Enum):
    """Why no successor was issued. Returned rather than raised, so that what a refusal wrote is committed."""

    INVALID = auto()
    REUSED = auto()


class RefreshTokens:
    def __init__(self, *, audit: AuditLog, grace: timedelta, clock: Clock = utc_now) -> None:
        self._audit = audit
        self._grace = grace
        self._clock = clock

    async def start_family(self, session: AsyncSession, user: User) -> IssuedRefreshToken:
        """The first token of a login of a user who is new or whom the transaction has locked."""
        return await self._issue(session, user, family_id=new_id())

    async def rotate(self, session: AsyncSession, token: str) -> IssuedRefreshToken | Refusal:
        """A successor of the same family, or why there is none.

        The first use of a token starts its grace; a use after the grace revokes the family.
        """
        found = await self._lock(session, token)
        if found is None:
            return Refusal.INVALID
        user, presented = found
        now = self._clock()
        if presented.expires_at <= now:
            return Refusal.INVALID
        if presented.used_at is not None and now - presented.used_at > self._grace:
            if await repository.revoke_family(session, presented.family_id, at=now):
                await self._audit.record(session, attempt(user, "session.reuse_detected"))
            return Refusal.REUSED
        if presented.revoked_at is not None or not user.is_active:
            return Refusal.INVALID
        presented.used_at = presented.used_at or now
        return await self._issue(session, user, family_id=presented.family_id)

    async def holder(self, session: AsyncSession, token: str) -> UUID | None:
        """Whose token it is, if `rotate` would give it a successor."""
        return await repository.find_holder(session, hash_token(token), now=self._clock(), grace=self._grace)

    async def revoke(self, session: AsyncSession, token: str) -> None:
        """Revoke the token's family; nothing happens where the token is unknown."""
        found = await self._lock(session, token)
        if found is not None:
            await repository.revoke_family(session, found[1].family_id, at=self._clock())

    async def revoke_family(self, session: AsyncSession, user_id: UUID, family_id: UUID) -> None:
        if await repository.lock_user(session, user_id) is not None:
            await repository.revoke_family(session, family_id, at=self._clock())

    async def _lock(self, session: AsyncSession, token: str) -> tuple[User, RefreshToken] | None:
        """The token as it is once its user is locked: an earlier use that was under way has ended by then."""
        token_hash = hash_token(token)
        user = await repository.lock_user_of_token(session, token_hash)
        presented = await repository.get_refresh_token(session, token_hash)
        return None if user is None or presented is None else (user, presented)

    async def _issue(self, session: AsyncSession, user: User, *, family_id: UUID) -> IssuedRefreshToken:
        """Clears the user's expired tokens away, so that a session which is refreshed for months leaves no trail."""
        now = self._clock()
        await repository.delete_expired_tokens(session, user.id, before=now)
        token = new_token()
        await repository.add_refresh_token(
            session,
            RefreshToken(
                id=new_id(),
                org_id=user.org_id,
                user_id=user.id,
                family_id=family_id,
                token_hash=hash_token(token),
                expires_at=now + REFRESH_TOKEN_LIFETIME,
            ),
        )
        return IssuedRefreshToken(token, family_id, user)
