"""Who does the jobs of exports and erasures."""

from bwenge.auth.erasure import ERASE, SWEEP, OrganisationErasure
from bwenge.auth.exports import EXPIRE, EXPORT, OrganisationExports
from bwenge.kit.jobs.queue import ClaimedJob
from bwenge.kit.jobs.runner import JobKind


def job_kinds(exports: OrganisationExports, erasure: OrganisationErasure) -> list[JobKind]:
    async def sweep(_job: ClaimedJob) -> None:
        await erasure.sweep()

    return [
        JobKind(EXPORT, exports.run),
        JobKind(EXPIRE, exports.expire),
        JobKind(ERASE, erasure.run),
        JobKind(SWEEP, sweep),
    ]
