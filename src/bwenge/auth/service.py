"""Accounts and their sessions.

Registration, login, refresh and logout open their own units of work: they have no tenant yet, they hash passwords, for
which no connection should wait, and what a refusal leaves behind must survive the refusal.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import repository
from bwenge.auth.api_keys import ApiKeys
from bwenge.auth.audit import attempt, note_unknown_account
from bwenge.auth.back_off import BackOff
from bwenge.auth.contract import AuditEntry, AuditLog
from bwenge.auth.errors import InvalidCredentials, InvalidRefreshToken, TokenReused
from bwenge.auth.identifiers import fold_identifier, normalize_email, normalize_name, normalize_username
from bwenge.auth.models import Organization, User
from bwenge.auth.password_policy import require_impersonal, require_uncommon
from bwenge.auth.passwords import Passwords, Verification
from bwenge.auth.refresh_tokens import IssuedRefreshToken, RefreshTokens, Refusal
from bwenge.auth.tokens import ACCESS_TOKEN_LIFETIME, AccessTokenIssuer, AccessTokenVerifier
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.errors import Unauthenticated
from bwenge.kit.idempotency.once import EVERY_TIME, Once
from bwenge.kit.identity import OPERATOR, Caller, Operator, Principal, Role
from bwenge.kit.ids import new_id

_log = structlog.get_logger(__name__)

LOCAL: Final = "local"
"""The network of callers inside the platform."""


@dataclass(frozen=True, slots=True)
class Login:
    access_token: str
    refresh_token: str
    user: User
    expires_in: int = int(ACCESS_TOKEN_LIFETIME / timedelta(seconds=1))


class AuthService:
    """Implements `bwenge.auth.contract.Members` and `bwenge.kit.identity.Membership`.

    Names, email addresses and usernames are normalised here too, for callers other than HTTP; they raise ValueError.
    """

    def __init__(
        self,
        database: Database,
        *,
        passwords: Passwords,
        refresh_tokens: RefreshTokens,
        issuer: AccessTokenIssuer,
        verifier: AccessTokenVerifier,
        api_keys: ApiKeys,
        back_off: BackOff,
        audit: AuditLog,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._refresh_tokens = refresh_tokens
        self._issuer = issuer
        self._verifier = verifier
        self._api_keys = api_keys
        self._back_off = back_off
        self._audit = audit

    async def register(
        self,
        *,
        org_name: str,
        name: str,
        email: str,
        password: str,
        username: str | None = None,
        once: Once[Login] = EVERY_TIME,
    ) -> Login:
        """A new organisation, its owner, and the owner's first session, or none of them.

        Raises:
            EmailTaken, UsernameTaken: Another account has it, in whatever organisation.
            CommonPassword
        """
        owner = await self.new_user(
            new_id(), name=name, email=email, username=username, password=password, role=Role.OWNER
        )
        async with self._database.unit_of_work(PLATFORM) as session:
            await once.claim(session)
            await _add_organization(session, org_name, owner=owner)
            login = self.login_of(await self._refresh_tokens.start_family(session, owner))
            await once.keep(session, login, org_id=owner.org_id)
        _log.info("organization_registered", org_id=str(owner.org_id), user_id=str(owner.id))
        return login

    async def register_organization(
        self, *, org_name: str, name: str, email: str, password: str, username: str | None = None
    ) -> User:
        """As `register`, without a session; returns the owner."""
        owner = await self.new_user(
            new_id(), name=name, email=email, username=username, password=password, role=Role.OWNER
        )
        async with self._database.unit_of_work(PLATFORM) as session:
            await _add_organization(session, org_name, owner=owner)
        return owner

    async def create_member(
        self,
        org_id: UUID,
        *,
        name: str,
        role: Role,
        password: str,
        email: str | None = None,
        username: str | None = None,
    ) -> User:
        """An account in an organisation that exists, with an email address, a username, or both.

        Raises:
            EmailTaken, UsernameTaken: Another account has it, in whatever organisation.
        """
        member = await self.new_user(org_id, name=name, email=email, username=username, password=password, role=role)
        async with self._database.unit_of_work(org_id) as session:
            await repository.add_user(session, member)
        return member

    async def log_in(self, identifier: str, password: str, *, network: str = LOCAL) -> Login:
        """A session for the account with this email address or username.

        Wrong passwords are counted by the account, however it is called, and by the `network` that they come from.

        Raises:
            RateLimited: Too short a time after too many wrong passwords; the password was not looked at.
            InvalidCredentials: After the same work and time whether the account is unknown or the password is wrong.
        """
        answer_at = asyncio.get_running_loop().time() + self._back_off.refusal_seconds
        async with self._database.unit_of_work(PLATFORM) as session:
            user = await repository.find_user(session, identifier)
            account = fold_identifier(identifier) if user is None else str(user.id)
            await self._back_off.take_attempt(session, account, network=network)
        verification = await self._passwords.verify(password, user.password_hash if user else None)
        started = None
        if user is not None and verification.is_right:
            async with self._database.unit_of_work(PLATFORM) as session:
                started = await self._start_session(session, user, verification)
                if started is not None:
                    await self._back_off.forget(session, account, network=network)
        if started is None:
            await self._note_refusal(user)
            # A hash of another kind takes another time.
            await asyncio.sleep(answer_at - asyncio.get_running_loop().time())
            raise InvalidCredentials
        return self.login_of(started)

    async def _start_session(
        self, session: AsyncSession, user: User, verification: Verification
    ) -> IssuedRefreshToken | None:
        present = await repository.lock_user(session, user.id)
        # The password was checked outside of the transaction: a change of it or a deactivation came first.
        if present is None or not present.is_active or present.password_hash != user.password_hash:
            return None
        if verification.replacement is not None:
            present.password_hash = verification.replacement
        started = await self._refresh_tokens.start_family(session, present)
        entry = AuditEntry(user.org_id, user.id, "login.succeeded", target_type="user", target_id=str(user.id))
        await self._audit.record(session, entry)
        return started

    async def _note_refusal(self, user: User | None) -> None:
        if user is None:
            note_unknown_account("login.refused")
            return
        _log.info("login_refused", user_id=str(user.id))
        async with self._database.unit_of_work(PLATFORM) as session:
            await self._audit.record(session, attempt(user, "login.refused"))

    def account_mark(self, identifier: str) -> str:
        """What stands for the account in a count, without naming it."""
        return self._back_off.mark(identifier)

    async def holder(self, refresh_token: str) -> UUID | None:
        """Whose refresh token it is, if it may be used.

        Others are nobody's to count: they cost no rotation, and whoever has one could use up its owner's share.
        """
        async with self._database.unit_of_work(PLATFORM) as session:
            return await self._refresh_tokens.holder(session, refresh_token)

    async def refresh(self, refresh_token: str) -> Login:
        """The next pair of tokens of the session.

        Raises:
            TokenReused: The token was rotated longer ago than the grace; its family is revoked by now.
            InvalidRefreshToken: Unknown, expired, revoked, or of a deactivated member.
        """
        async with self._database.unit_of_work(PLATFORM) as session:
            rotation = await self._refresh_tokens.rotate(session, refresh_token)
        # Raised after the commit, which has to hold what a refusal wrote.
        if rotation is Refusal.REUSED:
            _log.warning("refresh_token_reused")
            raise TokenReused
        if rotation is Refusal.INVALID:
            raise InvalidRefreshToken
        return self.login_of(rotation)

    async def log_out(self, *, access_token: str | None, refresh_token: str | None) -> None:
        """End the session of the refresh token or, without one, the access token's own.

        A refresh token proves itself, so an expired access token beside it does not matter, and an unknown one has
        no session to end (RFC 7009). Raises `Unauthenticated` when neither names a session.
        """
        if refresh_token is not None:
            async with self._database.unit_of_work(PLATFORM) as session:
                await self._refresh_tokens.revoke(session, refresh_token)
            return
        if access_token is None:
            raise Unauthenticated
        caller = self._verifier.verify(access_token)
        if caller.session_id is not None:
            async with self._database.unit_of_work(PLATFORM) as session:
                await self._refresh_tokens.revoke_family(session, caller.user_id, caller.session_id)

    async def profile(self, session: AsyncSession, caller: Caller, *, hold: bool = False) -> User:
        """Raises `Unauthenticated` when the caller is no active member or operator any more."""
        user = await repository.get_active(session, caller, hold=hold)
        if user is None:
            raise Unauthenticated
        return user

    async def update_profile(self, session: AsyncSession, caller: Caller, changes: Mapping[str, Any]) -> User:
        """Set the given ones of `name` and `language`."""
        user = await self.profile(session, caller)
        for field in {"name", "language"} & changes.keys():
            setattr(user, field, changes[field])
        await session.flush()
        return user

    async def require_active(self, session: AsyncSession, principal: Principal, *, hold: bool = False) -> None:
        """A token of another role than the present one is as good as none: a refresh gives the right one."""
        user = await self.profile(session, principal, hold=hold)
        if principal.key_id is not None:
            await self._api_keys.require_live(session, principal, maker=user)
        elif user.role != principal.role.value:
            raise Unauthenticated

    async def require_active_operator(self, session: AsyncSession, operator: Operator) -> None:
        await self.profile(session, operator)

    async def new_user(
        self, org_id: UUID, *, name: str, email: str | None, username: str | None, password: str, role: Role
    ) -> User:
        """An account that is not stored yet, its password checked and hashed. Raises `CommonPassword`."""
        require_uncommon(password, field="password")
        user = User(
            id=new_id(),
            org_id=org_id,
            name=normalize_name(name),
            email=None if email is None else normalize_email(email),
            username=None if username is None else normalize_username(username),
            role=role.value,
        )
        require_impersonal(password, user, field="password")
        user.password_hash = await self._passwords.hash(password)
        return user

    def login_of(self, issued: IssuedRefreshToken) -> Login:
        """A session that has begun, with its first access token."""
        user = issued.user
        access_token = self._issuer.issue(caller_of(user), family_id=issued.family_id)
        return Login(access_token=access_token, refresh_token=issued.token, user=user)


def caller_of(user: User) -> Caller:
    """The user as who calls, in person."""
    if user.role == OPERATOR or user.org_id is None:
        return Operator(user.id)
    return Principal(user_id=user.id, org_id=user.org_id, role=Role(user.role))


async def _add_organization(session: AsyncSession, org_name: str, *, owner: User) -> None:
    await repository.add_organization(session, Organization(id=owner.org_id, name=normalize_name(org_name)))
    await repository.add_user(session, owner)
