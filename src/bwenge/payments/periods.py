"""In which month a message counts, as half-open spans of UTC."""

from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

Clock = Callable[[], datetime]

LONGEST_MONTH: Final = timedelta(days=31)

ALWAYS: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The one period of a quota that never begins anew."""


_BEGINNINGS: Final = tuple(timedelta(minutes=15 * quarters) for quarters in range(-14 * 4, 12 * 4 + 1))
"""How long after UTC's a day begins anywhere on earth: each difference of a clock from UTC is one of these."""


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` until just before `end`."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Counter:
    """Where use is counted.

    Attributes:
        start: The period whose row is written to.
        counted: The periods whose rows make up what is used, `start` among them.
    """

    start: datetime
    counted: tuple[datetime, ...]

    @classmethod
    def of_period(cls, start: datetime) -> "Counter":
        return cls(start, (start,))

    @classmethod
    def of_calendar_month(cls, now: datetime, zone: tzinfo) -> "Counter":
        """By the month's name, so that an organisation which moves its clocks has no other month for it.

        What was counted from where the month began on any of its clocks is counted too.
        """
        local = now.astimezone(zone)
        start = datetime(local.year, local.month, 1, tzinfo=UTC)
        return cls(start, tuple(start + after for after in _BEGINNINGS))


def utc_now() -> datetime:
    return datetime.now(UTC)


def calendar_month(now: datetime, zone: tzinfo) -> Period:
    """The month that the organisation's wall calendar shows."""
    first = now.astimezone(zone).replace(day=1, hour=0, minute=0, second=0, microsecond=0, fold=0)
    following = (first + timedelta(days=32)).replace(day=1)
    return Period(first.astimezone(UTC), following.astimezone(UTC))


def month_within(period: Period, now: datetime) -> Period:
    """The subscription's own period or, of one that is longer than a month, that month of it which `now` is in.

    Months are counted from its beginning; one that begins on the 31st goes on at the end of a shorter month.
    """
    if period.end - period.start <= LONGEST_MONTH:
        return period
    start = period.start.astimezone(UTC)
    elapsed = (now.year - start.year) * 12 + now.month - start.month
    if _months_after(start, elapsed) > now:
        elapsed -= 1
    return Period(_months_after(start, elapsed), min(_months_after(start, elapsed + 1), period.end))


def _months_after(moment: datetime, count: int) -> datetime:
    years, month = divmod(moment.month - 1 + count, 12)
    year = moment.year + years
    return moment.replace(year=year, month=month + 1, day=min(moment.day, monthrange(year, month + 1)[1]))
