"""A secret does not show itself, and a resolved text shows its template."""

from __future__ import annotations

import copy
import json
import pickle
from pprint import pformat

import pytest

from koan_django.core.redaction import MASK
from koan_django.secrets import SecretFormatError, SecretText, SecretValue, resolve
from koan_django.testing import static_secrets

VALUE = "hunter2-and-more"


def test_no_way_of_printing_shows_the_value() -> None:
    value = SecretValue(VALUE, name="app/db", source="env")
    shown = [str(value), repr(value), f"{value}", f"{value:>20}", f"{value!r}", pformat({"x": [value]})]
    shown.append("%s" % value)  # noqa: UP031  # logging formats like this
    assert not [text for text in shown if VALUE in text]
    assert str(value) == MASK
    assert repr(value) == "<SecretValue 'app/db' from 'env'>"
    with pytest.raises(TypeError):
        vars(value)


def test_reveal_gives_text_and_bytes() -> None:
    assert SecretValue(VALUE).reveal() == VALUE
    assert SecretValue("é").reveal_bytes() == "é".encode()
    with pytest.raises(SecretFormatError, match="not text"):
        SecretValue(b"\xff\xfe").reveal()


def test_it_is_equal_by_value_and_has_no_hash() -> None:
    assert SecretValue("é", name="a") == SecretValue("é".encode(), name="b") == "é"
    assert SecretValue("a") != SecretValue("b")
    assert SecretValue("1") != 1
    with pytest.raises(TypeError):
        hash(SecretValue("a"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_cannot_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(SecretValue(VALUE), protocol)


def test_a_copy_is_the_value_itself() -> None:
    value = SecretValue(VALUE)
    assert copy.copy(value) is copy.deepcopy(value) is value


def test_fields_are_those_of_a_json_object() -> None:
    value = SecretValue(json.dumps({"user": "u", "port": 5432}))
    user, port = value.field("user"), value.field("port")
    assert user is not None
    assert port is not None
    assert (user.reveal(), port.reveal()) == ("u", "5432")
    assert value.field("nobody") is None
    for text in ("plain", "[1]", "[" * 100_000):
        with pytest.raises(SecretFormatError, match="no fields"):
            SecretValue(text).field("user")


def test_text_is_the_value_and_shows_the_template() -> None:
    with static_secrets({"db": VALUE}):
        text = resolve("amqp://u:{{secret:db}}@h")
    assert isinstance(text, SecretText)
    assert text == f"amqp://u:{VALUE}@h"
    assert repr(text) == "<secret 'amqp://u:{{secret:db}}@h'>"
    assert VALUE not in pformat({"URL": [text]})
    assert "".join([text]) == json.loads(json.dumps(text)) == text
    assert copy.deepcopy({"a": text})["a"] is text


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_text_holds_the_template_and_resolves_where_it_is_loaded(protocol: int) -> None:
    with static_secrets({"db": VALUE}):
        pickled = pickle.dumps({"URL": resolve("x {{secret:db}}")}, protocol)
    assert VALUE.encode() not in pickled
    with static_secrets({"db": "another"}):
        assert pickle.loads(pickled) == {"URL": "x another"}
