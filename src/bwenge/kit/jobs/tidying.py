"""Forgetting jobs that ended long ago, and workers that died."""

from datetime import timedelta
from typing import Final

from sqlalchemy import and_, func

from bwenge.kit.db import Database
from bwenge.kit.jobs.models import Job, JobWorker
from bwenge.kit.jobs.queue import ClaimedJob
from bwenge.kit.sweeping import sweep

TIDY: Final = "jobs.tidy"

DONE_KEPT: Final = timedelta(days=30)
DEAD_KEPT: Final = timedelta(days=180)
"""A dead job is what somebody may have to explain."""
WORKERS_KEPT: Final = timedelta(days=1)


class JobTidying:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, _job: ClaimedJob) -> None:
        now = func.clock_timestamp()
        for state, kept in (("done", DONE_KEPT), ("dead", DEAD_KEPT)):
            await sweep(self._database, Job, and_(Job.state == state, Job.finished_at < now - kept))
        await sweep(self._database, JobWorker, JobWorker.seen_at < now - WORKERS_KEPT)
