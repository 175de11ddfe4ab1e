"""The queues that jobs wait in: how many of each one process runs at once, and how long an attempt may take."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Final

EXTRACTION: Final = "extraction"
TRANSCRIPTION: Final = "transcription"
EMBEDDING: Final = "embedding"
REPORTS: Final = "reports"
"""The queue of work over all that is kept of a tenant, which may take hours."""
MAINTENANCE: Final = "maintenance"
"""The queue of short work that nobody waits for and that may not wait behind long work: deletions, sweeps."""


@dataclass(frozen=True, slots=True)
class QueueRule:
    """How one queue is worked off.

    Attributes:
        slots: Its jobs that run at once in the one process of the all-in-one topology; a worker process of the split
            topology runs one job, of whatever queue, in each of its children.
        limit: How long an attempt may take before it is ended and counts as failed.
    """

    slots: int
    limit: timedelta


QUEUES: Final[Mapping[str, QueueRule]] = MappingProxyType(
    {
        EXTRACTION: QueueRule(slots=2, limit=timedelta(minutes=30)),
        TRANSCRIPTION: QueueRule(slots=1, limit=timedelta(hours=4)),
        EMBEDDING: QueueRule(slots=1, limit=timedelta(hours=4)),
        REPORTS: QueueRule(slots=1, limit=timedelta(hours=4)),
        MAINTENANCE: QueueRule(slots=1, limit=timedelta(minutes=30)),
    }
)

POOL_SIZE: Final = sum(rule.slots for rule in QUEUES.values()) + 2
"""Connections of each role that a process needs which runs jobs of every queue beside requests: one for each job, one
for the claims and one for the requests."""
