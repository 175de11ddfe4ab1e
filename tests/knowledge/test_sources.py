"""What is told of sources, to whom, and what a deletion leaves: status, list, chunks, delete."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from bwenge.kit.identity import Role
from bwenge.kit.ids import new_id
from bwenge.knowledge.models import KnowledgeSource
from bwenge.knowledge.schemas import SourceStatus
from tests.support.application import Application, Person
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import code_of

TEXT = b"The fare from Kigali to Huye is 3,200 francs."
STATUS_FIELDS = {
    "source_id", "persona_id", "title", "type", "status", "stage", "progress", "searchable", "queue_position",
    "units_done", "units_total", "eta_seconds", "chunk_count", "page_count", "token_count", "file_size", "language",
    "warnings", "error_code", "error_message", "attempts", "created_at", "updated_at",
}  # fmt: skip


@pytest.fixture
async def owner(application: Application) -> Person:
    return await application.register()


@pytest.fixture
async def persona_id(application: Application, owner: Person) -> UUID:
    return await application.create_persona(owner)


async def get(application: Application, person: Person, path: str, **query: Any) -> dict[str, Any]:
    answer = await application.client.get(f"/knowledge/{path}", headers=person.headers, params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def upload_many(application: Application, owner: Person, persona_id: UUID, count: int) -> list[str]:
    """Ids in the order of upload."""
    answers = [await application.upload(owner, persona_id, TEXT + b"%d" % number) for number in range(count)]
    return [answer.json()["source_id"] for answer in answers]


async def test_the_status_has_the_contracts_fields(application: Application, owner: Person, persona_id: UUID) -> None:
    (source_id,) = await upload_many(application, owner, persona_id, 1)
    status = await get(application, owner, f"{source_id}/status")
    assert status.keys() == STATUS_FIELDS


async def test_a_source_that_waits_says_so(application: Application, owner: Person, persona_id: UUID) -> None:
    (source_id,) = await upload_many(application, owner, persona_id, 1)
    status = await get(application, owner, f"{source_id}/status")
    waiting = {"status": "pending", "stage": "queued", "searchable": "none", "progress": 0.0, "queue_position": 1}
    assert waiting.items() <= status.items()
    assert (status["chunk_count"], status["language"], status["warnings"], status["attempts"]) == (0, None, [], 0)


async def test_a_source_that_is_ready_says_what_it_holds(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    source_id = await application.add_document(owner, persona_id, TEXT)
    status = await get(application, owner, f"{source_id}/status")
    ready = {"status": "ready", "stage": "done", "searchable": "full", "progress": 1.0, "queue_position": None}
    assert ready.items() <= status.items()
    assert {"chunk_count": 1, "file_size": len(TEXT), "language": "en", "attempts": 1}.items() <= status.items()
    assert status["token_count"] > 0
    assert status["error_code"] is None


async def test_times_are_rfc_3339_in_utc(application: Application, owner: Person, persona_id: UUID) -> None:
    (source_id,) = await upload_many(application, owner, persona_id, 1)
    created_at = (await get(application, owner, f"{source_id}/status"))["created_at"]
    assert created_at.endswith("Z")
    assert abs(datetime.fromisoformat(created_at) - datetime.now(UTC)) < timedelta(minutes=5)


async def test_queue_positions_count_the_organisations_waiting_sources_in_order_of_arrival(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    other = await application.create_persona(owner, name="Keza")
    first, second = await upload_many(application, owner, persona_id, 2)
    (third,) = await upload_many(application, owner, other, 1)
    await application.ingest(owner, UUID(first))
    items = (await get(application, owner, "sources"))["items"]
    assert {item["source_id"]: item["queue_position"] for item in items} == {first: None, second: 1, third: 2}
    assert (await get(application, owner, f"{third}/status"))["queue_position"] == 2


def embedding(progress: float, *, seconds_ago: float | None = 60.0) -> KnowledgeSource:
    begun = None if seconds_ago is None else datetime.now(UTC) - timedelta(seconds=seconds_ago)
    return KnowledgeSource(
        id=new_id(), persona_id=new_id(), title="Lesson", type="text", status="processing", stage="embedding",
        searchable="keyword", progress=progress, stage_started_at=begun, units_done=0, chunk_count=1, token_count=1,
        file_size=1, warnings=[], attempts=1, created_at=datetime.now(UTC), updated_at=datetime.now(UTC),
    )  # fmt: skip


def test_the_time_left_follows_from_the_rate_of_the_embedding_so_far() -> None:
    eta = SourceStatus.of(embedding(0.575)).eta_seconds
    assert eta == pytest.approx(60.0, abs=1.0)  # 42.5 % in a minute; as much is left


@pytest.mark.parametrize("source", [embedding(0.15), embedding(0.5, seconds_ago=None)])
def test_no_time_is_foretold_before_there_is_a_rate(source: KnowledgeSource) -> None:
    assert SourceStatus.of(source).eta_seconds is None


async def test_the_list_is_newest_first(application: Application, owner: Person, persona_id: UUID) -> None:
    ids = await upload_many(application, owner, persona_id, 3)
    body = await get(application, owner, "sources")
    assert [item["source_id"] for item in body["items"]] == ids[::-1]
    assert body["next_cursor"] is None
    assert body["items"][0].keys() == STATUS_FIELDS


async def test_pages_follow_each_other_without_gap_or_repeat(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    ids = await upload_many(application, owner, persona_id, 5)
    pages: list[list[str]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await get(application, owner, "sources", limit=2, **cursor)
        pages.append([item["source_id"] for item in page["items"]])
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert pages == [ids[4:2:-1], ids[2:0:-1], ids[:1]]


async def test_a_full_last_page_has_no_next_one(application: Application, owner: Person, persona_id: UUID) -> None:
    await upload_many(application, owner, persona_id, 2)
    assert (await get(application, owner, "sources", limit=2))["next_cursor"] is None


async def test_the_list_is_filtered_by_persona_and_by_status(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    other = await application.create_persona(owner, name="Keza")
    waiting, done = await upload_many(application, owner, persona_id, 2)
    await application.ingest(owner, UUID(done))
    await upload_many(application, owner, other, 1)
    of_persona = await get(application, owner, "sources", persona_id=str(persona_id))
    ready = await get(application, owner, "sources", status="ready")
    both = await get(application, owner, "sources", persona_id=str(persona_id), status="pending")
    assert [item["source_id"] for item in of_persona["items"]] == [done, waiting]
    assert [item["source_id"] for item in ready["items"]] == [done]
    assert [item["source_id"] for item in both["items"]] == [waiting]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"cursor": "é"}, "cursor"),
        ({"cursor": ""}, "cursor"),
        ({"cursor": "A" * 65}, "cursor"),
        ({"status": "done"}, "status"),
        ({"persona_id": "abc"}, "persona_id"),
    ],
)
async def test_a_wrong_query_is_422_and_names_the_parameter(
    application: Application, owner: Person, query: dict[str, Any], field: str
) -> None:
    answer = await application.client.get("/knowledge/sources", headers=owner.headers, params=query)
    assert code_of(answer) == (422, "invalid")
    assert [finding["field"] for finding in answer.json()["errors"]] == [field]


async def test_a_list_of_an_unknown_persona_is_404(application: Application, owner: Person) -> None:
    answer = await application.client.get(f"/knowledge/sources?persona_id={uuid4()}", headers=owner.headers)
    assert code_of(answer) == (404, "not_found")


async def test_chunks_come_in_reading_order_page_by_page(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    words = " ".join(f"Sentence number {number} speaks of the market of Kimironko." for number in range(400))
    source_id = await application.add_document(owner, persona_id, words.encode())
    first = await get(application, owner, f"{source_id}/chunks", limit=2)
    rest = await get(application, owner, f"{source_id}/chunks", limit=100, cursor=first["next_cursor"])
    chunks = first["items"] + rest["items"]
    assert len(chunks) > 4
    assert [chunk["chunk_index"] for chunk in chunks] == list(range(len(chunks)))
    assert rest["next_cursor"] is None
    assert chunks[0].keys() == {"chunk_id", "chunk_index", "text", "token_count", "language", "locator"}


async def test_a_chunks_locator_finds_its_text_in_the_document(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    source_id = await application.add_document(owner, persona_id, TEXT)
    (chunk,) = (await get(application, owner, f"{source_id}/chunks"))["items"]
    assert chunk["text"] == TEXT.decode()
    assert chunk["locator"] == {"char_start": 0, "char_end": len(TEXT)}


async def test_a_source_without_chunks_has_an_empty_page(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    (source_id,) = await upload_many(application, owner, persona_id, 1)
    assert await get(application, owner, f"{source_id}/chunks") == {"items": [], "next_cursor": None}


async def test_a_deleted_source_is_nowhere_from_that_moment(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    source_id = await application.add_document(owner, persona_id, TEXT)
    answer = await application.client.delete(f"/knowledge/{source_id}", headers=owner.headers)
    assert (answer.status_code, answer.content) == (204, b"")
    for path in ("status", "chunks", "file"):
        gone = await application.client.get(f"/knowledge/{source_id}/{path}", headers=owner.headers)
        assert code_of(gone) == (404, "not_found"), path
    assert (await get(application, owner, "sources"))["items"] == []
    search = {"persona_id": str(persona_id), "query": "fare to Huye"}
    found = await application.client.post("/knowledge/search", headers=owner.headers, json=search)
    assert found.json() == {"items": []}


async def test_a_source_is_deleted_once(application: Application, owner: Person, persona_id: UUID) -> None:
    (source_id,) = await upload_many(application, owner, persona_id, 1)
    await application.client.delete(f"/knowledge/{source_id}", headers=owner.headers)
    again = await application.client.delete(f"/knowledge/{source_id}", headers=owner.headers)
    assert code_of(again) == (404, "not_found")


async def test_a_deletion_asks_for_the_purge_and_leaves_an_event(
    application: Application, owner: Person, persona_id: UUID, database: SavepointDatabase
) -> None:
    (source_id,) = await upload_many(application, owner, persona_id, 1)
    await application.client.delete(f"/knowledge/{source_id}", headers=owner.headers)
    async with database.superuser() as connection:
        purge = (await connection.execute(text("SELECT * FROM jobs WHERE kind = 'knowledge.purge'"))).one()
        last = text("SELECT event_type, payload->>'source_id' FROM analytics_events ORDER BY id DESC LIMIT 1")
        event = tuple((await connection.execute(last)).one())
    assert purge.payload["source_id"] == source_id
    assert purge.ordering_key == f"source:{source_id}"
    assert event == ("source_deleted", source_id)


async def test_another_experts_sources_may_be_read_and_not_deleted(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    source_id = await application.add_document(owner, persona_id, TEXT)
    expert = await application.add_member(owner.org_id, Role.EXPERT)
    await get(application, expert, f"{source_id}/status")
    await get(application, expert, f"{source_id}/chunks")
    assert (await get(application, expert, "sources", persona_id=str(persona_id)))["items"]
    refusal = await application.client.delete(f"/knowledge/{source_id}", headers=expert.headers)
    assert code_of(refusal) == (403, "forbidden")
    await get(application, owner, f"{source_id}/status")


async def test_an_administrator_may_delete_an_experts_source(application: Application, owner: Person) -> None:
    expert = await application.add_member(owner.org_id, Role.EXPERT)
    admin = await application.add_member(owner.org_id, Role.ADMIN)
    persona_id = await application.create_persona(expert)
    (source_id,) = await upload_many(application, expert, persona_id, 1)
    answer = await application.client.delete(f"/knowledge/{source_id}", headers=admin.headers)
    assert answer.status_code == 204


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "sources"), ("GET", "{id}/status"), ("GET", "{id}/chunks"), ("GET", "{id}/file"), ("DELETE", "{id}")],
)
async def test_a_learner_is_told_nothing_of_sources(
    application: Application, owner: Person, persona_id: UUID, method: str, path: str
) -> None:
    (source_id,) = await upload_many(application, owner, persona_id, 1)
    learner = await application.add_member(owner.org_id, Role.USER)
    answer = await application.client.request(
        method, f"/knowledge/{path.replace('{id}', source_id)}", headers=learner.headers
    )
    assert code_of(answer) == (403, "forbidden")
