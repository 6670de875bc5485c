"""The grammar: what it reads, what it refuses, and that writing and reading are inverse."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koan_django.core.templating import references
from koan_django.secrets import SecretReference, SecretReferenceError
from koan_django.secrets.references import parse

_CHARACTERS = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])
_SEGMENTS = st.text(_CHARACTERS, min_size=1).filter(lambda text: "/" not in text and text not in (".", ".."))
REFERENCES = st.builds(
    SecretReference,
    path=st.lists(_SEGMENTS, min_size=1, max_size=4).map("/".join),
    provider=st.just("") | st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,10}", fullmatch=True),
    field=st.text(_CHARACTERS, max_size=8),
    version=st.just("") | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True),
    ttl=st.none() | st.timedeltas(timedelta(0), timedelta(days=3650)),
    default=st.none() | st.text(_CHARACTERS, max_size=10),
    encode=st.sampled_from(["auto", "none", "url"]),
)


@given(REFERENCES)
def test_what_is_written_is_read_back(reference: SecretReference) -> None:
    assert parse(str(reference)) == reference
    assert parse(reference.uri()) == reference


@given(REFERENCES)
def test_a_written_reference_fits_into_a_template(reference: SecretReference) -> None:
    assert references(f"a {{{{secret:{reference}}}}} b") == [("secret", str(reference))]
    assert references(f"a ${{{reference.uri()}}} b") == [("secret", reference.uri())]
    assert references(reference.uri()) == [("secret", reference.uri())]


@given(st.text())
def test_any_text_is_read_or_refused_with_a_reason(text: str) -> None:
    try:
        parse(text)
    except SecretReferenceError as error:
        assert error.why
        assert error.fix


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("db", SecretReference("db")),
        ("app/prod/database", SecretReference("app/prod/database")),
        ("vault:app/db", SecretReference("app/db", provider="vault")),
        ("app/db#password@3", SecretReference("app/db", field="password", version="3")),
        ("app/db@3", SecretReference("app/db", version="3")),
        ("a?ttl=30s", SecretReference("a", ttl=timedelta(seconds=30))),
        ("a?ttl=90", SecretReference("a", ttl=timedelta(seconds=90))),
        ("a?ttl=1h30m", SecretReference("a", ttl=timedelta(minutes=90))),
        ("a?default=", SecretReference("a", default="")),
        ("a?default=b=c+d e", SecretReference("a", default="b=c+d e")),
        ("a?default=%26%7B%7D", SecretReference("a", default="&{}")),
        ("v:a/b#c@1?encode=none&default=x", SecretReference("a/b", "v", "c", "1", None, "x", "none")),
        ("users/a%40b", SecretReference("users/a@b")),
        ("secret://app/prod/database#password", SecretReference("app/prod/database", field="password")),
        ("secret:///scope/name", SecretReference("scope/name")),
        ("secret://scope/name?version=3", SecretReference("scope/name", version="3")),
        ("secret+vault://scope/name@3", SecretReference("scope/name", provider="vault", version="3")),
        ("secret://a/b?version=2&ttl=5m#f", SecretReference("a/b", "", "f", "2", timedelta(minutes=5))),
        ("secret://App/Name", SecretReference("App/Name")),
    ],
)
def test_reads(text: str, expected: SecretReference) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "single slashes"),
        ("/etc/passwd", "single slashes"),
        ("a//b", "single slashes"),
        ("a/", "single slashes"),
        ("../etc/passwd", "'..'"),
        ("a/%2e%2e/b", "'..'"),
        ("a/%2e%2e%2f%2e%2e", "'..'"),
        ("a%00b", "control character"),
        (":a", "provider before ':' is empty"),
        ("va ult:a", "no alias"),
        ("a#", "field behind '#'"),
        ("a@", "version behind '@'"),
        ("a@1 2", "no version"),
        ("a?tll=3s", "did you mean 'ttl'?"),
        ("a?ttl=soon", "not a duration"),
        ("a?ttl=-5", "not a duration"),
        ("a?ttl=1s&ttl=2s", "given twice"),
        ("a?encode=base64", "not one of auto, none, url"),
        ("a%zz", "begins no percent-encoding"),
        ("a%ff", "not UTF-8"),
        ("secret+://a", "provider behind '+' is empty"),
        ("secret://", "single slashes"),
    ],
)
def test_refuses(text: str, reason: str) -> None:
    with pytest.raises(SecretReferenceError) as caught:
        parse(text)
    assert reason in str(caught.value)


def test_a_refusal_does_not_show_the_default() -> None:
    with pytest.raises(SecretReferenceError) as caught:
        parse("a//b?default=hunter2")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(SecretReference("a", default="hunter2"))
