"""Who does the jobs of exports and erasures."""

from bwenge.auth.erasure import ERASE, SWEEP, OrganisationErasure
from bwenge.auth.exports import EXPIRE, EXPORT, OrganisationExports
from bwenge.kit.jobs.kinds import JobKind


def job_kinds(exports: OrganisationExports, erasure: OrganisationErasure) -> list[JobKind]:
    return [
        JobKind(EXPORT, exports.run),
        JobKind(EXPIRE, exports.expire),
        JobKind(ERASE, erasure.run),
        JobKind(SWEEP, erasure.sweep),
    ]
