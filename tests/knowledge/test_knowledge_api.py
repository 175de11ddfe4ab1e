"""The knowledge API by its contract, on the whole application."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from bwenge.kit.db import Database
from bwenge.kit.identity import Role
from bwenge.knowledge import uploads
from tests.support.application import Application, Person, open_application

LESSON = b"The fare from Kigali to Huye is 3,200 francs.\n\nA percentage is a number expressed as a fraction of 100.\n"


@pytest.fixture
async def owner(application: Application) -> Person:
    return await application.register()


@pytest.fixture
async def persona_id(application: Application, owner: Person) -> UUID:
    return await application.create_persona(owner)


async def get(application: Application, person: Person, path: str, **options: Any) -> Any:
    return await application.client.get(path, headers=person.headers, **options)


async def upload_several(application: Application, owner: Person, persona_id: UUID, *, number: int) -> list[str]:
    answers = [await application.upload(owner, persona_id, LESSON + bytes([65 + n])) for n in range(number)]
    return [answer.json()["source_id"] for answer in answers]


async def test_an_upload_is_accepted_with_both_ids_equal(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    answer = await application.upload(owner, persona_id, LESSON, name="Ishuri é.txt")
    body = answer.json()
    assert answer.status_code == 202
    assert body.keys() == {"upload_id", "source_id", "status", "message", "duplicate"}
    assert (body["status"], body["duplicate"], body["upload_id"]) == ("pending", False, body["source_id"])


async def test_the_status_has_the_fields_of_the_contract(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    source_id = await application.add_document(owner, persona_id, LESSON, name="../../etc/fares.txt")
    status = (await get(application, owner, f"/knowledge/{source_id}/status")).json()
    assert status.keys() == {
        *("source_id", "persona_id", "title", "type", "status", "stage", "progress", "searchable", "queue_position"),
        *("units_done", "units_total", "eta_seconds", "chunk_count", "page_count", "token_count", "file_size"),
        *("language", "warnings", "error_code", "error_message", "attempts", "created_at", "updated_at"),
    }
    assert (status["status"], status["stage"], status["searchable"], status["progress"]) == ("ready", "done", "full", 1)
    assert (status["title"], status["type"], status["language"]) == ("fares", "text", "en")
    assert status["created_at"].endswith("Z")


async def test_a_waiting_source_knows_its_place_in_the_queue(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    ids = [
        (await application.upload(owner, persona_id, LESSON + bytes([65 + n]))).json()["source_id"] for n in range(3)
    ]
    statuses = [(await get(application, owner, f"/knowledge/{source_id}/status")).json() for source_id in ids]
    assert [status["queue_position"] for status in statuses] == [1, 2, 3]


async def test_the_same_content_for_the_same_persona_is_the_existing_source(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    first = await application.upload(owner, persona_id, LESSON)
    again = await application.upload(owner, persona_id, LESSON, name="other.txt")
    assert (again.status_code, again.json()["duplicate"]) == (200, True)
    assert again.json()["source_id"] == first.json()["source_id"]
    elsewhere = await application.upload(owner, await application.create_persona(owner), LESSON)
    assert elsewhere.status_code == 202


async def test_twins_sent_at_once_are_one_source(tmp_path: Path, committed_database: Database) -> None:
    async with open_application(committed_database, tmp_path) as application:
        owner = await application.register()
        persona_id = await application.create_persona(owner)
        answers = await asyncio.gather(*(application.upload(owner, persona_id, LESSON) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 202]
    assert len({answer.json()["source_id"] for answer in answers}) == 1


async def test_nothing_of_an_upload_stays_in_the_spool(
    application: Application, owner: Person, persona_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    await application.upload(owner, persona_id, LESSON)
    await application.upload(owner, persona_id, b"\x7fELF\x00\x01\x02", name="tool.txt")
    monkeypatch.setattr(uploads, "MAX_FILE_BYTES", 10)
    assert (await application.upload(owner, persona_id, LESSON + b"!")).status_code == 413
    assert list(application.platform.spool.iterdir()) == []


async def test_lists_come_newest_first_page_by_page_without_repeats(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    ids = [
        (await application.upload(owner, persona_id, LESSON + bytes([65 + n]))).json()["source_id"] for n in range(5)
    ]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": "2", "persona_id": str(persona_id)} | ({"cursor": cursor} if cursor else {})
        page = (await get(application, owner, "/knowledge/sources", params=query)).json()
        assert len(page["items"]) <= 2
        seen += [item["source_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ids[::-1]


async def test_lists_may_be_narrowed_to_a_status(application: Application, owner: Person, persona_id: UUID) -> None:
    ready = await application.add_document(owner, persona_id, LESSON)
    await application.upload(owner, persona_id, LESSON + b"Z")
    items = (await get(application, owner, "/knowledge/sources?status=ready")).json()["items"]
    assert [item["source_id"] for item in items] == [str(ready)]


async def test_chunks_say_where_they_stand(application: Application, owner: Person, persona_id: UUID) -> None:
    source_id = await application.add_document(owner, persona_id, b"# Fares\n\n" + LESSON, name="fares.md")
    [chunk] = (await get(application, owner, f"/knowledge/{source_id}/chunks")).json()["items"]
    assert chunk.keys() == {"chunk_id", "chunk_index", "text", "token_count", "language", "locator"}
    assert chunk["locator"]["heading"] == "Fares"
    assert "3,200 francs" in chunk["text"]


async def test_search_answers_with_both_sides_scores(application: Application, owner: Person, persona_id: UUID) -> None:
    await application.add_document(owner, persona_id, LESSON)
    answer = await application.client.post(
        "/knowledge/search", headers=owner.headers, json={"persona_id": str(persona_id), "query": "fare to Huye"}
    )
    [item] = answer.json()["items"]
    assert item.keys() == {
        *("chunk_id", "source_id", "title", "text", "score", "dense_score", "bm25_score", "locator"),
    }
    assert item["bm25_score"] > 0
    assert item["dense_score"] > 0


async def test_another_experts_persona_may_be_read_and_not_fed(application: Application, owner: Person) -> None:
    author = await application.add_member(owner.org_id, Role.EXPERT)
    colleague = await application.add_member(owner.org_id, Role.EXPERT)
    persona_id = await application.create_persona(author)
    source_id = await application.add_document(author, persona_id, LESSON)
    assert (await get(application, colleague, f"/knowledge/{source_id}/status")).status_code == 200
    assert (await application.upload(colleague, persona_id, LESSON + b"!")).status_code == 403
    deleted = await application.client.delete(f"/knowledge/{source_id}", headers=colleague.headers)
    assert deleted.status_code == 403
    assert (await application.upload(owner, persona_id, LESSON + b"?")).status_code == 202


async def test_a_source_whose_file_is_lost_fails_and_says_so(
    application: Application, owner: Person, persona_id: UUID, tmp_path: Path
) -> None:
    source_id = UUID((await application.upload(owner, persona_id, LESSON)).json()["source_id"])
    for file in (tmp_path / "blobs").rglob("*"):
        if file.is_file():
            file.unlink()
    await application.ingest(owner, source_id)
    status = (await get(application, owner, f"/knowledge/{source_id}/status")).json()
    assert (status["status"], status["error_code"]) == ("failed", "storage_failed")


@pytest.mark.parametrize(
    ("wanted", "status", "content", "content_range"),
    [
        ("bytes=0-7", 206, LESSON[:8], f"bytes 0-7/{len(LESSON)}"),
        ("bytes=-4", 206, LESSON[-4:], f"bytes {len(LESSON) - 4}-{len(LESSON) - 1}/{len(LESSON)}"),
        ("bytes=90-", 206, LESSON[90:], f"bytes 90-{len(LESSON) - 1}/{len(LESSON)}"),
        ("bytes=0-99999", 206, LESSON, f"bytes 0-{len(LESSON) - 1}/{len(LESSON)}"),
        ("bytes=0-1,4-5", 200, LESSON, None),
        ("lines=1-2", 200, LESSON, None),
    ],
)
async def test_a_file_is_opened_whole_or_by_range(
    application: Application,
    owner: Person,
    persona_id: UUID,
    wanted: str,
    status: int,
    content: bytes,
    content_range: str | None,
) -> None:
    source_id = (await application.upload(owner, persona_id, LESSON)).json()["source_id"]
    answer = await application.client.get(f"/knowledge/{source_id}/file", headers={**owner.headers, "Range": wanted})
    assert (answer.status_code, answer.content) == (status, content)
    assert answer.headers.get("content-range") == content_range


async def test_a_known_file_is_not_sent_again_and_never_runs(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    path = f"/knowledge/{(await application.upload(owner, persona_id, LESSON)).json()['source_id']}/file"
    head = await application.client.head(path, headers=owner.headers)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(LESSON)), b"")
    assert head.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in head.headers["content-security-policy"]
    again = await application.client.get(path, headers={**owner.headers, "If-None-Match": head.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_a_signed_address_opens_one_file_for_an_hour_without_a_login(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    source_id = UUID((await application.upload(owner, persona_id, LESSON)).json()["source_id"])
    other = UUID((await application.upload(owner, persona_id, LESSON + b"!")).json()["source_id"])
    links = application.platform.knowledge.links
    address = links.source_url(source_id, owner.org_id, locator={"page": 3})
    assert address.endswith("#page=3")
    assert (await application.client.get(address)).content == LESSON
    stolen = address.replace(str(source_id), str(other))
    late = address.replace("expires=", "expires=9")
    for tampered in (stolen, late, address.replace("signature=", "signature=A"), address.split("&signature")[0]):
        answer = await application.client.get(tampered)
        assert (answer.status_code, answer.json()["code"]) == (403, "invalid_signature"), tampered


async def test_a_learner_opens_a_file_only_by_its_signed_address(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    source_id = (await application.upload(owner, persona_id, LESSON)).json()["source_id"]
    learner = await application.add_member(owner.org_id, Role.USER)
    assert (await get(application, learner, f"/knowledge/{source_id}/file")).status_code == 403
    assert (await application.client.get(f"/knowledge/{source_id}/file")).status_code == 401


async def test_what_a_deleted_persona_leaves_behind_may_still_be_deleted(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    source_id = (await application.upload(owner, persona_id, LESSON)).json()["source_id"]
    assert (await application.client.delete(f"/personas/{persona_id}", headers=owner.headers)).status_code == 204
    stranger = await application.add_member(owner.org_id, Role.EXPERT)
    refused = await application.client.delete(f"/knowledge/{source_id}", headers=stranger.headers)
    assert refused.status_code == 404
    deleted = await application.client.delete(f"/knowledge/{source_id}", headers=owner.headers)
    assert deleted.status_code == 204
