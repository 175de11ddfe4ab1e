"""Accounts that open in an organisation which is there already, by an invitation or a join link.

Who joins has no tenant yet, so all of it is the platform's work. The token is looked up before the password is hashed,
so that nobody without one makes the server hash, and again under the locks that decide.
"""

from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import invitation_queries as queries
from bwenge.auth import member_queries, repository
from bwenge.auth.contract import AuditEntry, AuditLog
from bwenge.auth.errors import InvalidInvitation, NoSeatToJoin
from bwenge.auth.identifiers import normalize_email
from bwenge.auth.models import User
from bwenge.auth.opaque_tokens import hash_token
from bwenge.auth.refresh_tokens import RefreshTokens
from bwenge.auth.seats import Seats
from bwenge.auth.service import AuthService, Login
from bwenge.auth.tokens import Clock
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.errors import Invalid, NotFound
from bwenge.kit.idempotency.once import EVERY_TIME, Once
from bwenge.kit.identity import Principal, Role

_log = structlog.get_logger(__name__)


class Joining:
    def __init__(
        self,
        database: Database,
        *,
        refresh_tokens: RefreshTokens,
        members: AuthService,
        seats: Seats,
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        self._database = database
        self._refresh_tokens = refresh_tokens
        self._members = members
        self._seats = seats
        self._audit = audit
        self._clock = clock

    async def accept_invitation(
        self,
        token: str,
        *,
        name: str,
        password: str,
        email: str | None = None,
        username: str | None = None,
        once: Once[Login] = EVERY_TIME,
    ) -> Login:
        """The invited role, address and seat; `email` may repeat the address.

        Raises:
            InvalidInvitation: Unknown, accepted, revoked or expired, or the organisation is being erased.
            Invalid: The invitation is for another address.
            EmailTaken, UsernameTaken: Another account has it, in whatever organisation.
            CommonPassword
        """
        token_hash = hash_token(token)
        async with self._database.unit_of_work(PLATFORM) as session:
            await once.claim(session)
            invitation = await queries.live_invitation(session, token_hash, now=self._clock())
        if invitation is None:
            raise InvalidInvitation
        if email is not None and normalize_email(email) != invitation.email:
            finding = {"field": "email", "code": "mismatch", "message": "the invitation is for another address"}
            raise Invalid(errors=[finding])
        user = await self._members.new_user(
            invitation.org_id,
            name=name,
            email=invitation.email,
            username=username,
            password=password,
            role=Role(invitation.role),
        )
        async with self._database.unit_of_work(PLATFORM) as session:
            await once.claim(session)
            await _lock_open_organization(session, invitation.org_id)
            present = await queries.live_invitation(session, token_hash, now=self._clock(), lock=True)
            if present is None:
                raise InvalidInvitation
            # Its seat becomes the member's, so none is asked for.
            await queries.remove(session, present)
            login = await self._admit(session, user, "invitation.accepted", ("invitation", present.id))
            await once.keep(session, login, org_id=user.org_id)
            return login

    async def join(
        self,
        token: str,
        *,
        name: str,
        password: str,
        email: str | None = None,
        username: str | None = None,
        once: Once[Login] = EVERY_TIME,
    ) -> Login:
        """A learner, in the link's class where it names one.

        Raises:
            InvalidInvitation: Unknown, used up, revoked or expired, or the organisation is being erased.
            NoSeatToJoin
            EmailTaken, UsernameTaken: Another account has it, in whatever organisation.
            CommonPassword
        """
        token_hash = hash_token(token)
        async with self._database.unit_of_work(PLATFORM) as session:
            await once.claim(session)
            link = await queries.live_join_link(session, token_hash, now=self._clock())
        if link is None:
            raise InvalidInvitation
        user = await self._members.new_user(
            link.org_id, name=name, email=email, username=username, password=password, role=Role.USER
        )
        async with self._database.unit_of_work(PLATFORM) as session:
            await once.claim(session)
            await _lock_open_organization(session, link.org_id)
            await _hold_group(session, link.group_id, org_id=link.org_id)
            present = await queries.live_join_link(session, token_hash, now=self._clock(), lock=True)
            if present is None:
                raise InvalidInvitation
            if user.email is not None:
                await queries.remove_of(session, user.email, org_id=link.org_id)
            await self._seats.require_one(session, link.org_id, refusal=NoSeatToJoin)
            await queries.count_use(session, present)
            login = await self._admit(session, user, "join_link.used", ("join_link", present.id))
            if present.group_id is not None:
                await member_queries.add_to_group(session, present.group_id, user.id, org_id=user.organization_id)
            await once.keep(session, login, org_id=user.org_id)
            return login

    async def _admit(self, session: AsyncSession, user: User, action: str, target: tuple[str, UUID]) -> Login:
        await repository.add_user(session, user)
        principal = Principal(user_id=user.id, org_id=user.organization_id, role=Role(user.role))
        await self._audit.record(session, AuditEntry.by(principal, action, target=target))
        login = self._members.login_of(await self._refresh_tokens.start_family(session, user))
        _log.info("member_joined", org_id=str(user.org_id), user_id=str(user.id))
        return login


async def _lock_open_organization(session: AsyncSession, org_id: UUID) -> None:
    """Raises `InvalidInvitation` for one that is being erased, or was since the token was looked up."""
    try:
        organization = await member_queries.lock_organization(session, org_id)
    except NotFound:
        raise InvalidInvitation from None
    if organization.deleted_at is not None:
        raise InvalidInvitation


async def _hold_group(session: AsyncSession, group_id: UUID | None, *, org_id: UUID) -> None:
    """Before the link's row, as who deletes the class locks them; with the class its links are gone."""
    if group_id is not None and not await member_queries.has_group(session, group_id, org_id=org_id, hold=True):
        raise InvalidInvitation
