"""What a start does to jobs that are marked as running: only where the database is its own can it know that none is."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.engine import URL

from bwenge.apps.resources import Server, open_resources
from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.embedded_postgres import EmbeddedPostgres
from bwenge.kit.ids import new_id
from bwenge.kit.jobs import queue
from bwenge.kit.jobs.models import Job
from bwenge.kit.jobs.queues import EXTRACTION
from bwenge.knowledge import jobs
from bwenge.providers.embedding.fake import FakeEmbedder
from tests.support.application import open_application


@pytest.mark.parametrize("is_alone", [True, False])
async def test_a_job_that_runs_elsewhere_is_taken_only_where_nobody_else_can_run_it(
    committed_database: Database,
    tmp_path: Path,
    is_alone: bool,  # noqa: FBT001  # a parameter
) -> None:
    async with committed_database.unit_of_work(PLATFORM) as session:
        await queue.enqueue(session, jobs.ingest(new_id(), org_id=new_id()))
        claimant = queue.Claimant("elsewhere", kinds=[jobs.INGEST])
        held = await queue.claim(session, claimant, queues=[EXTRACTION], lease=timedelta(hours=1))
        assert held is not None
        lease = await session.scalar(select(Job.lease_until))
    async with open_application(committed_database, tmp_path) as application:
        resources = replace(application.platform.resources, is_alone=is_alone)
        platform = replace(application.platform, resources=resources)
        await platform.start()
        async with committed_database.unit_of_work(PLATFORM) as session:
            assert (await session.scalar(select(Job.lease_until)) != lease) is is_alone
        await platform.stop()


async def test_only_the_embedded_database_is_known_to_be_nobody_elses(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path)
    url = URL.create("postgresql+psycopg", host="database.example", database="bwenge")
    embedded = EmbeddedPostgres(tmp_path, password="never-started")
    for server in (Server(url, schema_changed=False), Server(url, schema_changed=False, embedded=embedded)):
        async with open_resources(
            settings, Secrets.load(settings), server=server, embedder=FakeEmbedder()
        ) as resources:
            assert resources.is_alone is (server.embedded is embedded)
