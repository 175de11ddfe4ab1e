"""How a job goes, for whoever asked for it."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import Field

from bwenge.kit.db import PLATFORM
from bwenge.kit.errors import NotFound
from bwenge.kit.http.dependencies import CurrentDatabase, CurrentMembership, provided
from bwenge.kit.http.problems import problems
from bwenge.kit.http.schemas import ResponseBody
from bwenge.kit.http.security import CurrentCaller, signed_in
from bwenge.kit.identity import Principal
from bwenge.kit.jobs.reports import RESULT_PATH, JobReport, JobState, find_report
from bwenge.kit.signing import SignedPaths

router = APIRouter(tags=["jobs"])

SignedAddresses = Annotated[SignedPaths, Depends(provided(SignedPaths))]


class JobAccepted(ResponseBody):
    """The answer to a request whose work goes on: GET /jobs/{job_id} tells how."""

    job_id: UUID


class JobResponse(ResponseBody):
    job_id: UUID
    kind: str
    state: JobState
    progress: float = Field(ge=0, le=1)
    result_url: str | None = Field(default=None, description="What came of it; good for an hour, and new at each call")
    error_code: str | None = Field(default=None, description="Why the job is dead")


@router.get(
    "/jobs/{job_id}",
    operation_id="getJob",
    response_model_exclude_none=True,
    dependencies=[signed_in()],
    responses=problems(401, 403, 404),
)
async def get_job(
    job_id: UUID,
    caller: CurrentCaller,
    database: CurrentDatabase,
    membership: CurrentMembership,
    addresses: SignedAddresses,
) -> JobResponse:
    """How far the job has come. It is told to whoever asked for it, while their role is no lower, and to nobody else.

    A job that ends its own tenant is told to a member who is none any more, as long as it runs.
    """
    async with database.unit_of_work(PLATFORM) as session:
        report = await find_report(session, job_id, caller=caller)
    outlives_its_tenant = report is not None and report.org_id is None
    if isinstance(caller, Principal) and not outlives_its_tenant:
        async with database.unit_of_work(caller.org_id) as session:
            await membership.require_active(session, caller)
    if report is None:
        raise NotFound
    return _told(report, addresses)


def _told(report: JobReport, addresses: SignedPaths) -> JobResponse:
    path = (report.result or {}).get(RESULT_PATH) if report.state == "done" else None
    return JobResponse(
        job_id=report.job_id,
        kind=report.kind,
        state=report.state,
        progress=report.progress,
        result_url=None if path is None else addresses.address_of(path),
        error_code=report.error_code,
    )
