"""What was made from what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from django.apps import apps
from django.db import connections, router
from django.db.models import FileField
from django.db.models.expressions import RawSQL

from .catalogue import catalogue
from .exceptions import RecipeNotFoundError
from .formats import FORMATS
from .rendering import variant_key

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from .assets import MediaAsset
    from .recipes import Recipe

    A = TypeVar("A", bound=MediaAsset)

#: A chain longer than this is a loop that somebody made by hand.
DEPTH = 64


def variants(asset: A) -> dict[str, A]:
    """Return the variants of ``asset`` by recipe; of several versions the current one, else the newest."""
    found: dict[str, A] = {}
    rows: list[A] = sorted(asset.derivatives.all(), key=lambda row: row.pk)  # type: ignore[attr-defined]  # of concrete models
    for row in rows:
        known = found.get(row.relationship)
        if known is None or known.derivation_key != current_key(asset, row.relationship):
            found[row.relationship] = row
    return found


def current_key(asset: MediaAsset, name: str) -> str | None:
    """Return the key that the recipe ``name`` has for ``asset`` now, or ``None`` when there is no such recipe."""
    try:
        return key_of(asset, catalogue.get(name))
    except RecipeNotFoundError:
        return None


def key_of(asset: MediaAsset, recipe: Recipe) -> str | None:
    """Return the key of what ``recipe`` makes of ``asset``, or ``None`` for one that was never inspected."""
    format = FORMATS.get(asset.format)
    return variant_key(asset.sha256, recipe, format) if format and asset.sha256 else None


def existing(asset: A, keys: list[str]) -> dict[str, A]:
    """Return the variants of ``asset`` that exist, by key; those that were prefetched are not asked for again."""
    prefetched = getattr(asset, "_prefetched_objects_cache", {}).get("derivatives")
    if prefetched is not None:
        found = {row.derivation_key: row for row in prefetched if row.derivation_key in keys}
        if len(found) == len(keys):
            return found
    rows: QuerySet[A] = type(asset)._base_manager.using(alias_of(asset))
    return {str(row.derivation_key): row for row in rows.filter(source=asset, derivation_key__in=keys)}


def alias_of(asset: MediaAsset) -> str:
    """Return the database that ``asset`` is written to; its records are kept there too."""
    return asset._state.db or router.db_for_write(type(asset), instance=asset)


def aliases() -> list[str]:
    """Return the databases that hold pictures, and so their records."""
    from .assets import MediaAsset

    return sorted({router.db_for_write(model) for model in apps.get_models() if issubclass(model, MediaAsset)})


def ancestors(asset: A) -> list[A]:
    """Return what ``asset`` was made from, nearest first."""
    if asset.source_id is None:  # type: ignore[attr-defined]  # made by the foreign key
        return []
    model, using = type(asset), alias_of(asset)
    names = _names(asset, using)
    sql = (  # noqa: S608  # the names are the model's own, quoted
        "WITH RECURSIVE up(pk, parent, depth) AS ("
        "SELECT {pk}, {source}, 1 FROM {table} WHERE {pk} = %s UNION ALL "
        "SELECT t.{pk}, t.{source}, up.depth + 1 FROM {table} t JOIN up ON t.{pk} = up.parent WHERE up.depth < %s) "
        "SELECT pk FROM up ORDER BY depth"
    ).format(**names)
    with connections[using].cursor() as cursor:
        cursor.execute(sql, [asset.source_id, DEPTH])  # type: ignore[attr-defined]  # as above
        keys = list(dict.fromkeys(row[0] for row in cursor.fetchall()))
    rows = model._base_manager.using(using).in_bulk(keys)
    return [rows[key] for key in keys if key in rows and key != asset.pk]


def descendants(asset: A) -> QuerySet[A]:
    """Return everything that was made from ``asset``."""
    names = _names(asset, alias_of(asset))
    sql = (  # noqa: S608  # the names are the model's own, quoted
        "WITH RECURSIVE down(pk) AS ("
        "SELECT {pk} FROM {table} WHERE {source} = %s UNION "
        "SELECT t.{pk} FROM {table} t JOIN down ON t.{source} = down.pk) "
        "SELECT pk FROM down"
    ).format(**names)
    rows: QuerySet[A] = type(asset)._default_manager.using(alias_of(asset))  # type: ignore[assignment]  # of its own class
    return rows.filter(pk__in=RawSQL(sql, [asset.pk])).exclude(pk=asset.pk)  # noqa: S611  # as above


def _names(asset: MediaAsset, using: str) -> dict[str, str]:
    """A child of multi-table inheritance keeps its lineage in the table of its parent."""
    field = asset._meta.get_field("source")
    owner, quote = field.model._meta, connections[using].ops.quote_name
    assert owner.pk is not None
    return {"table": quote(owner.db_table), "pk": quote(str(owner.pk.column)), "source": quote(str(field.column))}


def inherited(asset: MediaAsset) -> dict[str, Any]:
    """Return the values of the columns that the model adds to MediaAsset's, without the unique ones and other files."""
    from .assets import MediaAsset

    own = {field.name for field in MediaAsset._meta.local_fields}
    return {
        field.attname: getattr(asset, field.attname)
        for field in asset._meta.concrete_fields
        if field.name not in own and not field.primary_key and not field.unique and not isinstance(field, FileField)
    }
