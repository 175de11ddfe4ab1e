"""Keeping time in the split topology: Celery beat says when, and the schedule's jobs are rows like all others."""

import signal
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any, Final, cast

from celery import Celery
from celery.beat import ScheduleEntry, Scheduler, Service
from celery.schedules import schedule

from bwenge.apps.broker import CeleryBroker, celery_app
from bwenge.apps.companion import Companion, redis_url_of
from bwenge.apps.schedule import SCHEDULE
from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from bwenge.kit.jobs.relay import AGAIN_AFTER
from bwenge.kit.jobs.schedule import CHECK_SECONDS

_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LONGEST_SLEEP: Final = 5


class RowScheduler(Scheduler):
    """Asks for jobs in the database instead of sending messages, so Redis may be away, and two beats do no harm.

    Which period has been asked for stands in the database too. So each entry is looked at every minute, and nothing is
    kept in a file.
    """

    producer = None  # type: ignore[assignment]  # the inherited one would wait for Redis

    def __init__(self, app: Celery, *, companion: Companion, **options: Any) -> None:
        self._companion = companion
        self._recurring = {recurring.kind: recurring for recurring in SCHEDULE}
        super().__init__(app, **options)

    def setup_schedule(self) -> None:
        for kind in self._recurring:
            self.add(name=kind, task=kind, schedule=schedule(timedelta(seconds=CHECK_SECONDS)), last_run_at=_LONG_AGO)

    def apply_async(self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **_options: Any) -> None:  # noqa: FBT001, FBT002  # the library's signature
        del producer, advance
        self._companion.ask_for(self._recurring[str(entry.name)])


def run_beat(settings: Settings, secrets: Secrets, *, again_after: timedelta = AGAIN_AFTER) -> None:
    """Keep time, and relay jobs, until SIGTERM or SIGINT.

    Raises:
        SchemaTooOld: PostgreSQL does not answer, or nobody migrated it in time.
        CompanionDied: Jobs are relayed no more.
    """
    app = celery_app(redis_url_of(settings))
    companion = Companion(settings, secrets, CeleryBroker(app, redis_url_of(settings)), again_after=again_after)

    def make(app: Celery, **options: Any) -> RowScheduler:
        return RowScheduler(app, companion=companion, **options)

    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    try:
        companion.start()
        Service(app, max_interval=_LONGEST_SLEEP, scheduler_cls=cast("type[Scheduler]", make)).start()
    finally:
        companion.stop()


def _end(_number: int, _frame: FrameType | None) -> None:
    """Celery's service ends in order when this reaches it."""
    raise SystemExit
