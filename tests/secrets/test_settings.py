"""``resolve_settings``: what it changes, what it leaves alone, and what it says when something is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import OrderedDict, defaultdict, namedtuple
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.utils.functional import lazystr

from koan_django import secrets
from koan_django.secrets import SecretText
from koan_django.testing import override_koan

from .conftest import BACKEND, RemoteProvider

TEMPLATE = "x {{secret:db}}"
Point = namedtuple("Point", "x y")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB", "value-of-db")
    monkeypatch.delenv("KOAN_SECRETS", raising=False)


def resolved(value: Any) -> Any:
    namespace = {"A": value}
    secrets.resolve_settings(namespace)
    return namespace["A"]


class Mine(dict):  # type: ignore[type-arg]
    """A dict with an attribute."""

    note = ""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (TEMPLATE, "x value-of-db"),
        ([TEMPLATE, 1], ["x value-of-db", 1]),
        ((TEMPLATE,), ("x value-of-db",)),
        ({TEMPLATE}, {"x value-of-db"}),
        (frozenset({TEMPLATE}), frozenset({"x value-of-db"})),
        ({"a": [{"b": (TEMPLATE,)}]}, {"a": [{"b": ("x value-of-db",)}]}),
        (OrderedDict(b=1, a=TEMPLATE), OrderedDict(b=1, a="x value-of-db")),
        (defaultdict(list, a=TEMPLATE), defaultdict(list, a="x value-of-db")),
        (Mine(a=TEMPLATE), Mine(a="x value-of-db")),
        (Point(1, TEMPLATE), Point(1, "x value-of-db")),
    ],
)
def test_every_plain_container_is_entered_and_keeps_its_type(value: Any, expected: Any) -> None:
    found = resolved(value)
    assert found == expected
    assert type(found) is (SecretText if value is TEMPLATE else type(value))


def test_a_defaultdict_keeps_its_factory_and_a_subclass_its_attributes() -> None:
    mine = Mine(a=TEMPLATE)
    mine.note = "kept"
    assert resolved(mine).note == "kept"
    assert resolved(defaultdict(list, a=TEMPLATE))["new"] == []


class Holder:
    """An object that holds a template."""

    text = TEMPLATE


@pytest.mark.parametrize("value", [lazystr(TEMPLATE), Holder(), lambda: TEMPLATE, 7, None, TEMPLATE.encode()])
def test_what_is_no_plain_data_is_left_alone(value: Any) -> None:
    assert resolved(value) is value


def test_names_changed_are_returned_and_the_rest_keeps_its_identity() -> None:
    apps, nested = ["a", "b"], {"KEY": TEMPLATE, "OTHER": [1]}
    inner = nested["OTHER"]
    namespace = {
        "INSTALLED_APPS": apps,
        "CACHES": nested,
        "lower": TEMPLATE,
        "Mixed": TEMPLATE,
        "KOAN": {"MESSAGING": {"URL": TEMPLATE}},
        "URL": TEMPLATE,
    }
    assert secrets.resolve_settings(namespace) == ["CACHES", "URL"]
    assert namespace["INSTALLED_APPS"] is apps
    assert nested == {"KEY": TEMPLATE, "OTHER": [1]}, "a container may belong to another module"
    assert namespace["CACHES"]["OTHER"] is inner
    assert (namespace["lower"], namespace["Mixed"]) == (TEMPLATE, TEMPLATE)
    assert namespace["KOAN"] == {"MESSAGING": {"URL": TEMPLATE}}
    assert secrets.resolve_settings(namespace) == []


def test_a_container_that_occurs_twice_stays_one() -> None:
    shared = {"PASSWORD": TEMPLATE}
    found = resolved({"a": shared, "b": [shared]})
    assert found["a"] is found["b"][0]


def test_a_container_that_holds_itself_ends() -> None:
    loop: list[Any] = [TEMPLATE]
    loop.append(loop)
    assert resolved(loop)[0] == "x value-of-db"


def test_keys_stay() -> None:
    assert resolved({TEMPLATE: 1}) == {TEMPLATE: 1}


def test_a_value_that_looks_like_a_reference_is_not_resolved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTER", "{{secret:db}}")
    namespace = {"A": "{{secret:outer}}", "B": r"\{{secret:db}}"}
    secrets.resolve_settings(namespace)
    assert secrets.resolve_settings(namespace) == []
    assert namespace == {"A": "{{secret:db}}", "B": "{{secret:db}}"}


def test_the_chain_is_the_one_of_the_namespace_with_its_overlay(remote: type[RemoteProvider]) -> None:
    remote.values.update(db="from the store", user="u")
    koan = {
        "ENVIRONMENT": "production",
        "ENVIRONMENTS": {"production": {"SECRETS": {"CHAIN": ["vault", "env"]}}},
        "SECRETS": {"PROVIDERS": {"vault": {"BACKEND": BACKEND}}},
    }
    namespace: dict[str, Any] = {"KOAN": koan, "A": TEMPLATE, "B": {"C": TEMPLATE, "D": "{{secret:vault:user}}"}}
    secrets.resolve_settings(namespace)
    assert namespace["B"] == {"C": "x from the store", "D": "u"}
    assert namespace["A"] == "x from the store"
    assert sorted(map(tuple, remote.batches)) == [("db",), ("user",)]
    assert sorted(remote.asked) == ["db", "user"]


def test_all_missing_secrets_are_named_with_their_places() -> None:
    namespace = {
        "DATABASES": {"default": {"PASSWORD": "{{secret:app/db#pw}}", "USER": "{{secret:db}}"}},
        "BROKERS": ["amqp://{{secret:app/mq}}:{{secret:app/db#pw}}@h"],
    }
    with pytest.raises(secrets.SecretNotFoundError) as caught:
        secrets.resolve_settings(namespace)
    for part in (
        "no secret 'app/db#pw', 'app/mq'",
        "app/db#pw for DATABASES['default']['PASSWORD'], BROKERS[0]",
        "app/mq for BROKERS[0]",
    ):
        assert part in str(caught.value)
    assert namespace["BROKERS"] == ["amqp://{{secret:app/mq}}:{{secret:app/db#pw}}@h"], "nothing is half done"


def test_a_malformed_reference_is_named_with_its_place() -> None:
    with pytest.raises(secrets.SecretReferenceError, match=r"CACHES\['x'\]\[0\]: '/etc/passwd' is no reference"):
        secrets.resolve_settings({"CACHES": {"x": ["{{secret:/etc/passwd}}"]}})


@pytest.mark.parametrize(
    ("koan", "reason"),
    [
        ({"SECRETS": {"CHAIN": ["vualt"], "PROVIDERS": {"vault": {"BACKEND": "x.Y"}}}}, "did you mean 'vault'"),
        ({"SECRETS": {"CHIAN": []}}, "did you mean 'CHAIN'"),
        ({"SECRETS": {"CACHE": {"TTL": "soon"}}}, r"\['CACHE'\]\['TTL'\]: 'soon' is not a duration"),
        ([], "KOAN: list is not a dict"),
    ],
)
def test_wrong_options_are_an_error_at_once(koan: Any, reason: str) -> None:
    with pytest.raises(secrets.SecretOptionsError, match=reason):
        secrets.resolve_settings({"KOAN": koan, "A": TEMPLATE})


def test_without_a_reference_nothing_is_asked_and_options_are_not_read() -> None:
    assert secrets.resolve_settings({"KOAN": {"SECRETS": "nonsense"}, "A": "plain"}) == []


class TestOffline:
    @pytest.fixture(autouse=True)
    def _offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KOAN_SECRETS", "offline")

    def test_what_is_missing_becomes_a_placeholder_that_names_it(self, remote: type[RemoteProvider]) -> None:
        remote.values.update(key="never asked")
        koan = {"SECRETS": {"CHAIN": ["vault", "env"], "PROVIDERS": {"vault": {"BACKEND": BACKEND}}}}
        namespace: dict[str, Any] = {
            "KOAN": koan,
            "SECRET_KEY": "{{secret:key}}",
            "B": "{{secret:db}}",
            "C": "{{secret:gone?default=d}}",
            "D": "amqp://u:{{secret:app/mq#pw}}@h/v",
        }
        secrets.resolve_settings(namespace)
        assert namespace["SECRET_KEY"].startswith("missing-secret-key-")
        assert namespace["SECRET_KEY"].missing == ("key",)
        assert (namespace["B"], namespace["C"]) == ("value-of-db", "d")
        assert namespace["D"].startswith("amqp://u:missing-secret-app%2Fmq%23pw-")
        assert remote.asked == []

    def test_nobody_can_know_a_key_made_of_a_placeholder(self) -> None:
        assert resolved("{{secret:key}}") != resolved("{{secret:key}}")

    def test_code_that_asks_for_a_secret_is_told(self) -> None:
        with pytest.raises(secrets.SecretNotFoundError, match="KOAN_SECRETS=offline"):
            secrets.get("gone")
        with pytest.raises(secrets.SecretNotFoundError, match="KOAN_SECRETS=offline"):
            secrets.resolve("{{secret:gone}}")

    def test_a_remote_provider_is_not_asked_by_code_either(self, remote: type[RemoteProvider]) -> None:
        remote.values.update(key="never asked")
        options = {"CHAIN": ["vault", "env"], "PROVIDERS": {"vault": {"BACKEND": BACKEND}}}
        with override_koan(SECRETS=options):
            assert secrets.get("db").source == "env"
            with pytest.raises(secrets.SecretNotFoundError):
                secrets.get("vault:key")
        assert remote.asked == []


def test_an_unknown_mode_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOAN_SECRETS", "ofline")
    with pytest.raises(secrets.SecretOptionsError, match="did you mean 'offline'"):
        resolved("{{secret:gone}}")


SETTINGS = """
KOAN = {"SECRETS": {"CHAIN": ["memory"], "PROVIDERS": {"memory": {
    "BACKEND": "koan_django.secrets.providers.memory.MemoryProvider",
    "OPTIONS": {"values": {"url": "sqlite:///x", "key": "from-memory"}}}}}}
