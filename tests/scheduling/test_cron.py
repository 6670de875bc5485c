"""The times of a crontab line: strictly later, matching in local time, through every change of clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.core import checks
from django.test import override_settings
from hypothesis import example, given
from hypothesis import strategies as st

from koan_django.scheduling import Cron, SchedulingError, declarations
from koan_django.scheduling.cron import EXPRESSION_LENGTH

#: Gaps and repetitions of an hour, of half an hour, at midnight, and a whole day that was left out.
ZONES = [
    "UTC",
    "Europe/Madrid",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/Havana",
    "Asia/Beirut",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Africa/Casablanca",
    "Antarctica/Troll",
]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def times(expression: str, zone: str, begin: str, count: int) -> list[str]:
    """The next times after ``begin`` (UTC), in UTC."""
    cron, moment, found = Cron(expression, zone), utc(begin), []
    for _ in range(count):
        moment = cron.following(moment)
        found.append(f"{moment:%m-%d %H:%M}")
    return found


SPRING, AUTUMN = "2026-03-28 12:00", "2026-10-24 12:00"
CHANGES = [
    ("a time that is left out runs when the gap is over", "30 2 * * *", SPRING, ["03-29 01:00", "03-30 00:30"]),
    ("several that are left out run once", "0,20,40 2 * * *", SPRING, ["03-29 01:00", "03-30 00:00"]),
    ("a time after the gap is as ever", "30 3 * * *", SPRING, ["03-29 01:30", "03-30 01:30"]),
    ("a time that comes twice runs the first time", "30 2 * * *", AUTUMN, ["10-25 00:30", "10-26 01:30"]),
    ("by elapsed time the repeated hour counts", "0 * * * *", "2026-10-24 23:30", ["10-25 00:00", "10-25 01:00"]),
    ("also with a fixed hour", "*/30 2 * * *", AUTUMN, ["10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30"]),
    ("by elapsed time there is nothing in a gap", "*/30 2 * * *", SPRING, ["03-30 00:00", "03-30 00:30"]),
    ("and nothing is lost around it", "*/30 * * * *", "2026-03-29 00:15", ["03-29 00:30", "03-29 01:00"]),
]


@pytest.mark.parametrize(("because", "expression", "begin", "expected"), CHANGES, ids=[row[0] for row in CHANGES])
def test_when_clocks_change_in_madrid(because: str, expression: str, begin: str, expected: list[str]) -> None:
    assert times(expression, "Europe/Madrid", begin, len(expected)) == expected


def test_asked_in_the_second_pass_it_does_not_answer_with_the_first() -> None:
    cron, second_pass = Cron("45 2 * * *", "Europe/Madrid"), utc("2026-10-25 01:10")
    assert second_pass.astimezone(ZoneInfo("Europe/Madrid")).fold == 1
    assert cron.following(second_pass) == utc("2026-10-26 01:45")


def test_a_midnight_that_does_not_exist_runs_at_the_first_minute_of_the_day() -> None:
    assert times("0 0 * * *", "Africa/Cairo", "2026-04-23 12:00", 2) == ["04-23 22:00", "04-24 21:00"]


def test_the_days_of_the_month_and_of_the_week() -> None:
    assert times("0 3 L * *", "UTC", "2026-01-31 03:00", 2) == ["02-28 03:00", "03-31 03:00"]
    assert times("0 9 * * MON#1", "UTC", "2026-11-03 00:00", 1) == ["12-07 09:00"]
    assert times("0 9 13 * FRI", "UTC", "2026-11-07 00:00", 2) == ["11-13 09:00", "11-20 09:00"]  # either
    assert times("0 0 29 2 *", "UTC", "2026-01-01 00:00", 1) == ["02-29 00:00"]


# properties


def fields(low: int, high: int) -> st.SearchStrategy[tuple[str, set[int]]]:
    """A field of an expression and the values it stands for."""
    value = st.integers(low, high)
    whole = set(range(low, high + 1))
    return st.one_of(
        st.just(("*", whole)),
        st.integers(2, 7).map(lambda step: (f"*/{step}", set(sorted(whole)[::step]))),
        st.sets(value, min_size=1, max_size=4).map(lambda some: (",".join(map(str, sorted(some))), some)),
        st.tuples(value, value).map(sorted).map(lambda pair: (f"{pair[0]}-{pair[1]}", {*range(pair[0], pair[1] + 1)})),
    )


MOMENTS = st.datetimes(datetime(2010, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC))


@given(fields(0, 59), fields(0, 23), fields(0, 6), st.sampled_from(ZONES), MOMENTS)
@example(("*/7", set(range(0, 60, 7))), ("0", {0}), ("*", set(range(7))), "Asia/Beirut", utc("2027-03-27 21:59"))
@example(("30", {30}), ("2", {2}), ("*", set(range(7))), "Europe/Madrid", utc("2026-03-29 00:59"))
@example(("45", {45}), ("2", {2}), ("*", set(range(7))), "Europe/Madrid", utc("2026-10-25 01:10"))
def test_the_next_time_is_later_and_matches_and_none_before_it_does(
    minute: tuple[str, set[int]],
    hour: tuple[str, set[int]],
    weekday: tuple[str, set[int]],
    name: str,
    moment: datetime,
) -> None:
    zone = ZoneInfo(name)
    found = Cron(f"{minute[0]} {hour[0]} * * {weekday[0]}", name).following(moment)
    by_the_clock = not minute[0].startswith("*") and not hour[0].startswith("*")

    def matches(at: datetime) -> bool:
        local = at.astimezone(zone)
        expected = local.minute in minute[1] and local.hour in hour[1] and local.isoweekday() % 7 in weekday[1]
        return expected and not (by_the_clock and local.fold)  # what comes twice runs the first time

    def ends_a_gap(at: datetime) -> bool:
        return (at - timedelta(seconds=1)).astimezone(zone).utcoffset() < at.astimezone(zone).utcoffset()

    assert found > moment
    assert (found.second, found.microsecond, found.tzinfo) == (0, 0, UTC)
    assert matches(found) or ends_a_gap(found)
    between = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
    for _ in range(3000):
        if between >= found:
            break
        assert not matches(between)
        between += timedelta(minutes=1)


@given(st.text(alphabet="0123456789*/,-LW#MON ", max_size=24), st.sampled_from(ZONES))
def test_whatever_is_written_has_a_next_time_or_a_problem(expression: str, zone: str) -> None:
    cron = Cron(expression, zone)
    if cron.problem():
        with pytest.raises(SchedulingError, match="cannot be scheduled"):
            cron.following(utc("2026-01-01 00:00"))
    else:
        assert cron.following(utc("2026-01-01 00:00")) > utc("2026-01-01 00:00")


# what cannot be


@pytest.mark.parametrize(
    ("expression", "zone", "problem"),
    [
        ("61 * * * *", None, "bad minute"),
        ("* * * * MOO", None, "bad day-of-week"),
        ("* * * *", None, "has five fields"),
        ("0 * * * * *", None, "has five fields"),
        ("@daily", None, "has five fields"),
        ("", None, "has five fields"),
        (7, None, "has five fields"),
        ("0 0 31 2 *", None, "bad day-of-month"),
        (f"{','.join(['1'] * EXPRESSION_LENGTH)} * * * *", None, "at most 120 characters"),
        ("0 3 * * *", "Europe/Madird", "no time zone 'Europe/Madird'"),
        ("0 3 * * *", "", "no time zone ''"),
        ("0 3 * * *", "../../etc/passwd", "no time zone"),
        ("0 3 * * *", "Europe", "no time zone"),
        ("0 3 * * *", 1, "no time zone"),
    ],
)
def test_e004_says_what_cannot_be_and_nothing_runs(declare, expression, zone, problem) -> None:
    cron = Cron(expression, zone)
    assert problem in cron.problem()
    with pytest.raises(SchedulingError, match="cannot be scheduled"):
        cron.following(utc("2026-01-01 00:00"))
    declare(lambda: None, name="tests.broken", trigger=cron)
    (error,) = [each for each in checks.run_checks() if each.id == "koan_scheduling.E004"]
    assert problem in error.hint
    assert "tests.broken" in error.msg
    assert __name__ in error.hint  # where it is declared
    assert "tests.broken" not in declarations.declared


def test_without_a_zone_it_is_that_of_the_project() -> None:
    with override_settings(TIME_ZONE="Asia/Tokyo"):
        assert str(Cron("0 3 * * *")) == "0 3 * * * Asia/Tokyo"
        assert Cron("0 3 * * *").following(utc("2026-01-01 00:00")) == utc("2026-01-01 18:00")
