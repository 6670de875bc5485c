"""References of any kind inside text, resolved by whoever registered for the kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koan_django.core import templating
from koan_django.core.templating import TemplateError, has_reference, is_template, references, register, render


@pytest.fixture(autouse=True)
def _kind() -> Iterator[None]:
    register("testkind", lambda body, in_authority: f"<{body}|{in_authority}>")
    yield
    del templating._resolvers["testkind"]


def test_the_resolver_of_its_kind_answers_a_reference() -> None:
    assert render("a {{testkind:x/y#z}} b") == "a <x/y#z|False> b"
    assert render("${testkind://x}") == "<testkind://x|False>"
    assert render("testkind+p://x/y") == "<testkind+p://x/y|False>"


def test_it_is_told_whether_it_stands_in_the_user_and_password_of_a_url() -> None:
    text = "amqp://{{testkind:u}}:{{testkind:a@/b}}@{{testkind:h}}/{{testkind:p}}@x"
    assert render(text) == "amqp://<u|True>:<a@/b|True>@<h|False>/<p|False>@x"


def test_a_kind_that_nobody_resolves_is_an_error_that_says_so() -> None:
    with pytest.raises(TemplateError) as caught:
        render("x {{nobody:y}}")
    assert "{{nobody:y}} cannot be resolved: nothing resolves references of the kind 'nobody'" in str(caught.value)


def test_only_registered_kinds_are_seen_in_forms_that_others_use_too() -> None:
    assert render("https://h/x ${http://y} ${HOME}") == "https://h/x ${http://y} ${HOME}"
    assert references("amqp://h/x") == []


def test_an_escape_is_the_text_itself() -> None:
    assert render(r"\{{testkind:x}} \${testkind://x}") == "{{testkind:x}} ${testkind://x}"
    assert not has_reference(r"\{{testkind:x}}")
    assert is_template(r"\{{testkind:x}}")
    assert is_template(r"\{{testkind:x}}", kind="testkind")
    assert not is_template(r"\{{testkind:x}}", kind="secret")


def test_given_resolvers_leave_other_kinds_alone() -> None:
    text = r"{{other:x}} {{testkind:y}} \{{testkind:z}} testkind://"
    assert render(text, {"other": lambda body, _: body.upper()}) == r"X {{testkind:y}} \{{testkind:z}} testkind://"
    assert render("testkind://x", {}) == "testkind://x"


def test_what_a_resolver_returns_is_not_rendered_again() -> None:
    assert render("{{loop:x}}", {"loop": lambda *_: "{{loop:x}}"}) == "{{loop:x}}"


@given(st.text())
def test_text_without_a_reference_is_unchanged(text: str) -> None:
    if not is_template(text):
        assert render(text, {"testkind": lambda *_: "x"}) == text
        assert references(text) == []


@pytest.mark.parametrize(
    "text", ["{{a:" + " " * 500_000, "{{a:x" + " " * 500_000 + "y", "{{a:" * 100_000, "${a" * 100_000]
)
def test_half_a_megabyte_that_only_looks_like_references_is_read_once(text: str) -> None:
    assert templating.render(text) == text


@pytest.mark.parametrize(
    ("text", "body"), [("{{a: x y  }}", " x y"), ("{{ a:x}}", "x"), ("{{a:   }}", " "), ("{{a:x\n}}", "x")]
)
def test_blanks_behind_a_body_are_no_part_of_it(text: str, body: str) -> None:
    assert templating.references(text) == [("a", body)]
