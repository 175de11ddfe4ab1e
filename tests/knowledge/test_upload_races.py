"""Twins of one upload, on connections that really commit."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from bwenge.kit.blobs.store import BlobKey
from bwenge.kit.db import PLATFORM, Database
from tests.support.application import Application, open_application

TEXT = b"The fare from Kigali to Huye is 3,200 francs."


@pytest.fixture
async def committed(committed_database: Database, tmp_path: Path) -> AsyncIterator[Application]:
    async with open_application(committed_database, tmp_path) as application:
        yield application


async def test_twins_of_one_upload_are_one_source_with_one_file_and_one_ingestion(
    committed: Application, committed_database: Database
) -> None:
    owner = await committed.register()
    persona_id = await committed.create_persona(owner)
    answers = await asyncio.gather(*(committed.upload(owner, persona_id, TEXT) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 202]
    assert len({answer.json()["source_id"] for answer in answers}) == 1
    async with committed_database.unit_of_work(owner.org_id) as session:
        owners = (await session.execute(text("SELECT owner_id, expires_at FROM blob_references"))).all()
    async with committed_database.unit_of_work(PLATFORM) as session:
        ingestions = await session.scalar(text("SELECT count(*) FROM jobs WHERE kind = 'knowledge.ingest'"))
    assert [(str(row.owner_id), row.expires_at) for row in owners] == [(answers[0].json()["source_id"], None)]
    assert ingestions == 1


async def test_twins_of_one_upload_begin_a_failed_source_anew_once(
    committed: Application, committed_database: Database
) -> None:
    owner = await committed.register()
    persona_id = await committed.create_persona(owner)
    source_id = await committed.add_document(owner, persona_id, b"")
    answers = await asyncio.gather(*(committed.upload(owner, persona_id, b"") for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 202]
    assert {answer.json()["source_id"] for answer in answers} == {str(source_id)}
    assert {answer.json()["status"] for answer in answers} == {"pending"}
    async with committed_database.unit_of_work(PLATFORM) as session:
        assert await session.scalar(text("SELECT count(*) FROM jobs WHERE kind = 'knowledge.ingest'")) == 2
    async with committed_database.unit_of_work(owner.org_id) as session:
        assert await session.scalar(text("SELECT count(*) FROM blob_references WHERE expires_at IS NULL")) == 1


async def test_the_same_file_sent_to_two_personas_at_once_is_two_sources_of_one_content(
    committed: Application, committed_database: Database
) -> None:
    owner = await committed.register()
    personas = [await committed.create_persona(owner, name=name) for name in ("Gabriel", "Keza")]
    answers = await asyncio.gather(*(committed.upload(owner, persona_id, TEXT) for persona_id in personas))
    assert [answer.status_code for answer in answers] == [202, 202]
    async with committed_database.unit_of_work(owner.org_id) as session:
        assert await session.scalar(text("SELECT count(*) FROM blobs")) == 1
        assert await session.scalar(text("SELECT count(*) FROM blob_references WHERE expires_at IS NULL")) == 2
        sha256 = await session.scalar(text("SELECT sha256 FROM blobs"))
    key = BlobKey(owner.org_id, sha256)
    assert b"".join([piece async for piece in committed.platform.resources.blobs.read(key)]) == TEXT
