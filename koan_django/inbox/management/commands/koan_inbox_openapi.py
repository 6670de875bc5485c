"""``koan_inbox_openapi``: the OpenAPI document of the inbox over HTTP."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand

from koan_django.inbox.service import openapi


class Command(BaseCommand):
    help = "Prints the OpenAPI 3.1 document of the inbox over HTTP, for generators of clients."
    requires_system_checks: tuple[str, ...] = ()

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(json.dumps(openapi.document(), indent=2))
