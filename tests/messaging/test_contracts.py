"""Schemas, the AsyncAPI document, and which changes break what is under way or whoever is older."""

from __future__ import annotations

import enum
import json
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import jsonschema
import msgspec
import pytest
from django.core.management import CommandError, call_command

from koan_django.messaging import AwareDatetime, handlers, messages
from koan_django.messaging.contracts import Snapshot, changes, document, schema_of
from koan_django.messaging.contracts.comparing import Comparison
from koan_django.messaging.contracts.snapshots import Contract
from koan_django.messaging.encoding import encode, upcaster
from tests.messaging.shop import OrderPaid, OrderPlaced, StockMoved, listening


class Colour(enum.Enum):
    RED = "red"


class Colours(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Line(msgspec.Struct):
    sku: str


class LineToo(msgspec.Struct):
    sku: str
    count: int


class Tree(msgspec.Struct):
    children: list[Tree] = []


class TreeToo(msgspec.Struct):
    children: list[TreeToo] = []
    leaf: bool = False


def schema(name: str, **fields: Any) -> dict[str, Any]:
    """The schema of a struct with ``fields``: a type, or (type, default)."""
    made = msgspec.defstruct(name, [(n, *(t if isinstance(t, tuple) else (t,))) for n, t in fields.items()])
    found: dict[str, Any] = msgspec.json.schema(made)
    return found


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str, bool]]:
    return list(Comparison(schema("M", **old), schema("M", **new)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"a": int}, {"a": int}),
        ({"a": int}, {"a": int, "b": (str, "")}),
        ({"a": int, "b": (str, "")}, {"a": int}),
        ({"a": int}, {"a": (int, 0)}),
        ({"a": (int, 0)}, {"a": (int, 1)}),
        ({"a": list[Line]}, {"a": list[Line]}),
        ({"a": Tree}, {"a": Tree}),
    ],
)
def test_what_both_can_read_does_not_break(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert [each for each in differences(old, new) if each[2]] == []


@pytest.mark.parametrize(
    ("old", "new", "path", "words"),
    [
        ({"a": int}, {"a": int, "b": str}, "$.b", "what is under way lacks it"),
        ({"a": int, "b": str}, {"a": int}, "$.b", "older handlers require it"),
        ({"a": (int, 0)}, {"a": int}, "$.a", "lost its default"),
        ({"a": int}, {"a": str}, "$.a", "was integer, is string"),
        ({"a": str}, {"a": AwareDatetime}, "$.a", "was string, is string (date-time)"),
        ({"a": int}, {"a": int | None}, "$.a", "may be null: older handlers refuse it"),
        ({"a": int | None}, {"a": int}, "$.a", "is no longer null: what is under way may be"),
        ({"a": Line | None}, {"a": Line}, "$.a", "is no longer null"),
        ({"a": Colour}, {"a": Colours}, "$.a", "may be 'blue': older handlers refuse it"),
        ({"a": Colours}, {"a": Colour}, "$.a", "is no longer 'blue'"),
        ({"a": list[int]}, {"a": list[str]}, "$.a[*]", "was integer, is string"),
        ({"a": dict[str, int]}, {"a": dict[str, str]}, "$.a.*", "was integer, is string"),
        ({"a": tuple[int, int]}, {"a": tuple[int, str]}, "$.a[1]", "was integer, is string"),
        ({"a": list[Line]}, {"a": list[LineToo]}, "$.a[*].count", "what is under way lacks it"),
        ({"a": int}, {"a": Annotated[int, msgspec.Meta(ge=1)]}, "$.a", "minimum was not set, is 1"),
    ],
)
def test_what_one_of_them_cannot_read_breaks(old: dict[str, Any], new: dict[str, Any], path: str, words: str) -> None:
    found = [each for each in differences(old, new) if each[2]]
    assert len(found) == 1
    assert found[0][0] == path
    assert words in found[0][1]


def test_a_type_that_holds_itself_is_compared_once() -> None:
    assert [each[:2] for each in differences({"a": Tree}, {"a": TreeToo})] == [
        ("$.a.leaf", "is new"),
    ]


@pytest.mark.parametrize("message", [OrderPlaced(1, "x"), OrderPaid(2, 3), StockMoved("s", 4, "token")])
def test_a_body_is_what_its_schema_says(message: messages.Message) -> None:
    found = schema_of(type(message))
    jsonschema.Draft202012Validator.check_schema(found)
    jsonschema.validate(json.loads(encode(message)), found)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, found)


def test_markers_stand_in_the_schema() -> None:
    properties = schema_of(StockMoved)["properties"]
    assert properties["sku"]["x-koan-partition-key"] is True
    assert properties["supplier_token"]["x-koan-sensitive"] is True
    assert schema_of(OrderPaid)["properties"]["number"]["x-koan-idempotency-key"] is True


