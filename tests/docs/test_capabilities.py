"""The table of buses in the guide says what the code declares."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

from django.utils.module_loading import import_string

from koan_django.messaging.buses.failover import FailoverBus
from koan_django.messaging.conf import SCHEMES

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "buses.md"


def table() -> list[list[str]]:
    """The cells of the first table, its head first."""
    lines = PAGE.read_text().partition("\n|")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines.splitlines()]
    return [rows[0], *rows[2:]]


def declared(head: str) -> dict[str, bool]:
    """What the bus of a column declares."""
    scheme = re.search(r"(\w+)://", head)
    assert scheme, head
    bus = FailoverBus if "FAILOVER" in head else import_string(SCHEMES[scheme[1]])
    return asdict(bus.capabilities)


def test_the_table_says_what_each_bus_declares() -> None:
    (_, *heads), *rows = table()
    says = {
        head: {row[0].split("`")[1]: row[column].split(",")[0] for row in rows}
        for column, head in enumerate(heads, start=1)
    }
    does = {head: {name: "yes" if has else "no" for name, has in declared(head).items()} for head in heads}
    assert says == does


def test_every_bus_has_a_column() -> None:
    """But for that of Celery's tasks, which carries no messages to handlers."""
    text = " ".join(table()[0])
    messages = {path for scheme, path in SCHEMES.items() if scheme != "celery"}
    assert {path for scheme, path in SCHEMES.items() if f"{scheme}://" in text} == messages
    assert "FAILOVER" in text
