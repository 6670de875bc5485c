"""A rendition becomes a row and an object, or neither.

The place is reserved in the store and noted in the record before a byte is written, so that whoever takes over after a
crash removes what is there. The row and the mark "ready" are one transaction, and the mark is guarded by the claim's
token: a renderer that slept through its lease publishes nothing.
"""

from __future__ import annotations

import io
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.db import DatabaseError, IntegrityError, transaction

from koan_django.core.exceptions import LeaseLostError
from koan_django.storage import deletion, operations, profiles
from koan_django.storage.exceptions import TransferConflictError
from koan_django.storage.fieldfile import Location

from . import lineage
from .exceptions import SourceChangedError, SourceGoneError
from .leftovers import bury
from .naming import variant_name
from .signals import variant_ready

if TYPE_CHECKING:
    from koan_django.storage.models import Tombstone

    from .assets import MediaAsset
    from .claiming import Claim
    from .files import MediaField
    from .renderers import Rendition

    A = TypeVar("A", bound=MediaAsset)

logger = logging.getLogger(__name__)


def publish(asset: A, claimed: Claim, rendition: Rendition, duration_ms: int) -> A | None:
    """Store ``rendition`` as a variant of ``asset``; return its row, or ``None`` when somebody else has the claim."""
    row, field = _row(asset, claimed, rendition)
    profile = profiles[field.profile_for_new(row)]
    key = field.generate_filename(row, claimed.recipe.name)
    try:
        reserved = _reserve(asset, claimed, field, Location(profile.name, key))
    except LeaseLostError:
        return None
    try:
        stored = operations.put(profile, key, io.BytesIO(rendition.content), content_type=rendition.format.mime)
        row.file = key
        name = variant_name(asset.original_name, claimed.recipe.name, rendition.format.name)
        field.describe(row, profile=profile.name, stat=stored, name=name, content_type=rendition.format.mime)
        _commit(asset, row, claimed, reserved, duration_ms)
    except BaseException as error:
        _take_back(reserved)
        return _instead(asset, claimed, error)
    return row


def _row(asset: A, claimed: Claim, rendition: Rendition) -> tuple[A, MediaField]:
    values: dict[str, Any] = {
        **asset.inherited(),
        "source": asset,
        "relationship": claimed.recipe.name,
        "derivation_key": claimed.key,
        "width": rendition.width,
        "height": rendition.height,
        "format": rendition.format.name,
    }
    model = type(asset)
    return model(**values), cast("MediaField", model._meta.get_field("file"))


def _reserve(asset: MediaAsset, claimed: Claim, field: MediaField, location: Location) -> Tombstone:
    """Say where the bytes are going to be, in place of where an earlier attempt has said; that one's go."""
    with transaction.atomic(using=claimed.held.using):
        if not claimed.rows.update(profile=location.profile, object_key=location.key):
            raise claimed.lost()
        if claimed.left is not None:
            bury(asset, claimed.left)
        return deletion.reserve(location, origin=str(field), instance=asset)


def _commit(asset: MediaAsset, row: MediaAsset, claimed: Claim, reserved: Tombstone, duration_ms: int) -> None:
    using = claimed.held.using
    with transaction.atomic(using=using):
        _require_source(asset, using)
        deletion.keep(reserved)
        row.save(force_insert=True, using=using)
        if not claimed.rows.finished(
            output_pk=str(row.pk), size=row.size, width=row.width, height=row.height, duration_ms=duration_ms
        ):
            raise claimed.lost()
        told = partial(variant_ready.send_robust, sender=type(row), source=asset, variant=row, recipe=claimed.recipe)
        transaction.on_commit(told, using=using, robust=True)


def _require_source(asset: MediaAsset, using: str) -> None:
    """Lock the picture, so that it is neither deleted nor replaced while its variant is published."""
    rows = type(asset)._base_manager.using(using).select_for_update().filter(pk=asset.pk)
    sha256 = rows.values_list("sha256", flat=True).first()
    if sha256 is None:
        raise SourceGoneError(f"{asset._meta.label} {asset.pk} was deleted while it was being rendered")
    if sha256 != asset.sha256:
        raise SourceChangedError(
            f"{asset._meta.label} {asset.pk} was given another file while it was being rendered",
            fix="Read the row again, and ask for the variants of the new one.",
        )


def _take_back(reserved: Tombstone) -> None:
    try:
        deletion.discard(reserved)
    except DatabaseError:
        logger.warning("%s is not removed yet; its reservation ends by itself", reserved, exc_info=True)


def _instead(asset: A, claimed: Claim, error: BaseException) -> A | None:
    """Return the variant that somebody else has published, if that is what ``error`` came of."""
    if isinstance(error, LeaseLostError):
        return None
    # The winner of a claim also buries the bytes of the loser, whose reservation then is no more.
    if isinstance(error, IntegrityError | TransferConflictError):
        found = lineage.existing(asset, [claimed.key]).get(claimed.key)
        if found is not None:
            claimed.rows.finished(output_pk=str(found.pk))
            return found
    raise error
