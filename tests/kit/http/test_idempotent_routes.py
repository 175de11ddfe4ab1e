"""What `Idempotency-Key` does to a route, whatever the route makes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, Any, Final

import pytest
from fastapi import APIRouter, Depends, Response
from httpx2 import AsyncClient
from httpx2 import Response as Answered
from pydantic import BaseModel
from sqlalchemy import text

from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.errors import BwengeError, NotFound, PaymentRequired
from bwenge.kit.http.dependencies import CurrentDatabase, TenantSession
from bwenge.kit.http.idempotency import CurrentKey, OnceInSession
from bwenge.kit.http.schemas import RequestBody, Timestamp
from bwenge.kit.idempotency.answers import KeptAnswers
from bwenge.kit.identity import Caller, Operator, Principal, Role
from bwenge.kit.ids import new_id
from tests.support.feature_app import bearer, client_of, code_of, feature_app

ORG_ID: Final = new_id()
CALLERS: Final[dict[str, Caller]] = {
    "aline": Principal(user_id=new_id(), org_id=ORG_ID, role=Role.OWNER),
    "eric": Principal(user_id=new_id(), org_id=ORG_ID, role=Role.OWNER),
    "staff": Operator(user_id=new_id()),
}
KEY_OF_ALINE: Final = Principal(user_id=CALLERS["aline"].user_id, org_id=ORG_ID, role=Role.OWNER, key_id=new_id())
KEYED: Final = {"Idempotency-Key": "4b0e"}
ADD: Final = text("INSERT INTO jobs (id, org_id, kind, payload) VALUES (:id, :org_id, :kind, '{}')")

router = APIRouter()


class Names:
    """Each token is its caller's name."""

    def verify(self, token: str) -> Caller:
        return KEY_OF_ALINE if token == "key of aline" else CALLERS[token]


