"""Templates in text: which forms, how values are encoded, and who resolves for whom."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st

from koan_django import secrets
from koan_django.core import templating
from koan_django.testing import override_koan, static_secrets

AWKWARD = "p@ss/w:r?d#%é"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Server={{secret:host}};Password={{ secret:db }}", f"Server=db1;Password={AWKWARD}"),
        ("{{secret:db}}", AWKWARD),
        ("secret://db", AWKWARD),
        ("secret+vault://db", AWKWARD),
        ("a ${secret://db} b ${secret+vault:///host}", f"a {AWKWARD} b db1"),
        (r"\{{secret:db}} {{secret:host}}", "{{secret:db}} db1"),
        (r"\${secret://db}", "${secret://db}"),
        ("{{other:x}} ${http://x} {{secret:host}}", "{{other:x}} ${http://x} db1"),
        ("{{secret:gone?default=x}}", "x"),
        ("nothing here", "nothing here"),
        ("{{secret}} {{ secret : x }} {secret:db}", "{{secret}} {{ secret : x }} {secret:db}"),
    ],
)
def test_forms(text: str, expected: str) -> None:
    with static_secrets({"db": AWKWARD, "host": "db1"}):
        assert secrets.resolve(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amqp://u:{{secret:db}}@h/v", "amqp://u:{q}@h/v"),
        ("amqp://{{secret:db}}:{{secret:db}}@{{secret:host}}/v", "amqp://{q}:{q}@db1/v"),
        ("amqp://u:${{secret://db}}@h", "amqp://u:${{secret://db}}@h"),
        ("https://h/{{secret:db}}", "https://h/{v}"),
        ("https://h/?to=a@b&key={{secret:db}}", "https://h/?to=a@b&key={v}"),
        ("https://h/?key={{secret:db?encode=url}}", "https://h/?key={q}"),
        ("amqp://u:{{secret:db?encode=none}}@h", "amqp://u:{v}@h"),
        ("user={{secret:db}}@host", "user={v}@host"),
    ],
)
def test_a_value_is_percent_encoded_in_the_user_and_password_of_a_url_alone(text: str, expected: str) -> None:
    from urllib.parse import quote

    with static_secrets({"db": AWKWARD, "host": "db1"}):
        wanted = expected.replace("{q}", quote(AWKWARD, safe="")).replace("{v}", AWKWARD)
        if "${{" in expected:
            text, wanted = text.replace("${{", "${").replace("}}", "}"), f"amqp://u:{quote(AWKWARD, safe='')}@h"
        assert secrets.resolve(text) == wanted


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_password_survives_the_way_through_a_url(password: str) -> None:
    with static_secrets({"db": password}):
        parts = urlsplit(secrets.resolve("amqp://shop:{{secret:db}}@rabbitmq:5672/vhost"))
    assert unquote(parts.password or "") == password
    assert (parts.username, parts.hostname, parts.port) == ("shop", "rabbitmq", 5672)


def test_a_value_is_never_resolved_again() -> None:
    with static_secrets({"a": "{{secret:b}}", "b": "never"}):
        once = secrets.resolve("{{secret:a}}")
        assert once == secrets.resolve(once) == "{{secret:b}}"


def test_a_missing_secret_is_an_error_that_says_who_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DB", raising=False)
    with override_koan(SECRETS={}), pytest.raises(secrets.SecretNotFoundError, match="asked: env"):
        secrets.resolve("x {{secret:db}}")


def test_a_malformed_reference_is_an_error() -> None:
    with static_secrets({}), pytest.raises(secrets.SecretReferenceError):
        secrets.resolve("{{secret:/db}}")


def test_async_twins_give_the_same() -> None:
    async def ask() -> tuple[str, str]:
        return (await secrets.aget("db")).reveal(), await secrets.aresolve("x {{secret:db}}")

    with static_secrets({"db": "v"}):
        assert asyncio.run(ask()) == ("v", "x v")


def test_siblings_resolve_by_core_without_importing_secrets() -> None:
    with static_secrets({"db": AWKWARD}):
        assert templating.render("x {{secret:db}}") == f"x {AWKWARD}"
        assert templating.render("amqp://u:{{secret:db}}@h") == secrets.resolve("amqp://u:{{secret:db}}@h")
        assert type(templating.render("{{secret:db}}")) is str


def test_the_chain_follows_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = {
        "CHAIN": ["mine"],
        "PROVIDERS": {
            "mine": {
                "BACKEND": "koan_django.secrets.providers.memory.MemoryProvider",
                "OPTIONS": {"values": {"db": "from memory"}},
            }
        },
    }
    monkeypatch.setenv("DB", "from env")
    assert secrets.get("db") == "from env"
    with override_koan(SECRETS=memory):
        assert secrets.get("db") == "from memory"
        assert secrets.get("env:db") == "from env"
    assert secrets.get("db") == "from env"


@static_secrets({"db": "of the class"})
class TestStaticClass(SimpleTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        assert secrets.get("db") == "of the class"

    def test_its_tests_see_it(self) -> None:
        self.assertEqual(secrets.get("db").reveal(), "of the class")


class TestStaticSecrets:
    def test_only_what_is_there_is_found_and_forced_providers_are_not_asked(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTHER", "real")
        with static_secrets({"db": "x"}):
            assert secrets.get("vault:db") == "x"
            for text in ("other", "env:other"):
                with pytest.raises(secrets.SecretNotFoundError):
                    secrets.get(text)
        assert secrets.get("other") == "real"

    def test_a_dict_has_fields(self) -> None:
        with static_secrets({"app/db": {"user": "u", "port": 1}}):
            assert secrets.get("app/db#user") == "u"
            assert secrets.get("app/db#port") == "1"

    def test_one_may_change_as_by_rotation(self) -> None:
        with static_secrets({"db": "old"}) as values:
            values.set("db", "new")
            assert secrets.get("db") == "new"

    def test_blocks_nest_and_leave_no_mask_behind(self) -> None:
        from koan_django.core.redaction import redact_text

        with static_secrets({"db": "outer-value"}):
            with static_secrets({"db": "inner-value"}):
                assert secrets.get("db") == "inner-value"
                assert redact_text("inner-value") == "********"
            assert secrets.get("db") == "outer-value"
        assert redact_text("inner-value outer-value") == "inner-value outer-value"

    def test_a_class_that_is_no_test_is_refused(self) -> None:
        with pytest.raises(TypeError, match="TestCase"):
            static_secrets({})(Path)

    @static_secrets({"db": "decorated"})
    def test_it_decorates_a_function(self) -> None:
        assert secrets.get("db") == "decorated"

    def test_it_decorates_a_coroutine_function(self) -> None:
        @static_secrets({"db": "decorated"})
        async def ask() -> str:
            return (await secrets.aget("db")).reveal()

        assert asyncio.run(ask()) == asyncio.run(ask()) == "decorated"
