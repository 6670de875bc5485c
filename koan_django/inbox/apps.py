"""App configuration of the inbox."""

from __future__ import annotations

from django.apps import apps
from django.core.checks import register
from django.utils.translation import gettext_lazy as _

from koan_django.core.appconfig import KoanAppConfig


class InboxConfig(KoanAppConfig):
    default = True
    name = "koan_django.inbox"
    label = "koan_inbox"
    verbose_name = _("Koan inbox")

    def ready(self) -> None:
        from . import condition, examinations, panels, tasks, trail  # noqa: F401  # they register themselves
        from .checks import check_deployment, check_options, check_reach, check_store
        from .discovery import announcing  # noqa: F401  # it registers itself
        from .discovery import examinations as discovery  # noqa: F401  # they register themselves
        from .discovery.checks import check_discovery, check_keys
        from .service.checks import check_service, check_tokens

        super().ready()
        register(check_options)
        register(check_store)
        register(check_reach)
        register(check_deployment, deploy=True)
        register(check_service)
        register(check_tokens, deploy=True)
        register(check_discovery)
        register(check_keys, deploy=True)
        if apps.is_installed("koan_django.messaging"):
            from koan_django.messaging.handling import middleware

            from . import replays, status  # noqa: F401  # they register themselves
            from .middleware import inbox

            middleware.register("inbox", inbox, order=10)
