"""A client that is told of success can rely on it: the commit comes before the response, and its failure is told."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest
from fastapi import APIRouter
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import event, text
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.http.dependencies import TenantSession
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from tests.support.feature_app import bearer, code_of, feature_app

ORG_ID: Final = new_id()
COUNT: Final = text("SELECT count(*) FROM personas")

router = APIRouter()


class AnyToken:
    """Every token is the tenant's owner's."""

    def verify(self, token: str) -> Principal:  # noqa: ARG002  # the signature is the original's
        return Principal(user_id=new_id(), org_id=ORG_ID, role=Role.OWNER)


@router.post("/personas", status_code=201)
async def add(session: TenantSession) -> dict[str, bool]:
    columns = "id, org_id, name, tone, rules, sample_prompts, safety_rules, settings"
    values = "gen_random_uuid(), :org_id, 'Gabriel', '{}', '{}', '[]', '[]', '{}'"
    await session.execute(text(f"INSERT INTO personas ({columns}) VALUES ({values})"), {"org_id": ORG_ID})  # noqa: S608  # named above
    return {"created": True}


class Recorder:
    """Notes when a response starts, beside what the test notes."""

    def __init__(self, app: ASGIApp, events: list[str]) -> None:
        self._app = app
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._events.append(f"response {message['status']}")
            await send(message)

        await self._app(scope, receive, noting)


@pytest.fixture
def events() -> list[str]:
    return []


@pytest.fixture
async def client(committed_database: Database, events: list[str]) -> AsyncIterator[AsyncClient]:
    async with committed_database.unit_of_work(PLATFORM) as session:
        await session.execute(text("INSERT INTO organizations (id, name) VALUES (:id, 'School')"), {"id": ORG_ID})
    app = feature_app(router, database=committed_database, token_verifier=AnyToken(), services=[])
    transport = ASGITransport(Recorder(app, events), raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="http://bwenge.test", headers=bearer("any")) as client:
        yield client


@pytest.fixture
def on_commit(committed_database: Database) -> Iterator[list[Any]]:
    """What is called when the tenant's transaction is about to be committed."""
    calls: list[Any] = []

    def call_all(connection: Any) -> None:
        for call in calls:
            call(connection)

    engine = committed_database._app.sync_engine
    event.listen(engine, "commit", call_all)
    yield calls
    event.remove(engine, "commit", call_all)


async def personas(database: Database) -> int:
    async with database.unit_of_work(ORG_ID) as session:
        return int(await session.scalar(COUNT) or 0)


async def test_the_commit_comes_before_the_response(
    client: AsyncClient, committed_database: Database, events: list[str], on_commit: list[Any]
) -> None:
    on_commit.append(lambda _connection: events.append("commit"))
    answer = await client.post("/personas")
    assert answer.json() == {"created": True}
    assert events == ["commit", "response 201"]
    on_commit.clear()
    assert await personas(committed_database) == 1


async def test_a_commit_that_fails_is_no_success(
    client: AsyncClient, committed_database: Database, events: list[str], on_commit: list[Any]
) -> None:
    def fail(_connection: Any) -> None:
        raise RuntimeError("the commit failed")

    on_commit.append(fail)
    assert code_of(await client.post("/personas")) == (500, "internal")
    assert events == ["response 500"]
    on_commit.clear()
    assert await personas(committed_database) == 0


async def test_a_commit_that_finds_no_server_is_503(
    client: AsyncClient, committed_database: Database, events: list[str], on_commit: list[Any]
) -> None:
    on_commit.append(lambda connection: connection.connection.driver_connection.pgconn.finish())
    answer = await client.post("/personas")
    assert code_of(answer) == (503, "unavailable")
    assert answer.headers["retry-after"]
    assert events == ["response 503"]
    on_commit.clear()
    assert await personas(committed_database) == 0