"""
SPLIT = {
    "one": SETTINGS + "from koan_django import secrets\nPARSED = secrets.resolve('{{secret:url}}').partition(':')[0]\n",
    "base": SETTINGS
    + "from koan_django import secrets\nPARSED = secrets.resolve('{{secret:url}}').partition(':')[0]\n",
    "prod": "from base import *\n",
    "early": SETTINGS + "import lines\nPARSED = lines.PARSED\n",
    "lines": "from koan_django import secrets\nPARSED = secrets.resolve('{{secret:url}}').partition(':')[0]\n",
}
RUN = """
import sys
from django.conf import settings
from koan_django import secrets
assert settings.PARSED == "sqlite", settings.PARSED
assert settings.LATER == 1, "settings were read while half built"
assert settings.SECRET_KEY == "from-memory"
assert secrets.get("key") == "from-memory"
print("fine")
"""


@pytest.mark.parametrize("module", ["one", "prod", "early"])
def test_a_line_of_the_settings_module_may_resolve_and_never_freezes_them(tmp_path: Path, module: str) -> None:
    end = 'SECRET_KEY = "{{secret:key}}"\nLATER = 1\n'
    end += "from koan_django import secrets\nsecrets.resolve_settings(globals())\n"
    for name, text in SPLIT.items():
        (tmp_path / f"{name}.py").write_text(text + (end if name == module else ""))
    root = str(Path(__file__).parents[2])
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}:{root}", "DJANGO_SETTINGS_MODULE": module}
    done = subprocess.run([sys.executable, "-c", RUN], env=environ, capture_output=True, text=True, timeout=60)
    assert done.stdout == "fine\n", done.stderr


def test_a_script_that_imported_the_settings_module_by_itself_gets_its_chain(tmp_path: Path) -> None:
    (tmp_path / "whole.py").write_text(SETTINGS + 'SECRET_KEY = "k"\n')
    code = "import whole\nfrom koan_django import secrets\nprint(secrets.get('key').reveal())"
    environ = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}",
        "DJANGO_SETTINGS_MODULE": "whole",
    }
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60)
    assert done.stdout == "from-memory\n", done.stderr


def test_a_module_can_be_passed_by_its_namespace() -> None:
    module = ModuleType("settings_made_here")
    module.A = TEMPLATE  # type: ignore[attr-defined]
    assert secrets.resolve_settings(vars(module)) == ["A"]
    assert module.A == "x value-of-db"
