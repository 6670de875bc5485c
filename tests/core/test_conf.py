"""``KOAN``: sections, overlays, and ``override_koan`` in every way a test may use it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import SimpleTestCase, TestCase, override_settings
from hypothesis import given
from hypothesis import strategies as st

from koan_django.core import conf
from koan_django.core.options import OptionError
from koan_django.testing import override_koan


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    x: int = 0
    y: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    name: str = "default"
    inner: Inner = field(default_factory=Inner)


@pytest.fixture(scope="module", autouse=True)
def _section() -> Iterator[None]:
    """These tests declare other options for CORE, and take them back."""
    before = conf._sections.get("CORE")
    global options
    options = conf.section("CORE", Options)
    yield
    del conf._sections["CORE"]
    if before is not None:
        conf._sections["CORE"] = before


options: conf.Section[Options]


def test_options_are_read_once_and_kept_until_the_setting_changes() -> None:
    assert options() is options()
    with override_settings(KOAN={"CORE": {"NAME": "a"}}):
        assert options().name == "a"
        assert options() is options()
    assert options().name == "default"


def test_the_first_read_raises_every_error_of_the_section() -> None:
    with override_settings(KOAN={"CORE": {"NAME": 3, "INNER": {"Z": 1}}}):
        with pytest.raises(ImproperlyConfigured) as caught:
            options()
        assert str(caught.value).splitlines() == [
            "KOAN['CORE']['NAME']: 3 is not text",
            "KOAN['CORE']['INNER']['Z']: unknown option",
        ]
        assert len(options.errors()) == 2


@pytest.mark.parametrize("value", [[], "x", 3, None])
def test_a_koan_that_is_no_dict_says_so(value: object) -> None:
    with override_settings(KOAN=value), pytest.raises(ImproperlyConfigured, match="is not a dict"):
        options()


def test_a_section_outside_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'SECRETS'"):
        conf.section("SECRET", Options)


def test_whoever_asked_is_told_of_a_change_after_the_sections_were_reset() -> None:
    seen: list[str] = []
    callback = conf.on_reset(lambda: seen.append(options().name))
    try:
        with override_koan(CORE={"NAME": "new"}):
            assert seen == ["new"]
    finally:
        conf._on_reset.remove(callback)
    assert seen == ["new", "default"]


class TestOverlays:
    def read(self, **koan: Any) -> Options:
        with override_settings(KOAN=koan):
            return options()

    def test_the_overlay_of_the_environment_wins_where_it_speaks(self) -> None:
        overlays = {"production": {"CORE": {"INNER": {"X": 2}}}, "staging": {"CORE": {"NAME": "staging"}}}
        base = {"NAME": "base", "INNER": {"X": 1, "Y": 1}}
        found = self.read(ENVIRONMENT="production", ENVIRONMENTS=overlays, CORE=base)
        assert found == Options(name="base", inner=Inner(x=2, y=1))

    def test_without_an_environment_no_overlay_counts(self) -> None:
        assert self.read(ENVIRONMENTS={"production": {"CORE": {"NAME": "x"}}}).name == "default"

    def test_an_environment_without_overlays_is_a_mere_label(self) -> None:
        assert self.read(ENVIRONMENT="production", CORE={"NAME": "x"}).name == "x"

    def test_the_variable_chooses_where_the_settings_do_not(self, monkeypatch: Any) -> None:
        monkeypatch.setenv("KOAN_ENVIRONMENT", "staging")
        overlays = {"production": {"CORE": {"NAME": "p"}}, "staging": {"CORE": {"NAME": "s"}}}
        assert self.read(ENVIRONMENTS=overlays).name == "s"
        assert self.read(ENVIRONMENT="production", ENVIRONMENTS=overlays).name == "p"
        monkeypatch.setenv("KOAN_ENVIRONMENT", "stagin")
        with pytest.raises(ImproperlyConfigured, match=r"KOAN_ENVIRONMENT: 'stagin' is not in.*did you mean 'staging'"):
            self.read(ENVIRONMENTS=overlays)

    def test_an_unknown_environment_is_an_error_with_a_suggestion(self) -> None:
        with pytest.raises(ImproperlyConfigured, match="did you mean 'production'"):
            self.read(ENVIRONMENT="prodction", ENVIRONMENTS={"production": {}})

    @pytest.mark.parametrize(
        "koan",
        [
            {"ENVIRONMENT": "a", "ENVIRONMENTS": []},
            {"ENVIRONMENT": "a", "ENVIRONMENTS": {"a": 3}},
            {"ENVIRONMENT": ["a"], "ENVIRONMENTS": {"a": {}}},
            {"ENVIRONMENT": 3},
        ],
    )
    def test_what_is_not_of_the_right_kind_is_an_error_and_no_crash(self, koan: dict[str, Any]) -> None:
        errors: list[OptionError] = []
        assert dict(conf.effective(koan, errors)) == {}
        assert [error.path.startswith("KOAN['ENVIRONMENT") for error in errors] == [True]

    def test_an_alias_of_another_backend_is_replaced_whole(self) -> None:
        base = {"P": {"a": {"BACKEND": "x", "OPTIONS": {"token": 1}}, "b": {"BACKEND": "x", "OPTIONS": {"token": 1}}}}
        over = {"P": {"a": {"BACKEND": "y"}, "b": {"BACKEND": "x", "OPTIONS": {"more": 2}}}}
        assert conf.merge(base, over) == {
            "P": {"a": {"BACKEND": "y"}, "b": {"BACKEND": "x", "OPTIONS": {"token": 1, "more": 2}}}
        }

    @pytest.mark.parametrize("key", ["STORAGE", "URL"])
    def test_so_is_one_of_another_storage_or_url(self, key: str) -> None:
        assert conf.merge({"a": {key: "1", "X": 1}}, {"a": {key: "2"}}) == {"a": {key: "2"}}


_TREES = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3), max_leaves=10
)
_DICTS = st.dictionaries(st.sampled_from("abcd"), _TREES, max_size=4)


@given(_DICTS, _DICTS)
def test_merging_keeps_the_base_and_takes_every_leaf_of_the_overlay(base: Any, over: Any) -> None:
    merged = conf.merge(base, over)

    def holds(whole: Any, part: Any) -> bool:
        if not isinstance(part, dict):
            return bool(whole == part)
        return all(key in whole and (holds(whole[key], value) or value == {}) for key, value in part.items())

    assert holds(merged, over)
    assert set(merged) == set(base) | set(over)
    assert conf.merge(base, {}) == base
    assert conf.merge(merged, over) == merged


class TestOverrideKoan:
    def test_blocks_nest_and_merge_over_what_is_in_force(self) -> None:
        with override_koan(CORE={"NAME": "outer", "INNER": {"X": 1}}):
            with override_koan(CORE={"INNER": {"Y": 2}}):
                assert options() == Options(name="outer", inner=Inner(x=1, y=2))
            assert options() == Options(name="outer", inner=Inner(x=1))
        assert options() == Options()

    def test_a_function_sees_it_on_every_call(self) -> None:
        @override_koan(CORE={"NAME": "decorated"})
        def read() -> str:
            return options().name

        assert read() == read() == "decorated"
        assert options().name == "default"

    def test_a_coroutine_function_sees_it(self) -> None:
        @override_koan(CORE={"NAME": "decorated"})
        async def read() -> str:
            await asyncio.sleep(0)
            return options().name

        assert asyncio.run(read()) == "decorated"
        assert options().name == "default"

    def test_a_decorator_merges_over_what_is_in_force_when_it_runs(self) -> None:
        @override_koan(CORE={"INNER": {"X": 1}})
        def read() -> Options:
            return options()

        with override_koan(CORE={"NAME": "later"}):
            assert read() == Options(name="later", inner=Inner(x=1))

    def test_an_unknown_section_is_refused(self) -> None:
        with pytest.raises(ValueError, match="did you mean 'MESSAGING'"):
            override_koan(MESAGING={})

    def test_it_leaves_when_the_block_fails(self) -> None:
        with pytest.raises(ZeroDivisionError), override_koan(CORE={"NAME": "x"}):
            1 / 0  # noqa: B018
        assert options().name == "default"

    def test_a_class_that_is_no_test_class_is_refused(self) -> None:
        with pytest.raises(ValueError, match="only Django's test classes"):
            override_koan(CORE={})(Options)


@override_koan(CORE={"NAME": "class", "INNER": {"X": 1}})
class TestOverriddenClass(SimpleTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        assert options().name == "class"

    def test_its_tests_see_it(self) -> None:
        self.assertEqual(options(), Options(name="class", inner=Inner(x=1)))

    @override_koan(CORE={"INNER": {"Y": 2}})
    def test_a_method_adds_to_it(self) -> None:
        self.assertEqual(options(), Options(name="class", inner=Inner(x=1, y=2)))


@override_koan(CORE={"INNER": {"Y": 3}})
class TestOverriddenSubclass(TestOverriddenClass):
    def test_its_tests_see_it(self) -> None:
        self.assertEqual(options(), Options(name="class", inner=Inner(x=1, y=3)))

    def test_a_method_adds_to_it(self) -> None:
        with override_koan(CORE={"NAME": "method"}):
            self.assertEqual(options(), Options(name="method", inner=Inner(x=1, y=3)))


class TestAfterTheClasses(TestCase):
    def test_nothing_is_left(self) -> None:
        self.assertEqual(options(), Options())
