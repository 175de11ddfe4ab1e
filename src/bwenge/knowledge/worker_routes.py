from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from bwenge.kit.http.dependencies import ActivePrincipal, provided
from bwenge.kit.http.problems import problems
from bwenge.kit.http.schemas import ResponseBody
from bwenge.kit.http.security import members
from bwenge.kit.identity import Role
from bwenge.kit.jobs.standing import JobOverview

router = APIRouter(prefix="/knowledge", tags=["knowledge"])

Overview = Annotated[JobOverview, Depends(provided(JobOverview))]


class WorkerItem(ResponseBody):
    name: str
    queues: list[str]
    alive: bool = Field(description="It was heard of within the last 15 seconds")
    busy: bool


class QueueItem(ResponseBody):
    name: str
    depth: int = Field(description="Jobs that are due and that no worker has begun")
    oldest_seconds: float | None = Field(description="How long the first of them has waited")


class Workers(ResponseBody):
    workers: list[WorkerItem]
    queues: list[QueueItem]


@router.get("/workers", dependencies=[members(Role.ADMIN)], responses=problems(401, 403))
async def list_workers(principal: ActivePrincipal, overview: Overview) -> Workers:
    """Whether documents are being worked on: the workers and queues of the whole platform, as figures."""
    del principal
    standing = await overview.standing()
    return Workers.model_validate(standing, from_attributes=True)
