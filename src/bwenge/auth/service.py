"""Accounts and their sessions.

Registration, login, refresh and logout open their own units of work: they have no tenant yet, they hash passwords, for
which no connection should wait, and what a refusal leaves behind must survive the refusal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import repository
from bwenge.auth.errors import InvalidCredentials, InvalidRefreshToken, TokenReused
from bwenge.auth.identifiers import normalize_email, normalize_name, normalize_username
from bwenge.auth.models import Organization, User
from bwenge.auth.passwords import Passwords
from bwenge.auth.refresh_tokens import IssuedRefreshToken, RefreshTokens, Refusal
from bwenge.auth.tokens import ACCESS_TOKEN_LIFETIME, AccessTokenIssuer, AccessTokenVerifier
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.errors import Unauthenticated
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Login:
    access_token: str
    refresh_token: str
    user: User
    expires_in: int = int(ACCESS_TOKEN_LIFETIME / timedelta(seconds=1))


class AuthService:
    """Implements `bwenge.auth.contract.Members`.

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
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._refresh_tokens = refresh_tokens
        self._issuer = issuer
        self._verifier = verifier

    async def register(
        self, *, org_name: str, name: str, email: str, password: str, username: str | None = None
    ) -> Login:
        """A new organisation, its owner, and the owner's first session, or none of them.

        Raises:
            EmailTaken, UsernameTaken: Another account has it, in whatever organisation.
        """
        owner = await self._new_user(
            new_id(), name=name, email=email, username=username, password=password, role=Role.OWNER
        )
        async with self._database.unit_of_work(PLATFORM) as session:
            await _add_organization(session, org_name, owner=owner)
            started = await self._refresh_tokens.start_family(session, owner)
        _log.info("organization_registered", org_id=str(owner.org_id), user_id=str(owner.id))
        return self._login(started)

    async def register_organization(
        self, *, org_name: str, name: str, email: str, password: str, username: str | None = None
    ) -> User:
        """As `register`, without a session; returns the owner."""
        owner = await self._new_user(
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
        member = await self._new_user(org_id, name=name, email=email, username=username, password=password, role=role)
        async with self._database.unit_of_work(org_id) as session:
            await repository.add_user(session, member)
        return member

    async def log_in(self, identifier: str, password: str) -> Login:
        """A session for the account with this email address or username.

        Raises:
            InvalidCredentials: After the same work whether the account is unknown or the password is wrong.
        """
        async with self._database.unit_of_work(PLATFORM) as session:
            user = await repository.find_user(session, identifier)
        verification = await self._passwords.verify(password, user.password_hash if user else None)
        if user is None or not verification.is_right:
            _log.info("login_refused", user_id=None if user is None else str(user.id))
            raise InvalidCredentials
        async with self._database.unit_of_work(PLATFORM) as session:
            present = await repository.lock_user(session, user.id)
            # The password was checked outside of the transaction: a change of it or a deactivation came first.
            if present is None or not present.is_active or present.password_hash != user.password_hash:
                raise InvalidCredentials
            if verification.replacement is not None:
                present.password_hash = verification.replacement
            started = await self._refresh_tokens.start_family(session, present)
        return self._login(started)

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
        return self._login(rotation)

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
        claims = self._verifier.claims(access_token)
        async with self._database.unit_of_work(PLATFORM) as session:
            await self._refresh_tokens.revoke_family(session, claims.principal.user_id, claims.family_id)

    async def profile(self, session: AsyncSession, principal: Principal) -> User:
        """Raises `Unauthenticated` when the principal is no active member any more."""
        user = await repository.get_member(session, principal.user_id, org_id=principal.org_id)
        if user is None:
            raise Unauthenticated
        return user

    async def update_profile(self, session: AsyncSession, principal: Principal, changes: Mapping[str, Any]) -> User:
        """Set the given ones of `name` and `language`."""
        user = await self.profile(session, principal)
        for field in {"name", "language"} & changes.keys():
            setattr(user, field, changes[field])
        await session.flush()
        return user

    async def require_active(self, session: AsyncSession, principal: Principal) -> None:
        await self.profile(session, principal)

    async def _new_user(
        self, org_id: UUID, *, name: str, email: str | None, username: str | None, password: str, role: Role
    ) -> User:
        return User(
            id=new_id(),
            org_id=org_id,
            name=normalize_name(name),
            email=None if email is None else normalize_email(email),
            username=None if username is None else normalize_username(username),
            password_hash=await self._passwords.hash(password),
            role=role.value,
        )

    def _login(self, issued: IssuedRefreshToken) -> Login:
        user = issued.user
        principal = Principal(user_id=user.id, org_id=user.org_id, role=Role(user.role))
        access_token = self._issuer.issue(principal, family_id=issued.family_id)
        return Login(access_token=access_token, refresh_token=issued.token, user=user)


async def _add_organization(session: AsyncSession, org_name: str, *, owner: User) -> None:
    await repository.add_organization(session, Organization(id=owner.org_id, name=normalize_name(org_name)))
    await repository.add_user(session, owner)
