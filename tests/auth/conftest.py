"""Accounts over HTTP, on a clock that the test turns."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from httpx2 import AsyncClient
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from bwenge.auth.tokens import generate_signing_key
from bwenge.auth.wiring import AuthFeature, build
from bwenge.kit.db import Database
from tests.support.accounts import registration
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import client_of, feature_app


class TurnedClock:
    """The machine's clock, and as much further as a test turned it."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def turn(self, **amount: float) -> None:
        self._ahead += timedelta(**amount)


@pytest.fixture(scope="session")
def signing_key_pem() -> str:
    return generate_signing_key()


@pytest.fixture(scope="session")
def quick_hash() -> PasswordHash:
    """Argon2id as in service, but cheap."""
    return PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),))


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


def _feature(database: Database, signing_key_pem: str, quick_hash: PasswordHash, clock: TurnedClock) -> AuthFeature:
    return build(database, signing_key_pem=signing_key_pem, password_hash=quick_hash, clock=clock)


@pytest.fixture
def feature(
    database: SavepointDatabase, signing_key_pem: str, quick_hash: PasswordHash, clock: TurnedClock
) -> AuthFeature:
    return _feature(database, signing_key_pem, quick_hash, clock)


@pytest.fixture
def committed_feature(
    committed_database: Database, signing_key_pem: str, quick_hash: PasswordHash, clock: TurnedClock
) -> AuthFeature:
    """On the product's own pools, where what commits commits."""
    return _feature(committed_database, signing_key_pem, quick_hash, clock)


@pytest.fixture
async def client(database: SavepointDatabase, feature: AuthFeature) -> AsyncIterator[AsyncClient]:
    async with _client(database, feature) as client:
        yield client


@pytest.fixture
async def committed_client(committed_database: Database, committed_feature: AuthFeature) -> AsyncIterator[AsyncClient]:
    async with _client(committed_database, committed_feature) as client:
        yield client


def _client(database: Database, feature: AuthFeature) -> AbstractAsyncContextManager[AsyncClient]:
    app = feature_app(
        feature.router,
        database=database,
        token_verifier=feature.token_verifier,
        services=[feature.service, feature.keys],
    )
    return client_of(app)


@pytest.fixture
async def login(client: AsyncClient) -> dict[str, Any]:
    """The answer to a registration: `access_token`, `refresh_token`, `user`, and more."""
    answer = await client.post("/auth/register", json=registration())
    assert answer.status_code == 201
    login: dict[str, Any] = answer.json()
    return login
