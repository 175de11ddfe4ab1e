"""What a feature tells of the jobs that it does: their names, who does them, and what their failures are called."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.jobs.queue import ClaimedJob


class AttemptFailed(Exception):
    """A failure that its job's owner knows by a code of its own, where the attempt was the last."""

    code: ClassVar[str] = "internal"


class TimedOut(AttemptFailed):
    """The attempt took longer than its queue allows."""

    code: ClassVar[str] = "timed_out"


Handler = Callable[[ClaimedJob], Awaitable[None]]
BurialRite = Callable[[AsyncSession, ClaimedJob, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class JobKind:
    """How to do one kind of job.

    Attributes:
        handle: Does the work; opens its own units of work and is idempotent. An exception is a failed attempt, of
            which `AttemptFailed` can tell the code.
        on_dead: Notes the job's death, with an error code, in the transaction that buries it.
    """

    name: str
    handle: Handler
    on_dead: BurialRite | None = None
