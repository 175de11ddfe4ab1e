"""What is told of a job, and to whom."""

import pytest

from bwenge.kit.db import PLATFORM
from bwenge.kit.identity import Operator, Principal, Role
from bwenge.kit.ids import new_id
from bwenge.kit.jobs import queue
from bwenge.kit.jobs.executor import LEASE
from bwenge.kit.jobs.queue import Claimant, ClaimedJob, NewJob
from bwenge.kit.jobs.reports import JobReport, find_report, find_result, keep_result, report_progress
from tests.support.databases import SavepointDatabase

ASKER, ORG = new_id(), new_id()


def asker(role: Role = Role.ADMIN) -> Principal:
    return Principal(ASKER, ORG, role)


async def claimed(database: SavepointDatabase, *, requested_as: Role | None = None) -> ClaimedJob:
    async with database.unit_of_work(PLATFORM) as session:
        await queue.enqueue(session, NewJob("work", {}, org_id=ORG, requested_by=ASKER, requested_as=requested_as))
        job = await queue.claim(session, Claimant("test", ["work"]), queues=["maintenance"], lease=LEASE)
    assert job is not None
    return job


async def report(database: SavepointDatabase, job: ClaimedJob) -> JobReport:
    async with database.unit_of_work(PLATFORM) as session:
        found = await find_report(session, job.id, caller=asker())
    assert found is not None
    return found


async def test_progress_is_told_while_the_job_runs(database: SavepointDatabase) -> None:
    job = await claimed(database)
    for told, shown in ((0.25, 0.25), (1.5, 1.0), (-1, 0.0)):
        await report_progress(database, job, told)
        assert ((await report(database, job)).state, (await report(database, job)).progress) == ("running", shown)


async def test_a_job_that_ended_well_has_come_all_the_way(database: SavepointDatabase) -> None:
    job = await claimed(database)
    async with database.unit_of_work(PLATFORM) as session:
        await queue.finish(session, job)
    await report_progress(database, job, 0.5)
    assert (await report(database, job)).progress == 1


async def test_a_dead_job_says_why(database: SavepointDatabase) -> None:
    job = await claimed(database)
    async with database.unit_of_work(PLATFORM) as session:
        await queue.bury(session, job, error="OutOfPaper", code="out_of_paper")
    assert ((await report(database, job)).state, (await report(database, job)).error_code) == ("dead", "out_of_paper")


async def test_a_result_is_its_tenants_and_its_kinds_until_it_is_forgotten(database: SavepointDatabase) -> None:
    job = await claimed(database)
    async with database.unit_of_work(PLATFORM) as session:
        await keep_result(session, job.id, {"path": "/here"})
        assert await find_result(session, job.id, org_id=ORG, kind="work") == {"path": "/here"}
        assert await find_result(session, job.id, org_id=new_id(), kind="work") is None
        assert await find_result(session, job.id, org_id=ORG, kind="other") is None
        await keep_result(session, job.id, None)
        assert await find_result(session, job.id, org_id=ORG, kind="work") is None


async def test_nobody_is_told_of_anothers_job(database: SavepointDatabase) -> None:
    job = await claimed(database)
    async with database.unit_of_work(PLATFORM) as session:
        for other in (Principal(new_id(), ORG, Role.OWNER), Operator(new_id())):
            assert await find_report(session, job.id, caller=other) is None


@pytest.mark.parametrize("role", list(Role))
async def test_a_job_is_told_in_no_lower_role_than_it_was_asked_for_in(database: SavepointDatabase, role: Role) -> None:
    job = await claimed(database, requested_as=Role.ADMIN)
    async with database.unit_of_work(PLATFORM) as session:
        found = await find_report(session, job.id, caller=asker(role))
    assert (found is not None) is role.at_least(Role.ADMIN)


async def test_an_operator_is_told_of_a_job_of_their_own(database: SavepointDatabase) -> None:
    job = await claimed(database)
    async with database.unit_of_work(PLATFORM) as session:
        assert await find_report(session, job.id, caller=Operator(ASKER)) is not None


async def test_a_job_that_is_dropped_is_gone_for_whoever_claimed_it(database: SavepointDatabase) -> None:
    job = await claimed(database)
    async with database.unit_of_work(PLATFORM) as session:
        await queue.drop_jobs_of(session, ORG)
        assert not await queue.extend_lease(session, job, lease=LEASE)
        assert not await queue.finish(session, job)
