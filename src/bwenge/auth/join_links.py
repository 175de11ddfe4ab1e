"""Join links: one link by which many learners open accounts of their own, each into a class where it names one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import invitation_queries as queries
from bwenge.auth import member_queries
from bwenge.auth.classes import restricted_to
from bwenge.auth.contract import AuditEntry, AuditLog, Members
from bwenge.auth.models import JoinLink
from bwenge.auth.opaque_tokens import hash_token, new_token
from bwenge.auth.tokens import Clock
from bwenge.kit.errors import Invalid, NotFound
from bwenge.kit.identity import Principal
from bwenge.kit.ids import new_id
from bwenge.kit.pagination import PageRequest

MAX_JOIN_LINK_LIFETIME: Final = timedelta(days=366)
"""A school year and its holidays."""


@dataclass(frozen=True, slots=True)
class IssuedJoinLink:
    """A link and what is shown of it once."""

    link: JoinLink
    token: str
    url: str


class JoinLinks:
    """An expert sees and revokes own links and those into own classes; people reach the platform at `public_url`."""

    def __init__(self, *, members: Members, audit: AuditLog, public_url: str, clock: Clock) -> None:
        self._members = members
        self._audit = audit
        self._public_url = public_url
        self._clock = clock

    async def create(
        self,
        session: AsyncSession,
        principal: Principal,
        *,
        max_uses: int,
        expires_at: datetime,
        group_id: UUID | None = None,
    ) -> IssuedJoinLink:
        """Raises `NotFound` for a class that is not there, or not the expert's own, and `Invalid` for a time past."""
        now = self._clock()
        if not now < expires_at <= now + MAX_JOIN_LINK_LIFETIME:
            message = f"a time in the next {MAX_JOIN_LINK_LIFETIME.days} days"
            raise Invalid(errors=[{"field": "expires_at", "code": "out_of_range", "message": message}])
        # Whoever takes the caller's membership or role away withdraws their links under the same lock.
        await member_queries.lock_organization(session, principal.org_id)
        await self._members.require_active(session, principal)
        if group_id is not None and not await member_queries.has_group(
            session, group_id, org_id=principal.org_id, owner_id=restricted_to(principal), hold=True
        ):
            raise NotFound
        token = new_token()
        link = JoinLink(
            id=new_id(),
            org_id=principal.org_id,
            group_id=group_id,
            created_by=principal.user_id,
            token_hash=hash_token(token),
            max_uses=max_uses,
            uses=0,
            expires_at=expires_at,
        )
        await queries.add(session, link)
        entry = AuditEntry.by(principal, "join_link.created", target=("join_link", link.id), max_uses=max_uses)
        await self._audit.record(session, entry)
        return IssuedJoinLink(link, token, f"{self._public_url}/app/join?join={token}")

    async def list_page(self, session: AsyncSession, principal: Principal, *, page: PageRequest) -> Sequence[JoinLink]:
        """Newest first, expired and used up ones too, and one more than the page holds where there are more."""
        return await queries.list_join_links(session, principal.org_id, teacher_id=restricted_to(principal), page=page)

    async def revoke(self, session: AsyncSession, principal: Principal, join_link_id: UUID) -> None:
        """Raises `NotFound`, for an expert also where the link is neither theirs nor into a class of theirs."""
        link = await queries.lock_join_link(
            session, join_link_id, org_id=principal.org_id, teacher_id=restricted_to(principal)
        )
        await queries.remove(session, link)
        await self._audit.record(
            session, AuditEntry.by(principal, "join_link.revoked", target=("join_link", link.id), uses=link.uses)
        )
