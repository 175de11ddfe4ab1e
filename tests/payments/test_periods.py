"""Months as an organisation counts them: each moment is in exactly one, and none has a gap to the next."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwenge.payments.periods import Counter, Period, calendar_month, month_within

KIGALI = ZoneInfo("Africa/Kigali")
ZONES = [UTC, KIGALI, ZoneInfo("America/New_York"), ZoneInfo("Pacific/Kiritimati")]

moments = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis adds the zone
lengths = st.timedeltas(timedelta(days=1), timedelta(days=1_500))


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]  # year, month, day and so on


def test_a_calendar_month_begins_at_midnight_of_the_organisation() -> None:
    assert calendar_month(utc(2026, 6, 30, 21, 59), KIGALI) == Period(utc(2026, 5, 31, 22), utc(2026, 6, 30, 22))
    assert calendar_month(utc(2026, 6, 30, 22), KIGALI) == Period(utc(2026, 6, 30, 22), utc(2026, 7, 31, 22))


def test_a_month_with_a_change_of_the_clock_is_an_hour_shorter() -> None:
    march = calendar_month(utc(2026, 3, 15), ZoneInfo("America/New_York"))
    assert march.end - march.start == timedelta(days=31, hours=-1)


def test_a_subscription_of_a_month_is_one_period() -> None:
    for days in (28, 30, 31):
        whole = Period(utc(2026, 1, 31), utc(2026, 1, 31) + timedelta(days=days))
        assert month_within(whole, whole.end - timedelta(seconds=1)) == whole


@pytest.mark.parametrize(
    ("now", "start", "end"),
    [
        (utc(2026, 1, 31), utc(2026, 1, 31), utc(2026, 2, 28)),
        (utc(2026, 2, 28), utc(2026, 2, 28), utc(2026, 3, 31)),
        (utc(2026, 3, 30), utc(2026, 2, 28), utc(2026, 3, 31)),
        (utc(2027, 1, 1), utc(2026, 12, 31), utc(2027, 1, 10)),
    ],
)
def test_a_longer_subscription_is_counted_by_month_from_its_beginning(
    now: datetime, start: datetime, end: datetime
) -> None:
    assert month_within(Period(utc(2026, 1, 31), utc(2027, 1, 10)), now) == Period(start, end)


@given(moments, st.sampled_from(ZONES))
def test_calendar_months_meet_without_gap(now: datetime, zone: ZoneInfo) -> None:
    month = calendar_month(now, zone)
    assert month.start <= now < month.end
    assert calendar_month(month.end, zone).start == month.end
    assert calendar_month(month.end - timedelta(microseconds=1), zone) == month


@given(moments, lengths, st.floats(0, 1, exclude_max=True))
def test_the_months_of_a_subscription_meet_without_gap(start: datetime, length: timedelta, at: float) -> None:
    whole = Period(start, start + length)
    now = min(start + length * at, whole.end - timedelta(microseconds=1))
    month = month_within(whole, now)
    assert whole.start <= month.start <= now < month.end <= whole.end
    assert month_within(whole, month.start) == month
    if month.end < whole.end:
        assert month_within(whole, month.end).start == month.end


@given(moments, st.sampled_from(sorted(available_timezones())))
def test_the_beginning_of_a_month_on_any_clock_is_counted_with_the_month(now: datetime, zone: str) -> None:
    counter = Counter.of_calendar_month(now, ZoneInfo(zone))
    assert {calendar_month(now, ZoneInfo(zone)).start, counter.start} <= set(counter.counted)
    assert (counter.start.year, counter.start.month) == (now.astimezone(ZoneInfo(zone)).timetuple()[:2])


@given(moments)
def test_no_two_months_count_the_same_beginning(now: datetime) -> None:
    month = Counter.of_calendar_month(now, UTC)
    following = Counter.of_calendar_month(month.start + timedelta(days=32), UTC)
    assert max(month.counted) < min(following.counted)
