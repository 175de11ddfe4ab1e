import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from fastapi import APIRouter
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from bwenge.auth import (
    api_key_routes,
    audit_routes,
    group_routes,
    membership_wiring,
    operator_routes,
    password_routes,
    routes,
)
from bwenge.auth.api_keys import ApiKeys
from bwenge.auth.audit import AuditTrail
from bwenge.auth.back_off import BackOff
from bwenge.auth.classes import Classrooms
from bwenge.auth.groups import GroupService
from bwenge.auth.membership_wiring import Neighbours
from bwenge.auth.operators import Operators
from bwenge.auth.passwords import CuttingBcryptHasher, Passwords
from bwenge.auth.recovery import Recovery
from bwenge.auth.refresh_cookie import RefreshCookie
from bwenge.auth.refresh_tokens import RefreshTokens
from bwenge.auth.service import AuthService
from bwenge.auth.settings import AuthSettings
from bwenge.auth.tokens import AccessTokenIssuer, AccessTokenVerifier, Clock, TokenKeys, utc_now
from bwenge.kit.db import Database

DEFAULTS: Final = AuthSettings()
ROUTERS: Final = (
    routes.router,
    password_routes.router,
    *membership_wiring.ROUTERS,
    group_routes.router,
    audit_routes.router,
    api_key_routes.router,
    operator_routes.router,
)


@dataclass(frozen=True, slots=True)
class AuthFeature:
    """Accounts, organisations and what proves who is who.

    Attributes:
        token_verifier: For `app.state.token_verifier`.
        membership: The use cases of joining an organisation and of belonging to it.
        api_keys: Also for `app.state.key_verifier`.
        operators: Also for `app.state.operator_denials`.
    """

    routers: tuple[APIRouter, ...]
    service: AuthService
    recovery: Recovery
    cookie: RefreshCookie
    audit: AuditTrail
    classes: Classrooms
    groups: GroupService
    keys: TokenKeys
    token_verifier: AccessTokenVerifier
    membership: tuple[object, ...]
    api_keys: ApiKeys
    operators: Operators

    @property
    def provided(self) -> tuple[object, ...]:
        """What the routes ask for."""
        return (
            self.service,
            self.recovery,
            self.cookie,
            self.audit,
            self.keys,
            self.groups,
            self.api_keys,
            self.operators,
            *self.membership,
        )


def build(
    database: Database,
    *,
    signing_key_pem: str,
    other_public_keys_pem: Sequence[str] = (),
    password_hash: PasswordHash | None = None,
    settings: AuthSettings = DEFAULTS,
    clock: Clock = utc_now,
    neighbours: Neighbours | None = None,
) -> AuthFeature:
    """Wire the feature around an Ed25519 private key, such as `auth.tokens.generate_signing_key` makes.

    Passwords are hashed by Argon2id with the parameters of RFC 9106's second recommended option, unless
    `password_hash` says otherwise; hashes by bcrypt are verified too, and replaced.
    """
    keys = TokenKeys(signing_key_pem, other_public_keys_pem=other_public_keys_pem)
    neighbours = neighbours or Neighbours()
    parts = _Parts(database, keys, settings, neighbours, _passwords(password_hash, settings), clock)
    service = AuthService(
        database,
        passwords=parts.passwords,
        refresh_tokens=parts.refresh_tokens,
        issuer=AccessTokenIssuer(keys, clock=clock),
        verifier=parts.verifier,
        api_keys=parts.api_keys,
        back_off=parts.back_off,
        audit=parts.audit,
    )
    return AuthFeature(
        routers=ROUTERS,
        service=service,
        recovery=parts.recovery(service),
        cookie=_cookie(settings),
        audit=parts.audit,
        classes=Classrooms(),
        groups=GroupService(personas=neighbours.personas, audit=parts.audit),
        keys=keys,
        token_verifier=parts.verifier,
        api_keys=parts.api_keys,
        operators=Operators(database, passwords=parts.passwords, members=service, audit=parts.audit, clock=clock),
        membership=parts.membership(service),
    )


class _Parts:
    """What several of the feature's use cases share."""

    def __init__(  # noqa: PLR0917  # in the order in which they are needed, here alone
        self,
        database: Database,
        keys: TokenKeys,
        settings: AuthSettings,
        neighbours: Neighbours,
        passwords: Passwords,
        clock: Clock,
    ) -> None:
        self._database = database
        self._settings = settings
        self._neighbours = neighbours
        self._clock = clock
        self.audit = AuditTrail()
        self.verifier = AccessTokenVerifier(keys.public_keys)
        self.passwords = passwords
        grace = timedelta(seconds=settings.refresh_grace_seconds)
        self.refresh_tokens = RefreshTokens(audit=self.audit, grace=grace, clock=clock)
        self.back_off = _back_off(settings, clock)
        self.api_keys = ApiKeys(database, personas=neighbours.personas, audit=self.audit, clock=clock)

    def recovery(self, service: AuthService) -> Recovery:
        return Recovery(
            self._database,
            passwords=self.passwords,
            members=service,
            back_off=self.back_off,
            audit=self.audit,
            mailer=self._neighbours.mailer,
            public_url=self._settings.public_url,
            clock=self._clock,
        )

    def membership(self, service: AuthService) -> tuple[object, ...]:
        return membership_wiring.build(
            self._database,
            self._neighbours,
            members=service,
            passwords=self.passwords,
            refresh_tokens=self.refresh_tokens,
            audit=self.audit,
            public_url=self._settings.public_url,
            clock=self._clock,
        )


def _passwords(password_hash: PasswordHash | None, settings: AuthSettings) -> Passwords:
    hashers = (Argon2Hasher(),) if password_hash is None else password_hash.hashers
    return Passwords(PasswordHash((*hashers, CuttingBcryptHasher())), concurrency=settings.password_concurrency)


def _back_off(settings: AuthSettings, clock: Clock) -> BackOff:
    key = settings.account_key or secrets.token_bytes(32)
    return BackOff(key, refusal_seconds=settings.refusal_seconds, clock=clock)


def _cookie(settings: AuthSettings) -> RefreshCookie:
    pages = (settings.public_url, *settings.other_pages)
    return RefreshCookie(pages, is_secure=settings.public_url.startswith("https:"))