class Gate:
    """Where a route waits until the test lets it through."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def pass_through(self) -> None:
        self.reached.set()
        await self.is_open.wait()


gate = Gate()
CurrentGate = Annotated[Gate, Depends(lambda: gate)]


class Wish(RequestBody):
    kind: str
    refusal: str | None = None


class Thing(BaseModel):
    thing_id: str
    kind: str
    weight: float = 1e22
    made_at: Timestamp


REFUSALS: Final[dict[str | None, type[BwengeError]]] = {"404": NotFound, "402": PaymentRequired}


@router.post("/things", status_code=201)
async def make(
    wish: Wish, session: TenantSession, response: Response, passage: CurrentGate, once: OnceInSession
) -> Thing:
    row = {"id": new_id(), "org_id": ORG_ID, "kind": wish.kind}
    await session.execute(ADD, row)
    await passage.pass_through()
    if wish.refusal is not None:
        raise REFUSALS[wish.refusal]
    made_at = await session.scalar(text("SELECT created_at FROM jobs WHERE id = :id"), row)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Passing"] = "yes"
    return await once.keep(Thing(thing_id=str(row["id"]), kind=wish.kind, made_at=made_at))


@router.post("/things/{place}", status_code=201)
async def make_somewhere(place: str, session: TenantSession, once: OnceInSession) -> Thing:
    made_at = await session.scalar(text("SELECT now()"))
    return await once.keep(Thing(thing_id=str(new_id()), kind=place, made_at=made_at))


@router.post("/forgetful", status_code=201)
async def make_and_forget(session: TenantSession, once: OnceInSession) -> dict[str, str]:  # noqa: ARG001  # forgotten
    await session.execute(ADD, {"id": new_id(), "org_id": ORG_ID, "kind": "forgotten"})
    return {}


@router.post("/open", status_code=201)
async def make_openly(wish: Wish, database: CurrentDatabase, response: Response, key: CurrentKey) -> Thing:
    """As a service does that opens its own units of work."""

    def answer(thing: Thing) -> Thing:
        response.status_code = 202
        return thing

    once = await key.once(answer)
    async with database.unit_of_work(PLATFORM) as session:
        await once.claim(session)
        thing = Thing(thing_id=str(new_id()), kind=wish.kind, made_at=await session.scalar(text("SELECT now()")))
        await once.keep(session, thing)
    return answer(thing)


@pytest.fixture
async def client(committed_database: Database) -> AsyncIterator[AsyncClient]:
    async with committed_database.unit_of_work(PLATFORM) as session:
        await session.execute(text("INSERT INTO organizations (id, name) VALUES (:id, 'School')"), {"id": ORG_ID})
    impatient = KeptAnswers(bytes(32), wait=timedelta(milliseconds=200))
    app = feature_app(router, database=committed_database, token_verifier=Names(), services=[impatient])
    async with client_of(app) as client:
        yield client


async def post(
    client: AsyncClient, path: str = "/things", *, who: str = "aline", key: str = "4b0e", **wish: Any
) -> Answered:
    headers = {**bearer(who), "Idempotency-Key": key}
    return await client.post(path, headers=headers, json={"kind": "chair", **wish})


async def made(database: Database) -> int:
    async with database.unit_of_work(PLATFORM) as session:
        return int(await session.scalar(text("SELECT count(*) FROM jobs")) or 0)


def is_replay(answer: Answered) -> bool:
    return answer.headers.get("idempotency-replayed") == "true"


async def test_a_repeated_request_is_answered_the_same_and_done_once(
    client: AsyncClient, committed_database: Database
) -> None:
    first, again = await post(client), await post(client)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert (is_replay(first), is_replay(again)) == (False, True)
    assert await made(committed_database) == 1


async def test_an_answer_is_repeated_with_the_headers_that_belong_to_it(client: AsyncClient) -> None:
    first, again = await post(client), await post(client)
    for name in ("content-type", "content-length", "cache-control"):
        assert first.headers[name] == again.headers[name]
    assert "x-passing" not in again.headers
    assert first.headers["x-request-id"] != again.headers["x-request-id"]


async def test_without_a_key_each_request_is_one_of_its_own(client: AsyncClient, committed_database: Database) -> None:
    for _ in range(2):
        answer = await client.post("/things", headers=bearer("aline"), json={"kind": "chair"})
        assert not is_replay(answer)
    assert await made(committed_database) == 2


async def test_the_same_key_with_another_body_is_refused(client: AsyncClient, committed_database: Database) -> None:
    first = await post(client)
    assert code_of(await post(client, kind="table")) == (409, "idempotency_key_reused")
    assert (await post(client)).content == first.content
    assert await made(committed_database) == 1


@pytest.mark.parametrize("path", ["/things/there", "/things/here?at=noon"])
async def test_the_same_key_for_another_address_of_the_route_is_refused(client: AsyncClient, path: str) -> None:
    await post(client, "/things/here")
    assert code_of(await post(client, path)) == (409, "idempotency_key_reused")


async def test_a_host_that_is_none_changes_nothing(client: AsyncClient) -> None:
    first = await post(client)
    headers = {**bearer("aline"), **KEYED, "Host": "[::"}
    assert (await client.post("/things", headers=headers, json={"kind": "chair"})).content == first.content


async def test_the_same_key_on_another_route_is_another_key(client: AsyncClient) -> None:
    await post(client)
    assert not is_replay(await post(client, "/things/here"))


@pytest.mark.parametrize("who", ["eric", "key of aline"])
async def test_the_same_key_of_somebody_else_is_another_key(
    client: AsyncClient, committed_database: Database, who: str
) -> None:
    await post(client)
    assert not is_replay(await post(client, who=who, kind="table"))
    assert await made(committed_database) == 2


@pytest.mark.parametrize("refusal", ["404", "402"])
async def test_a_refusal_is_not_kept(client: AsyncClient, committed_database: Database, refusal: str) -> None:
    assert (await post(client, refusal=refusal)).status_code == int(refusal)
    assert await made(committed_database) == 0
    assert (await post(client)).status_code == 201


async def test_a_body_that_is_not_valid_is_not_kept(client: AsyncClient) -> None:
    assert code_of(await post(client, colour="red")) == (422, "invalid")
    assert (await post(client)).status_code == 201


@pytest.mark.parametrize("key", ["", "é", "a\tb", "k" * 256])
async def test_a_key_is_printable_ascii_of_limited_length(client: AsyncClient, key: str) -> None:
    headers = {**bearer("aline"), "Idempotency-Key": key.encode("latin-1")}
    answer = await client.post("/things", headers=headers, json={"kind": "chair"})  # type: ignore[arg-type]  # bytes go as they are
    assert code_of(answer) == (422, "invalid")
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


@pytest.mark.parametrize("key", ["k", "a b~!", "k" * 255])
async def test_any_other_key_is_taken(client: AsyncClient, key: str) -> None:
    assert (await post(client, key=key)).content == (await post(client, key=key)).content


async def test_a_twin_of_one_that_takes_long_is_told_so_and_answered_later(
    client: AsyncClient, committed_database: Database
) -> None:
    gate.reached.clear()
    gate.is_open.clear()
    try:
        first = asyncio.create_task(post(client))
        await gate.reached.wait()
        twin = await post(client)
    finally:
        gate.is_open.set()
    assert code_of(twin) == (409, "idempotency_in_progress")
    assert twin.headers["retry-after"] == "1"
    assert (await post(client)).content == (await first).content
    assert await made(committed_database) == 1


async def test_a_route_that_keeps_nothing_fails_at_once_and_does_nothing(
    client: AsyncClient, committed_database: Database
) -> None:
    answer = await client.post("/forgetful", headers=bearer("aline"))
    assert code_of(answer) == (500, "internal")
    assert await made(committed_database) == 0


async def test_a_service_that_opens_its_own_units_of_work_answers_twins_the_same(client: AsyncClient) -> None:
    first, again = await post(client, "/open", who="staff"), await post(client, "/open", who="staff")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.content == again.content
    assert (is_replay(first), is_replay(again)) == (False, True)


async def test_without_a_token_the_key_is_the_addresss(committed_database: Database, client: AsyncClient) -> None:
    wish = {"kind": "chair"}
    first = await client.post("/open", headers=KEYED, json=wish)
    assert (await client.post("/open", headers=KEYED, json=wish)).content == first.content
    signed_in = await client.post("/open", headers={**KEYED, **bearer("staff")}, json=wish)
    assert not is_replay(signed_in)
    async with committed_database.unit_of_work(PLATFORM) as session:
        assert set(await session.scalars(text("SELECT org_id FROM idempotency_keys"))) == {None}


async def test_the_document_shows_the_header_where_it_counts(committed_database: Database) -> None:
    app = feature_app(router, database=committed_database, token_verifier=Names(), services=[])
    [header] = app.openapi()["paths"]["/things"]["post"]["parameters"]
    assert (header["name"], header["in"], header["required"]) == ("Idempotency-Key", "header", False)
