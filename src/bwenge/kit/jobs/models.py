from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, String, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from bwenge.kit.db import Base, Timestamped


class Job(Timestamped, Base):
    """A piece of work, written in the transaction of the change that wants it; this row is the truth about it.

    `attempts` is counted at the claim, so that work which kills its worker cannot loop. An unfinished earlier job with
    the same `ordering_key` blocks later ones, and a running one all others; a dead one does not. `requested_by` may ask
    for its `progress`, from 0 to 1, and its `result`, or why there is none, while their role is at least the one that
    they had then: `requested_as`. `published_at` is when a broker was last given its id, where there is one.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("state IN ('queued', 'running', 'done', 'dead')", name="state"),
        Index("ix_jobs_claimable", "queue", "run_after", "id", postgresql_where=text("state = 'queued'")),
        Index(
            "ix_jobs_unpublished", "run_after", "id", postgresql_where=text("state = 'queued' AND published_at IS NULL")
        ),
        Index("ix_jobs_published", "published_at", postgresql_where=text("state IN ('queued', 'running')")),
        Index("ix_jobs_finished_at", "finished_at", postgresql_where=text("state IN ('done', 'dead')")),
        Index("ix_jobs_leases", "lease_until", postgresql_where=text("state = 'running'")),
        Index(
            "ix_jobs_ordering",
            "ordering_key",
            "id",
            postgresql_where=text("ordering_key IS NOT NULL AND state IN ('queued', 'running')"),
        ),
        Index("uq_jobs_dedupe", "dedupe_key", unique=True, postgresql_where=text("state IN ('queued', 'running')")),
        Index("ix_jobs_org_id", "org_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID | None]
    kind: Mapped[str]
    queue: Mapped[str] = mapped_column(server_default="maintenance")
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    state: Mapped[str] = mapped_column(server_default="queued")
    attempts: Mapped[int] = mapped_column(server_default="0")
    max_attempts: Mapped[int] = mapped_column(server_default="5")
    run_after: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    published_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    worker: Mapped[str | None]
    dedupe_key: Mapped[str | None]
    ordering_key: Mapped[str | None]
    last_error: Mapped[str | None]
    finished_at: Mapped[datetime | None]
    requested_by: Mapped[UUID | None]
    requested_as: Mapped[str | None]
    progress: Mapped[float] = mapped_column(server_default="0")
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    error_code: Mapped[str | None]


class JobWorker(Base):
    """A process that does jobs, as it said of itself when it was last heard of; `running` is how many it is doing."""

    __tablename__ = "job_workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    queues: Mapped[list[str]] = mapped_column(ARRAY(String))
    running: Mapped[int]
    seen_at: Mapped[datetime]


class JobSchedule(Base):
    """Until when recurring work has been asked for: the end of the last period in which a job of it was written."""

    __tablename__ = "job_schedules"

    kind: Mapped[str] = mapped_column(primary_key=True)
    asked_until: Mapped[datetime]
