"""POST /knowledge/upload with an `Idempotency-Key`, on connections that really commit."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from httpx2 import Response
from sqlalchemy import text

from bwenge.kit.db import Database
from tests.support.application import Application, Person, open_application
from tests.support.feature_app import code_of

TEXT = b"The fare from Kigali to Huye is 3,200 francs."


@pytest.fixture
async def committed(committed_database: Database, tmp_path: Path) -> AsyncIterator[Application]:
    async with open_application(committed_database, tmp_path) as application:
        yield application


@pytest.fixture
async def owner(committed: Application) -> Person:
    return await committed.register()


@pytest.fixture
async def persona_id(committed: Application, owner: Person) -> UUID:
    return await committed.create_persona(owner)


async def upload(
    application: Application,
    person: Person,
    persona_id: UUID,
    content: bytes = TEXT,
    *,
    key: str = "4b0e",
    name: str = "a.txt",
    **fields: Any,
) -> Response:
    return await application.client.post(
        "/knowledge/upload",
        headers={**person.headers, "Idempotency-Key": key},
        data={"persona_id": str(persona_id), **fields},
        files={"file": (name, content)},
    )


async def sources(database: Database, person: Person) -> int:
    async with database.unit_of_work(person.org_id) as session:
        return int(await session.scalar(text("SELECT count(*) FROM knowledge_sources")) or 0)


async def test_a_repeated_upload_is_accepted_as_it_was_at_first(
    committed: Application, owner: Person, persona_id: UUID
) -> None:
    first, again = [await upload(committed, owner, persona_id) for _ in range(2)]
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.content == again.content
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["duplicate"] is False


async def test_another_key_for_the_same_file_is_told_of_the_duplicate_each_time(
    committed: Application, owner: Person, persona_id: UUID
) -> None:
    await upload(committed, owner, persona_id)
    first, again = [await upload(committed, owner, persona_id, key="77aa") for _ in range(2)]
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.content == again.content
    assert again.headers["idempotency-replayed"] == "true"


async def test_twins_at_once_are_one_source_and_get_one_answer(
    committed: Application, owner: Person, persona_id: UUID, committed_database: Database
) -> None:
    answers = await asyncio.gather(*(upload(committed, owner, persona_id) for _ in range(6)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(202, answers[0].content)}
    assert Counter(answer.headers.get("idempotency-replayed") for answer in answers) == {None: 1, "true": 5}
    assert await sources(committed_database, owner) == 1


async def test_twins_with_and_without_the_key_are_one_source(
    committed: Application, owner: Person, persona_id: UUID, committed_database: Database
) -> None:
    keyed = (upload(committed, owner, persona_id) for _ in range(3))
    bare = (committed.upload(owner, persona_id, TEXT) for _ in range(3))
    answers = await asyncio.gather(*keyed, *bare)
    assert {answer.json()["source_id"] for answer in answers} == {answers[0].json()["source_id"]}
    assert len({(answer.status_code, answer.content) for answer in answers[:3]}) == 1
    assert await sources(committed_database, owner) == 1


async def test_a_failed_source_is_begun_anew_once_by_a_repeated_upload(
    committed: Application, owner: Person, persona_id: UUID
) -> None:
    source_id = await committed.add_document(owner, persona_id, b"")
    first, again = [await upload(committed, owner, persona_id, b"") for _ in range(2)]
    assert first.json()["source_id"] == str(source_id)
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert first.json()["duplicate"] is False


@pytest.mark.parametrize("other", [{"content": TEXT + b" More."}, {"title": "Fares"}])
async def test_the_same_key_with_another_file_or_field_is_refused(
    committed: Application, owner: Person, persona_id: UUID, other: dict[str, Any]
) -> None:
    await upload(committed, owner, persona_id)
    assert code_of(await upload(committed, owner, persona_id, **other)) == (409, "idempotency_key_reused")


async def test_another_name_of_the_same_file_is_the_same_upload(
    committed: Application, owner: Person, persona_id: UUID
) -> None:
    first = await upload(committed, owner, persona_id)
    assert (await upload(committed, owner, persona_id, name="b.txt")).content == first.content


async def test_a_refused_upload_is_not_kept(committed: Application, owner: Person, persona_id: UUID) -> None:
    refused = [
        await upload(committed, owner, owner.org_id),
        await upload(committed, owner, persona_id, b"\x7fELF\x00\x01"),
        await upload(committed, owner, persona_id, title="t" * 201),
    ]
    assert [answer.status_code for answer in refused] == [404, 415, 422]
    assert (await upload(committed, owner, persona_id)).status_code == 202
