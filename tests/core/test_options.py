"""Options: every kind of hint, all errors at once, with full paths and suggestions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import pytest
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from koan_django.core.durations import parse_duration
from koan_django.core.options import OptionError, parse
from koan_django.core.suggestions import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    max_attempts: int = 5
    backoff: Literal["fixed", "exponential"] = "exponential"

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError("MAX_ATTEMPTS must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    url: str
    confirm_timeout: timedelta = timedelta(seconds=5)
    retry: Retry = field(default_factory=Retry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Everything:
    text: str = ""
    number: int = 0
    ratio: float = 0.0
    flag: bool = False
    path: Path = Path()
    period: timedelta = timedelta(0)
    word: Literal["a", "b", 3] = "a"
    maybe: str | None = None
    either: int | str = 0
    names: tuple[str, ...] = ()
    deep: tuple[tuple[int, ...], ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)
    buses: Mapping[str, Bus] = field(default_factory=dict)
    anything: Any = None
    call: Callable[[], int] | str = ""


def read(value: object, schema: type[Any] = Everything) -> tuple[Any, list[str]]:
    errors: list[OptionError] = []
    found = parse(schema, value, "KOAN['X']", errors)
    return found, [str(error) for error in errors]


def fails(key: str, value: object) -> str:
    """The one error that ``value`` gives."""
    found, errors = read({key: value})
    assert found is None
    [error] = errors
    return error


def test_nothing_written_gives_the_defaults() -> None:
    assert read({}) == (Everything(), [])


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("TEXT", "x", "x"),
        ("NUMBER", 3, 3),
        ("RATIO", 3, 3.0),
        ("RATIO", 0.5, 0.5),
        ("FLAG", True, True),
        ("PATH", "/tmp", Path("/tmp")),
        ("PATH", Path("/tmp"), Path("/tmp")),
        ("PERIOD", "1h30m", timedelta(minutes=90)),
        ("PERIOD", 5, timedelta(seconds=5)),
        ("WORD", "b", "b"),
        ("WORD", 3, 3),
        ("MAYBE", None, None),
        ("MAYBE", "x", "x"),
        ("EITHER", "x", "x"),
        ("EITHER", 4, 4),
        ("NAMES", ["a", "b"], ("a", "b")),
        ("NAMES", ("a",), ("a",)),
        ("DEEP", [[1], [2, 3]], ((1,), (2, 3))),
        ("NUMBERS", {"a": 1}, {"a": 1}),
        ("ANYTHING", {"x": [1]}, {"x": [1]}),
        ("CALL", len, len),
        ("CALL", "a.b", "a.b"),
    ],
)
def test_what_fits_is_taken(key: str, value: object, expected: object) -> None:
    found, errors = read({key: value})
    assert errors == []
    assert getattr(found, key.lower()) == expected


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("TEXT", 3, "3 is not text"),
        ("TEXT", None, "None is not text"),
        ("TEXT", gettext_lazy("lazy"), "is not text"),
        ("NUMBER", "3", "'3' is not a whole number"),
        ("NUMBER", True, "True is not a whole number"),
        ("NUMBER", 3.5, "3.5 is not a whole number"),
        ("RATIO", "x", "'x' is not a number"),
        ("RATIO", True, "True is not a number"),
        ("FLAG", 1, "1 is not True or False"),
        ("PATH", 3, "3 is not a path"),
        ("PERIOD", "5 sec", "'5 sec' is not a duration: use seconds, a timedelta or text such as '7d'"),
        ("WORD", "aa", "'aa' is not one of 'a', 'b', 3; did you mean 'a'?"),
        ("WORD", ["a"], "['a'] is not one of"),
        ("MAYBE", 3, "3 is not text"),
        ("NAMES", "abc", "'abc' is not a list"),
        ("NUMBERS", [1], "[1] is not a dict"),
        ("NUMBERS", {3: 1}, "the key 3 is not text"),
        ("CALL", 3, "3 cannot be called"),
    ],
)
def test_what_does_not_fit_is_refused(key: str, value: object, reason: str) -> None:
    assert reason in fails(key, value)
    assert fails(key, value).startswith(f"KOAN['X']['{key}']")


@pytest.mark.parametrize("value", [[], "x", None, 3])
def test_a_section_that_is_no_dict_is_refused(value: object) -> None:
    assert read(value) == (None, [f"KOAN['X']: {value!r} is not a dict"])


def test_all_errors_come_at_once_with_full_paths_and_suggestions() -> None:
    found, errors = read(
        {
            "TEKST": 1,
            "NAMES": ["a", 3, None],
            "BUSES": {
                "main": {"CONFIRM_TIMEOUT": "5 sec", "RETRY": {"BACKOFF": "exponental", "MAX_ATEMPTS": 3}},
                "other": {"URL": 3},
                "third": 7,
            },
        }
    )
    assert found is None
    assert sorted(errors) == sorted(
        [
            "KOAN['X']['TEKST']: unknown option; did you mean 'TEXT'?",
            "KOAN['X']['NAMES'][1]: 3 is not text",
            "KOAN['X']['NAMES'][2]: None is not text",
            "KOAN['X']['BUSES']['main']['URL']: is required",
            "KOAN['X']['BUSES']['main']['CONFIRM_TIMEOUT']: '5 sec' is not a duration: "
            "use seconds, a timedelta or text such as '7d'",
            "KOAN['X']['BUSES']['main']['RETRY']['BACKOFF']: 'exponental' is not one of 'fixed', 'exponential'; "
            "did you mean 'exponential'?",
            "KOAN['X']['BUSES']['main']['RETRY']['MAX_ATEMPTS']: unknown option; did you mean 'MAX_ATTEMPTS'?",
            "KOAN['X']['BUSES']['other']['URL']: 3 is not text",
            "KOAN['X']['BUSES']['third']: 7 is not a dict",
        ]
    )


def test_a_rule_across_fields_is_an_error_with_the_path_of_its_section() -> None:
    _, errors = read({"BUSES": {"main": {"URL": "x", "RETRY": {"MAX_ATTEMPTS": 0}}}})
    assert errors == ["KOAN['X']['BUSES']['main']['RETRY']: MAX_ATTEMPTS must be at least 1"]


def test_options_cannot_be_changed() -> None:
    found, _ = read({"NUMBERS": {"a": 1}})
    assert isinstance(found.numbers, MappingProxyType)
    with pytest.raises(FrozenInstanceError):
        found.text = "x"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_KEYS = st.sampled_from([name.upper() for name in Everything.__dataclass_fields__]) | st.text()


@given(st.dictionaries(_KEYS, _JSON, max_size=6))
def test_any_setting_is_read_or_refused_and_never_raises(value: dict[str, Any]) -> None:
    found, errors = read(value)
    assert (found is None) == bool(errors)


class TestDurations:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [("7d", 604800), ("1w", 604800), ("1h30m", 5400), ("250ms", 0.25), ("1.5s", 1.5), (90, 90), (0, 0), (0.5, 0.5)],
    )
    def test_reads(self, value: object, seconds: float) -> None:
        assert parse_duration(value).total_seconds() == seconds

    def test_a_timedelta_is_itself(self) -> None:
        assert parse_duration(timedelta(days=1)) == timedelta(days=1)

    @pytest.mark.parametrize("value", ["", "7", "d", "7 d", "7D", "1h-30m", "-1h", "9" * 30 + "d", b"7d", None, []])
    def test_refuses_text(self, value: object) -> None:
        self.refuses(value)

    @pytest.mark.parametrize("value", [True, -1, timedelta(-1), 10**30, float("nan"), float("inf")])
    def test_refuses_numbers(self, value: object) -> None:
        self.refuses(value)

    def refuses(self, value: object) -> None:
        """The error names the accepted forms."""
        with pytest.raises(ValueError, match="use seconds, a timedelta or text such as '7d'"):
            parse_duration(value)

    @given(st.dictionaries(st.sampled_from(["w", "d", "h", "m", "s", "ms"]), st.integers(0, 1000), min_size=1))
    def test_parts_add_up(self, parts: dict[str, int]) -> None:
        units = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
        text = "".join(f"{number}{unit}" for unit, number in parts.items())
        expected = sum(number * units[unit] for unit, number in parts.items())
        assert parse_duration(text).total_seconds() == pytest.approx(expected, abs=1e-6)


class TestSuggestions:
    def test_the_closest_is_suggested_whatever_its_case(self) -> None:
        assert did_you_mean("defalt_bus", ["DEFAULT_BUS", "BUSES"]) == "; did you mean 'DEFAULT_BUS'?"

    def test_nothing_close_is_no_suggestion(self) -> None:
        assert did_you_mean("zzz", ["DEFAULT_BUS"]) == did_you_mean("x", []) == ""
