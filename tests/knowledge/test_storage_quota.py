"""A source takes its file's size of the plan's storage, from its upload to its deletion."""

import asyncio
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from bwenge.kit.db import PLATFORM, Database
from bwenge.payments.contract import QuotaKind
from tests.support.application import Application, Person, open_application
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import code_of
from tests.support.quotas import acts, drifted, leave

TEXT = b"The fare from Kigali to Huye is 3,200 francs."


@pytest.fixture
async def owner(application: Application) -> Person:
    return await application.register()


@pytest.fixture
async def persona_id(application: Application, owner: Person) -> UUID:
    return await application.create_persona(owner)


async def used(application: Application, person: Person) -> int:
    assert await drifted(application.platform.resources.database) == []
    answer = await application.client.get("/subscriptions/current", headers=person.headers)
    amount: int = answer.json()["quotas"]["storage"]["used"]
    return amount


async def test_an_upload_takes_its_size_once(application: Application, owner: Person, persona_id: UUID) -> None:
    source_id = (await application.upload(owner, persona_id, TEXT)).json()["source_id"]
    again = await application.upload(owner, persona_id, TEXT)

    assert (again.status_code, again.json()["duplicate"]) == (200, True)
    assert await used(application, owner) == len(TEXT)
    [act] = await acts(application.platform.resources.database, owner.org_id)
    assert (act["kind"], str(act["act_id"]), act["amount"]) == ("storage", source_id, len(TEXT))


async def test_the_same_file_of_another_persona_is_a_source_of_its_own(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    await application.upload(owner, persona_id, TEXT)
    await application.upload(owner, await application.create_persona(owner), TEXT)
    assert await used(application, owner) == 2 * len(TEXT)


async def test_a_deletion_gives_the_storage_back_at_once(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    source_id = await application.add_document(owner, persona_id, TEXT)
    await application.client.delete(f"/knowledge/{source_id}", headers=owner.headers)
    assert await used(application, owner) == 0
    assert (await application.upload(owner, persona_id, TEXT)).status_code == 202
    assert await used(application, owner) == len(TEXT)


async def test_a_failed_source_keeps_its_storage_and_begins_anew_for_nothing_more(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    unreadable = b"%PDF-1.7 and no more"
    await application.add_document(owner, persona_id, unreadable, name="a.pdf")
    await leave(application.platform.resources.database, owner.org_id, 0, kind=QuotaKind.STORAGE)
    before = await used(application, owner)
    assert (await application.upload(owner, persona_id, unreadable, name="a.pdf")).status_code == 202
    assert await used(application, owner) == before


async def test_an_upload_for_which_nothing_is_left_is_refused_with_402_and_not_stored(
    application: Application, owner: Person, persona_id: UUID, database: SavepointDatabase
) -> None:
    await leave(database, owner.org_id, len(TEXT) - 1, kind=QuotaKind.STORAGE)

    refusal = await application.upload(owner, persona_id, TEXT)

    assert code_of(refusal) == (402, "quota_exhausted")
    assert refusal.json()["detail"] == (
        "The file needs 45 bytes and 44 bytes of the Free plan's storage are left; delete sources that are not needed "
        "any more, or ask an administrator to choose a larger plan"
    )
    async with database.superuser() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM knowledge_sources")) == 0
        assert await connection.scalar(text("SELECT count(*) FROM blobs")) == 0
    assert list(application.platform.spool.iterdir()) == []


async def test_the_last_byte_may_be_used(application: Application, owner: Person, persona_id: UUID) -> None:
    await leave(application.platform.resources.database, owner.org_id, len(TEXT), kind=QuotaKind.STORAGE)
    assert (await application.upload(owner, persona_id, TEXT)).status_code == 202


async def test_of_uploads_at_once_only_as_many_as_have_room_become_sources(
    committed_database: Database, tmp_path: Path
) -> None:
    async with open_application(committed_database, tmp_path) as application:
        owner = await application.register()
        persona_id = await application.create_persona(owner)
        await leave(committed_database, owner.org_id, 2 * len(TEXT), kind=QuotaKind.STORAGE)
        contents = [TEXT.replace(b"3,200", f"{number},200".encode()) for number in range(4, 9)]
        answers = await asyncio.gather(*(application.upload(owner, persona_id, content) for content in contents))
        assert sorted(answer.status_code for answer in answers) == [202, 202, 402, 402, 402]
        assert await drifted(committed_database) == []
    async with committed_database.unit_of_work(owner.org_id) as session:
        assert await session.scalar(text("SELECT count(*) FROM knowledge_sources")) == 2
        kept = await session.scalar(text("SELECT count(*) FROM blob_references WHERE expires_at IS NULL"))
    async with committed_database.unit_of_work(PLATFORM) as session:
        sweeps = await session.scalar(text("SELECT count(*) FROM jobs WHERE kind = 'knowledge.sweep_file'"))
    # What a refused one has put into the store is swept, as after every upload that did not end.
    assert kept == 2
    assert (sweeps or 0) >= 2