def test_the_document_names_messages_senders_and_handlers_and_no_server() -> None:
    with (
        listening(StockMoved, group="billing", name="shop.count"),
        listening("stock.*", group="audit", name="shop.audit"),
    ):
        found = document("Shop", "3")
    assert found["asyncapi"] == "3.0.0"
    assert found["info"] == {"title": "Shop", "version": "3"}
    assert "servers" not in found
    assert {
        "send.stock.moved",
        "receive.billing.shop.count.stock.moved",
        "receive.audit.shop.audit.stock.moved",
    } <= set(found["operations"])
    for operation in found["operations"].values():  # every reference leads somewhere
        for reference in (operation["channel"], *operation["messages"], *_references(found["channels"])):
            assert _resolve(found, reference["$ref"])
    assert found["components"]["messages"]["stock.moved"]["payload"]["properties"]["count"] == {"type": "integer"}


def _references(channels: dict[str, Any]) -> list[dict[str, str]]:
    return [each for channel in channels.values() for each in channel["messages"].values()]


def _resolve(found: Any, reference: str) -> Any:
    for word in reference.removeprefix("#/").split("/"):
        found = found[word]
    return found


def contract(version: int, **fields: Any) -> Contract:
    return Contract(version, schema("M", **fields))


def test_a_message_that_is_gone_or_went_back_breaks_and_a_new_one_does_not() -> None:
    old = Snapshot({"a": contract(2, x=int), "b": contract(1, x=int)})
    new = Snapshot({"a": contract(1, x=int), "c": contract(1, x=int)})
    assert [(each.alias, each.breaking) for each in changes(old, new)] == [("a", True), ("b", True), ("c", False)]


def test_an_upcaster_makes_a_new_version_of_what_would_break() -> None:
    class Moved(messages.Message):
        place: str

        class Meta:
            alias = "contracts.moved"
            version = 2

    try:
        old = Snapshot({"contracts.moved": contract(1, room=str)})
        new = Snapshot({"contracts.moved": Contract(2, schema_of(Moved))})
        assert any(each.breaking and "no upcaster lifts version 1" in each.what for each in changes(old, new))
        upcaster(Moved, from_version=1)(lambda body: {"place": body["room"]})
        assert [each.breaking for each in changes(old, new)] == [False]
    finally:
        messages._classes.pop(next(key for key, cls in messages._classes.items() if cls is Moved))
        messages._by_alias.clear()


def command(*words: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("koan_messages", *words, stdout=out, stderr=StringIO())
    except SystemExit as stop:
        return int(stop.code or 0), out.getvalue()
    return 0, out.getvalue()


def test_a_snapshot_that_is_written_fits_and_one_of_other_fields_does_not(tmp_path: Path) -> None:
    file = tmp_path / "messages.json"
    command("snapshot", "--file", str(file))
    assert command("check", "--current", "--file", str(file)) == (0, f"the messages are those of {file}\n")
    found = json.loads(file.read_text())
    found["messages"]["stock.moved"]["schema"]["properties"]["count"] = {"type": "string"}
    file.write_text(json.dumps(found))
    code, text = command("check", "--file", str(file))
    assert code == 1
    assert "BREAKS  stock.moved $.count: was string, is integer" in text
    code, text = command("check", "--format", "json", "--file", str(file))
    assert json.loads(text)["breaking"] == 1


def test_a_snapshot_that_is_behind_fails_only_when_asked(tmp_path: Path) -> None:
    file = tmp_path / "messages.json"
    found = Snapshot.of_project()
    del found.contracts["stock.moved"]
    found.write(file)
    assert command("check", "--file", str(file))[0] == 0
    assert command("check", "--current", "--file", str(file))[0] == 1


@pytest.mark.parametrize(
    "content", [None, "{", "{}", '{"koan-messages": 1}', '{"koan-messages": 1, "messages": {"a": 1}}']
)
def test_a_file_that_is_no_snapshot_is_told(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "messages.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(CommandError, match=r"messages\.json") as caught:
        command("check", "--file", str(file))
    assert caught.value.returncode == 2


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"missing/messages\.json cannot be written .* by --file"):
        command("snapshot", "--file", str(tmp_path / "missing" / "messages.json"))


def test_the_list_says_who_handles_what() -> None:
    with listening(OrderPlaced, group="billing", name="shop.bill"):
        assert "order.placed  version 1  billing" in command("list")[1]
    assert all(each.name != "shop.bill" for each in handlers.every())


def test_the_export_is_json() -> None:
    assert json.loads(command("export")[1])["asyncapi"] == "3.0.0"
    assert "stock.moved" in json.loads(command("export", "--format", "json-schema")[1])
