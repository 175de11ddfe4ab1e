"""What whoever asked for a job may know of it: how far it has come, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast
from uuid import UUID

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.identity import Caller, Principal, Role
from bwenge.kit.jobs.models import Job
from bwenge.kit.jobs.queue import ClaimedJob

JobState = Literal["queued", "running", "done", "dead"]

RESULT_PATH: Final = "path"
"""The key of a result whose value is a path on this platform; it is told as a signed address (`kit.signing`)."""


@dataclass(frozen=True, slots=True)
class JobReport:
    """A job as it stands. `progress` is from 0 to 1; `org_id` is None where the job outlives its tenant."""

    job_id: UUID
    org_id: UUID | None
    kind: str
    state: JobState
    progress: float
    result: Mapping[str, Any] | None
    error_code: str | None


async def report_progress(database: Database, job: ClaimedJob, progress: float) -> None:
    """Tell how far a handler has come, in a transaction of its own."""
    async with database.unit_of_work(PLATFORM) as session:
        await session.execute(
            update(Job)
            .where(Job.id == job.id, Job.state == "running", Job.attempts == job.attempt)
            .values(progress=min(max(progress, 0.0), 1.0))
        )


async def keep_result(session: AsyncSession, job_id: UUID, result: Mapping[str, Any] | None) -> None:
    """Keep what came of a job, or forget it with None, in the caller's transaction; it scopes the platform."""
    await session.execute(update(Job).where(Job.id == job_id).values(result=None if result is None else dict(result)))


async def find_report(session: AsyncSession, job_id: UUID, *, caller: Caller) -> JobReport | None:
    """The job that the caller asked for; None where a member has a lower role by now than the one they asked in."""
    own_roles = [role for role in Role if isinstance(caller, Principal) and caller.role.at_least(role)]
    is_told = or_(Job.requested_as.is_(None), Job.requested_as.in_(own_roles))
    return await _find(session, Job.id == job_id, Job.requested_by == caller.user_id, is_told)


async def find_result(session: AsyncSession, job_id: UUID, *, org_id: UUID, kind: str) -> Mapping[str, Any] | None:
    """What came of a tenant's job of that kind; None where there is no such job, or no result yet or any more."""
    report = await _find(session, Job.id == job_id, Job.org_id == org_id, Job.kind == kind)
    return None if report is None else report.result


async def _find(session: AsyncSession, *conditions: Any) -> JobReport | None:
    row = await session.scalar(select(Job).where(*conditions))
    if row is None:
        return None
    return JobReport(
        row.id, row.org_id, row.kind, cast("JobState", row.state), row.progress, row.result, row.error_code
    )
