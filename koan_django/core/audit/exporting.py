"""Audit events as text, for tools and for keeping elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from koan_django.core.tabular import comma_separated

from .canonical import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import QuerySet

    from .models import AuditEvent

Style = Literal["jsonl", "csv"]
CONTENT_TYPES = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
#: What is exported: what a seal covers, and the number of that seal.
NAMES = (*COLUMNS, "seal")
CHUNK = 1000


def lines(events: QuerySet[AuditEvent], style: Style) -> Iterator[str]:
    """Yield ``events``, oldest first, as one line each; it holds some at a time."""
    rows = events.order_by("id").values_list(*COLUMNS, "seal__number").iterator(chunk_size=CHUNK)
    if style == "csv":
        return comma_separated(NAMES, (_flat(row) for row in rows))
    return (json.dumps(dict(zip(NAMES, row, strict=True)), default=_text, ensure_ascii=False) + "\n" for row in rows)


def _flat(row: tuple[Any, ...]) -> list[Any]:
    return [json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else _text(value) for value in row]


def _text(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
