"""App configuration of storage."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _

from koan_django.core.appconfig import KoanAppConfig


class StorageConfig(KoanAppConfig):
    default = True
    name = "koan_django.storage"
    label = "koan_storage"
    verbose_name = _("Storage")

    def ready(self) -> None:
        from . import (  # noqa: F401  # some register themselves
            checks,
            choices,
            examinations,
            panels,
            policy,
            tasks,
            trail,
        )

        super().ready()
        checks.register_all()
        post_migrate.connect(_sync, sender=self, dispatch_uid="koan_django.storage.sync")


def _sync(using: str, **_: Any) -> None:
    from django.db import router

    from . import sync
    from .models import StorageProfile

    if router.allow_migrate_model(using, StorageProfile):
        sync.sync(using=using)
