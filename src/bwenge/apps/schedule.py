"""What the platform does of its own accord, and how often: one table for every topology."""

from datetime import timedelta
from typing import Final

from bwenge.auth.expiry import SWEEP_EXPIRED, CredentialExpiry
from bwenge.kit.db import Database
from bwenge.kit.idempotency.expiry import SWEEP_ANSWERS, AnswerExpiry
from bwenge.kit.jobs.kinds import JobKind
from bwenge.kit.jobs.schedule import Recurring
from bwenge.kit.jobs.tidying import TIDY, JobTidying

SCHEDULE: Final = (
    Recurring(SWEEP_ANSWERS, every=timedelta(hours=1)),
    Recurring(SWEEP_EXPIRED, every=timedelta(hours=6)),
    Recurring(TIDY, every=timedelta(days=1)),
)


def recurring_kinds(database: Database) -> tuple[JobKind, ...]:
    """Who does what the schedule asks for."""
    return (
        JobKind(SWEEP_ANSWERS, AnswerExpiry(database).run),
        JobKind(SWEEP_EXPIRED, CredentialExpiry(database).run),
        JobKind(TIDY, JobTidying(database).run),
    )
