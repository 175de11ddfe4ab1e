"""Invitations: an email address, a role, and a token that opens one account within seven days."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import invitation_queries as queries
from bwenge.auth import member_queries, repository
from bwenge.auth.contract import AuditEntry, AuditLog, Members
from bwenge.auth.errors import EmailTaken, RoleAboveOwn
from bwenge.auth.identifiers import normalize_email
from bwenge.auth.models import Invitation
from bwenge.auth.opaque_tokens import hash_token, new_token
from bwenge.auth.seats import Seats
from bwenge.auth.tokens import Clock
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.errors import Unavailable
from bwenge.kit.idempotency.once import EVERY_TIME, Once
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from bwenge.kit.mail import Mailer
from bwenge.kit.pagination import PageRequest

INVITATION_LIFETIME: Final = timedelta(days=7)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class IssuedInvitation:
    """An invitation and what is shown of it once.

    Attributes:
        mailed: Whether the link is on its way by mail; if not, whoever invited passes it on.
    """

    invitation: Invitation
    token: str
    url: str
    mailed: bool


class Invitations:
    """Implements the invitations of one address each; `public_url` is where people reach the platform."""

    def __init__(
        self,
        database: Database,
        *,
        members: Members,
        seats: Seats,
        audit: AuditLog,
        mailer: Mailer,
        public_url: str,
        clock: Clock,
    ) -> None:
        self._database = database
        self._members = members
        self._seats = seats
        self._audit = audit
        self._mailer = mailer
        self._public_url = public_url
        self._clock = clock

    async def invite(
        self,
        principal: Principal,
        *,
        email: str,
        role: Role,
        name: str | None = None,
        once: Once["IssuedInvitation"] = EVERY_TIME,
    ) -> IssuedInvitation:
        """A seat held for this address; an open invitation of the same address in the organisation is replaced.

        Raises:
            RoleAboveOwn: The role, or that of the invitation to be replaced, is above the inviter's own.
            EmailTaken: The address has an account, in whatever organisation.
            SeatsExhausted
        """
        _require_not_above(principal, role)
        token = new_token()
        invitation = Invitation(
            id=new_id(),
            org_id=principal.org_id,
            email=normalize_email(email),
            name=name,
            role=role.value,
            token_hash=hash_token(token),
            invited_by=principal.user_id,
            expires_at=self._clock() + INVITATION_LIFETIME,
        )
        # The address may have an account in another organisation, which only the platform's role sees.
        url = f"{self._public_url}/app/join?invite={token}"
        issued = IssuedInvitation(invitation, token, url, mailed=self._mailer.is_configured)
        async with self._database.unit_of_work(PLATFORM) as session:
            await once.claim(session)
            organization = await member_queries.lock_organization(session, principal.org_id)
            await self._members.require_active(session, principal)
            await self._make_way(session, principal, invitation.email)
            await self._seats.require_one(session, principal.org_id)
            await queries.add(session, invitation)
            entry = AuditEntry.by(principal, "member.invited", target=("invitation", invitation.id), role=role.value)
            await self._audit.record(session, entry)
            await once.keep(session, issued)
        return replace(issued, mailed=await self._mail(invitation, organization.name, url))

    async def list_page(self, session: AsyncSession, org_id: UUID, *, page: PageRequest) -> Sequence[Invitation]:
        """Open invitations, expired ones too, newest first, and one more than the page holds where there are more."""
        return await queries.list_invitations(session, org_id, page=page)

    async def revoke(self, session: AsyncSession, principal: Principal, invitation_id: UUID) -> None:
        """Raises `NotFound`, also for an invitation that was accepted, and `RoleAboveOwn`."""
        invitation = await queries.lock_invitation(session, invitation_id, org_id=principal.org_id)
        _require_not_above(principal, Role(invitation.role))
        await queries.remove(session, invitation)
        entry = AuditEntry.by(principal, "invitation.revoked", target=("invitation", invitation.id))
        await self._audit.record(session, entry)

    async def _make_way(self, session: AsyncSession, principal: Principal, email: str) -> None:
        if await repository.find_user(session, email) is not None:
            raise EmailTaken
        earlier = await queries.lock_invitation_of(session, email, org_id=principal.org_id)
        if earlier is not None:
            _require_not_above(principal, Role(earlier.role))
            await queries.remove(session, earlier)

    async def _mail(self, invitation: Invitation, organization: str, url: str) -> bool:
        """The invitation stands whether or not the mail leaves: its link is in the answer too."""
        if not self._mailer.is_configured:
            return False
        greeting = "Hello" if invitation.name is None else f"Hello {invitation.name}"
        try:
            await self._mailer.send(
                to=invitation.email,
                subject=f"You are invited to {organization} on Bwenge",
                text=f"{greeting},\n\n{organization} invites you to Bwenge. Open your account within seven days:\n\n"
                f"{url}\n\nIf you did not expect this, you need not do anything.\n",
            )
        except (OSError, Unavailable, ValueError) as error:
            _log.warning("invitation_not_mailed", invite_id=str(invitation.id), reason=type(error).__name__)
            return False
        return True


def _require_not_above(principal: Principal, role: Role) -> None:
    if not principal.role.at_least(role):
        raise RoleAboveOwn
