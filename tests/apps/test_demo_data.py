"""Demo data: made once, found again, and made anew where its file was lost."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from bwenge.apps.demo_data import FIRST_QUESTION, DemoData, Ready
from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from tests.support.application import Application, open_application
from tests.support.databases import SavepointDatabase


@dataclass
class Demo:
    application: Application
    folder: Path
    steps: list[str]

    @property
    def file(self) -> Path:
        return self.folder / "demo.json"

    async def ensure(self, **settings: Any) -> Ready:
        """As at a start of the platform, with the lesson's ingestion done beside it."""
        return await self._ensure(self._ingest, **settings)

    async def ensure_failing(self) -> Ready:
        """As at a start whose ingestion of the lesson ends as failed."""
        return await self._ensure(self._fail)

    async def _ensure(self, work: Callable[[], Awaitable[None]], **settings: Any) -> Ready:
        given = Settings(_env_file=None, data_dir=self.folder, **settings)
        making = asyncio.create_task(
            DemoData(given, Secrets.load(given), self.application.platform).ensure(self.steps.append)
        )
        while not making.done():
            await work()
            await asyncio.sleep(0.01)
        return making.result()

    async def _ingest(self) -> None:
        async with self._database.superuser() as connection:
            waiting = text("SELECT id, org_id FROM knowledge_sources WHERE status = 'pending'")
            row = (await connection.execute(waiting)).one_or_none()
        if row is not None:
            ingestion = self.application.platform.knowledge.ingestion
            await ingestion.ingest(row.id, org_id=row.org_id, attempt=1)
            await ingestion.embed(row.id, org_id=row.org_id, attempt=1)

    async def _fail(self) -> None:
        failed = "UPDATE knowledge_sources SET status = 'failed', stage = 'done', error_code = 'timed_out'"
        async with self._database.superuser() as connection:
            await connection.execute(text(f"{failed} WHERE status = 'pending'"))

    @property
    def _database(self) -> SavepointDatabase:
        database = self.application.platform.resources.database
        assert isinstance(database, SavepointDatabase)
        return database


@pytest.fixture
async def demo(database: SavepointDatabase, tmp_path: Path) -> AsyncIterator[Demo]:
    async with open_application(database, tmp_path) as application:
        yield Demo(application, tmp_path, [])


async def counts(database: SavepointDatabase) -> list[int]:
    async with database.superuser() as connection:
        return [
            await connection.scalar(text(f"SELECT count(*) FROM {table}"))  # noqa: S608  # named below
            for table in ("organizations", "users", "personas", "knowledge_sources")
        ]


async def test_the_first_start_makes_a_school_that_can_be_asked(demo: Demo, database: SavepointDatabase) -> None:
    ready = await demo.ensure()
    assert ready.demo_is_new
    assert await counts(database) == [1, 2, 1, 1]
    content = json.loads(demo.file.read_text())
    learner = {key: content["learner"][key] for key in ("identifier", "password")}
    login = (await demo.application.client.post("/auth/login", json=learner)).json()
    answer = await demo.application.client.post(
        "/ai/respond",
        headers={"Authorization": f"Bearer {login['access_token']}"},
        json={"persona_id": content["persona_id"], "user_message": FIRST_QUESTION},
    )
    assert answer.json()["grounded"] is True
    assert answer.json()["citations"][0]["source_id"] == content["source_id"]


async def test_the_file_is_for_its_owner_alone_and_stands_whole(demo: Demo) -> None:
    await demo.ensure()
    assert stat.S_IMODE(demo.file.stat().st_mode) == 0o600
    assert json.loads(demo.file.read_text()).keys() == {
        "url", "org_id", "persona_id", "source_id", "owner", "learner",
    }  # fmt: skip
    assert not list(demo.folder.glob("demo.tmp"))


async def test_the_next_start_makes_nothing_again_and_keeps_the_address_true(
    demo: Demo, database: SavepointDatabase
) -> None:
    first = await demo.ensure()
    again = await demo.ensure(port=9000)
    assert not again.demo_is_new
    assert await counts(database) == [1, 2, 1, 1]
    assert json.loads(demo.file.read_text()) == {**(first.demo or {}), "url": "http://127.0.0.1:9000"}


@pytest.mark.parametrize("content", [None, b"", b"{half", b"[]", b"\xff"])
async def test_a_file_that_was_lost_or_damaged_is_made_again_with_the_same_accounts(
    demo: Demo, database: SavepointDatabase, content: bytes | None
) -> None:
    first = await demo.ensure()
    if content is None:
        demo.file.unlink()
    else:
        demo.file.write_bytes(content)
    again = await demo.ensure()
    assert again.demo == first.demo
    assert await counts(database) == [1, 2, 1, 1]


@pytest.mark.parametrize(
    "settings", [{"demo": False}, {"env": "production", "public_url": "https://a.rw"}, {"env": "staging"}]
)
async def test_where_it_is_not_wanted_nothing_is_made(
    demo: Demo, database: SavepointDatabase, settings: dict[str, Any]
) -> None:
    assert await demo.ensure(**settings) == Ready(demo=None, demo_is_new=False)
    assert await counts(database) == [0, 0, 0, 0]
    assert not demo.file.exists()
    assert demo.steps == []


async def test_a_lesson_that_fails_is_news_and_the_platform_serves_without_it(
    demo: Demo, database: SavepointDatabase
) -> None:
    assert await demo.ensure_failing() == Ready(demo=None, demo_is_new=False)
    assert demo.steps[-1] == (
        "There is no demo data (the lesson could not be read: timed_out); the next start tries again"
    )
    assert not demo.file.exists()
    assert await counts(database) == [1, 2, 1, 1]


async def test_the_next_start_uploads_a_failed_lesson_again(demo: Demo) -> None:
    await demo.ensure_failing()
    ready = await demo.ensure()
    assert ready.demo_is_new
    assert json.loads(demo.file.read_text()) == ready.demo


async def test_accounts_that_somebody_changed_stop_no_start(demo: Demo, database: SavepointDatabase) -> None:
    await demo.ensure()
    demo.file.unlink()
    async with database.superuser() as connection:
        await connection.execute(text("UPDATE users SET is_active = false"))
    assert await demo.ensure() == Ready(demo=None, demo_is_new=False)
    assert demo.steps[-1] == "There is no demo data (the log says why); the next start tries again"
