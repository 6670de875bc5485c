"""App configuration of secrets."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from koan_django.core.appconfig import KoanAppConfig


class SecretsConfig(KoanAppConfig):
    default = True
    name = "koan_django.secrets"
    label = "koan_secrets"
    verbose_name = _("Secrets")

    def ready(self) -> None:
        from . import checks, choices, examinations, panels, probes, resolver  # noqa: F401  # some register themselves

        super().ready()
        checks.register_all()
