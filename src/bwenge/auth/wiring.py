from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from fastapi import APIRouter
from pwdlib import PasswordHash

from bwenge.auth.passwords import DEFAULT_CONCURRENCY, Passwords
from bwenge.auth.refresh_tokens import DEFAULT_GRACE, RefreshTokens
from bwenge.auth.routes import router
from bwenge.auth.service import AuthService
from bwenge.auth.tokens import AccessTokenIssuer, AccessTokenVerifier, Clock, TokenKeys, utc_now
from bwenge.kit.db import Database


@dataclass(frozen=True, slots=True)
class AuthFeature:
    """The routes ask the application for `service` and `keys` (`kit.http.dependencies.provide`).

    Attributes:
        token_verifier: For `app.state.token_verifier`.
    """

    router: APIRouter
    service: AuthService
    keys: TokenKeys
    token_verifier: AccessTokenVerifier


def build(
    database: Database,
    *,
    signing_key_pem: str,
    other_public_keys_pem: Sequence[str] = (),
    refresh_grace_seconds: float = DEFAULT_GRACE.total_seconds(),
    password_hash: PasswordHash | None = None,
    password_concurrency: int = DEFAULT_CONCURRENCY,
    clock: Clock = utc_now,
) -> AuthFeature:
    """Wire the feature around an Ed25519 private key, such as `auth.tokens.generate_signing_key` makes.

    Passwords are hashed by Argon2id with the parameters of RFC 9106's second recommended option, unless
    `password_hash` says otherwise.
    """
    keys = TokenKeys(signing_key_pem, other_public_keys_pem=other_public_keys_pem)
    verifier = AccessTokenVerifier(keys.public_keys)
    service = AuthService(
        database,
        passwords=Passwords(password_hash or PasswordHash.recommended(), concurrency=password_concurrency),
        refresh_tokens=RefreshTokens(grace=timedelta(seconds=refresh_grace_seconds), clock=clock),
        issuer=AccessTokenIssuer(keys, clock=clock),
        verifier=verifier,
    )
    return AuthFeature(router=router, service=service, keys=keys, token_verifier=verifier)
