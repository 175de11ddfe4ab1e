"""Jobs of exports and erasures done at once, ways into an organisation, and an eye on all that the platform stores."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx2
from sqlalchemy import String, cast, column, select, update
from sqlalchemy import table as table_named
from sqlalchemy.ext.asyncio import AsyncConnection

from bwenge.kit.db import PLATFORM
from bwenge.kit.ids import new_id
from bwenge.kit.jobs import queue
from bwenge.kit.jobs.models import Job
from bwenge.kit.jobs.queue import Claimant, ClaimedJob
from bwenge.kit.jobs.queues import MAINTENANCE, REPORTS
from bwenge.migrations.metadata import metadata
from tests.support.application import PASSWORD, Application, Person

QUEUES = (REPORTS, MAINTENANCE)


async def claim(application: Application, kind: str) -> ClaimedJob | None:
    """The next job of that kind, whenever it was to be due."""
    async with application.platform.resources.database.unit_of_work(PLATFORM) as session:
        await session.execute(
            update(Job).where(Job.kind == kind, Job.state == "queued").values(run_after=Job.created_at)
        )
        return await queue.claim(session, Claimant("test", [kind]), queues=QUEUES, lease=timedelta(minutes=1))


async def do_jobs(application: Application, kind: str) -> int:
    """Do every job of that kind as the runner would; returns how many there were."""
    [handle] = [known.handle for known in application.platform.custody.job_kinds if known.name == kind]
    count = 0
    while (job := await claim(application, kind)) is not None:
        await handle(job)
        async with application.platform.resources.database.unit_of_work(PLATFORM) as session:
            await queue.finish(session, job)
        count += 1
    return count


async def offers_of(application: Application, owner: Person) -> list[dict[str, str]]:
    """What a registration says of an invitation into the organisation, and of a join link."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    bodies: dict[str, dict[str, object]] = {
        "invite": {"email": f"{new_id().hex}@school.example", "role": "user"},
        "join-links": {"role": "user", "max_uses": 5, "expires_at": tomorrow},
    }
    offers: list[dict[str, str]] = []
    for path, body in bodies.items():
        answer = await application.client.post(f"/orgs/{owner.org_id}/{path}", headers=owner.headers, json=body)
        assert answer.status_code == 201, answer.text
        offers.append({name: value for name, value in answer.json().items() if name.endswith("_token")})
    return offers


async def accept(application: Application, offer: Mapping[str, str]) -> httpx2.Response:
    """Open an account by an invitation or a join link."""
    body = {"name": "Keza", "username": f"keza.{new_id().hex}", "password": PASSWORD, **offer}
    return await application.client.post("/auth/register", json=body)


async def places_of(connection: AsyncConnection, words: Iterable[str]) -> set[str]:
    """`table.column` wherever one of the words stands in any column of any table, read as text."""
    sought = [word.lower() for word in words]
    found = set()
    for table in metadata.sorted_tables:
        names = [each.name for each in table.columns]
        texts = select(*(cast(column(name), String) for name in names)).select_from(table_named(table.name))
        for row in await connection.execute(texts):
            for name, text in zip(names, row, strict=True):
                if text is not None and any(word in text.lower() for word in sought):
                    found.add(f"{table.name}.{name}")
    return found


async def contents_of(connection: AsyncConnection, tenants: dict[str, str], org_id: UUID) -> dict[str, list[str]]:
    """All rows of a tenant as text, by table."""
    contents = {}
    for name, tenant in tenants.items():
        whole = cast(column(name), String)
        rows = select(whole).select_from(table_named(name)).where(column(tenant) == org_id)
        contents[name] = sorted((await connection.scalars(rows)).all())
    return contents


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file and, with nothing in it, every folder, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}
