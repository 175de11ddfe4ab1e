"""Accounts over HTTP, on a clock that the test turns."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from httpx2 import AsyncClient
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from bwenge.auth.membership_wiring import Neighbours
from bwenge.auth.settings import AuthSettings
from bwenge.auth.tokens import generate_signing_key
from bwenge.auth.wiring import AuthFeature, build
from bwenge.kit.db import Database
from tests.support.accounts import registration
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import client_of, feature_app
from tests.support.memberships import Outbox, Plan, School, open_school

PUBLIC_URL: Final = "https://bwenge.test"


class TurnedClock:
    """The machine's clock, and as much further as a test turned it."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def turn(self, **amount: float) -> None:
        self._ahead += timedelta(**amount)


class StandingClock(TurnedClock):
    """Goes on only when the test turns it, so that a slow machine's waits are the same."""

    def __init__(self) -> None:
        super().__init__()
        self._start = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self._start + self._ahead


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


@pytest.fixture
def plan() -> Plan:
    """How many seats there are: without limit, until a test says otherwise."""
    return Plan()


@pytest.fixture
def outbox() -> Outbox:
    """Of an installation that sends no mail, until a test turns it on."""
    return Outbox()


@pytest.fixture
def mailbox(outbox: Outbox) -> Outbox:
    """Of an installation that sends mail."""
    outbox.is_configured = True
    return outbox


@pytest.fixture
def wire(
    signing_key_pem: str, quick_hash: PasswordHash, clock: TurnedClock, plan: Plan, outbox: Outbox
) -> Callable[[Database], AuthFeature]:
    def on(database: Database) -> AuthFeature:
        return build(
            database,
            signing_key_pem=signing_key_pem,
            password_hash=quick_hash,
            clock=clock,
            settings=AuthSettings(public_url=PUBLIC_URL, refusal_seconds=0),
            neighbours=Neighbours(seats=plan, mailer=outbox),
        )

    return on


@pytest.fixture
def feature(database: SavepointDatabase, wire: Callable[[Database], AuthFeature]) -> AuthFeature:
    return wire(database)


@pytest.fixture
def committed_feature(committed_database: Database, wire: Callable[[Database], AuthFeature]) -> AuthFeature:
    """On the product's own pools, where what commits commits."""
    return wire(committed_database)


@pytest.fixture
async def school(database: SavepointDatabase, feature: AuthFeature, client: AsyncClient) -> School:
    return await open_school(database, feature, client)


@pytest.fixture
async def committed_school(
    committed_database: Database, committed_feature: AuthFeature, committed_client: AsyncClient
) -> School:
    return await open_school(committed_database, committed_feature, committed_client)


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
        *feature.routers,
        database=database,
        token_verifier=feature.token_verifier,
        services=[*feature.provided],
        membership=feature.service,
    )
    return client_of(app)


@pytest.fixture
async def login(client: AsyncClient) -> dict[str, Any]:
    """The answer to a registration: `access_token`, `refresh_token`, `user`, and more."""
    answer = await client.post("/auth/register", json=registration())
    assert answer.status_code == 201
    login: dict[str, Any] = answer.json()
    return login
