"""Exports and deletions as they are in service: real logins of each role, and the runner that does the jobs."""

import asyncio
import io
import json
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from sqlalchemy import insert, select

from bwenge.auth.models import ErasedOrganization, Organization
from bwenge.kit.db import PLATFORM, Database
from tests.support.application import open_application


async def until(fact: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await fact():  # noqa: ASYNC110  # what the runner commits is no event here
            await asyncio.sleep(0.05)


async def test_an_organisation_is_exported_deleted_and_not_revived_by_a_backup(
    committed_database: Database, tmp_path: Path
) -> None:
    async with open_application(committed_database, tmp_path) as application:
        client, platform = application.client, application.platform
        owner = await application.register()
        persona_id = await application.create_persona(owner)
        await application.upload(owner, persona_id, b"The fare from Kigali to Huye is 3,200 francs.")

        async def exists() -> bool:
            async with committed_database.unit_of_work(PLATFORM) as session:
                return await session.get(Organization, owner.org_id) is not None

        async def is_gone() -> bool:
            return not await exists()

        await platform.start()
        job_id = (await client.post(f"/orgs/{owner.org_id}/export", headers=owner.headers)).json()["job_id"]

        async def is_done() -> bool:
            return "result_url" in (await client.get(f"/jobs/{job_id}", headers=owner.headers)).json()

        await until(is_done)
        address = (await client.get(f"/jobs/{job_id}", headers=owner.headers)).json()["result_url"]
        archive = zipfile.ZipFile(io.BytesIO((await client.get(address)).content))
        assert json.loads(archive.read("manifest.json"))["files"][0]["used_by"][0]["file_name"] == "a.txt"

        assert (await client.delete(f"/orgs/{owner.org_id}", headers=owner.headers)).status_code == 202
        await until(is_gone)
        assert not (tmp_path / "blobs" / str(owner.org_id)).exists()
        await platform.stop()

        async with committed_database.unit_of_work(PLATFORM) as session:
            await session.execute(insert(Organization).values(id=owner.org_id, name="Back from the tape"))
    async with open_application(committed_database, tmp_path) as again:
        await again.platform.start()
        await until(is_gone)
        await again.platform.stop()
    async with committed_database.unit_of_work(PLATFORM) as session:
        assert (await session.scalars(select(ErasedOrganization.id))).all() == [owner.org_id]
