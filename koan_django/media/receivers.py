"""A picture that is given another file has no variants any more: they show the old one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import signals

from .files import MediaField

if TYPE_CHECKING:
    from django.db.models import Model

    from .assets import MediaAsset

_NOTE = "_koan_media_replaced"


def connect(sender: type[MediaAsset]) -> None:
    """Listen to one concrete or proxy class of pictures."""
    uid = "koan_django.media"
    signals.pre_save.connect(note, sender=sender, dispatch_uid=uid)
    signals.post_save.connect(forget_variants, sender=sender, dispatch_uid=uid)


def note(
    sender: type[MediaAsset], instance: MediaAsset, raw: bool, update_fields: frozenset[str] | None, **_: Any
) -> None:
    """Before a row is saved, note whether its file is another one."""
    field = sender._meta.get_field("file")
    saved = update_fields is None or "file" in update_fields
    changed = isinstance(field, MediaField) and field.is_changed(instance)
    instance.__dict__[_NOTE] = changed and saved and not raw and not instance._state.adding


def forget_variants(sender: type[MediaAsset], instance: MediaAsset, using: str, **_: Any) -> None:
    """In the transaction that gives a row another file, remove what was made of the old one."""
    if instance.__dict__.pop(_NOTE, False):
        sender._base_manager.using(using).filter(**{"source": instance}).exclude(derivation_key=None).delete()


def prepared(sender: type[Model], **_: Any) -> None:
    """Listen to the classes of projects; those of migrations are no assets."""
    field = sender._meta.get_field("file") if hasattr(sender, "derivation_key") else None
    if isinstance(field, MediaField):
        connect(sender)  # type: ignore[arg-type]  # only an asset has one


signals.class_prepared.connect(prepared, dispatch_uid="koan_django.media")
