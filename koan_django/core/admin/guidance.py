"""What a person can do about a failure that a row records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from koan_django.core import hints

if TYPE_CHECKING:
    from django.utils.safestring import SafeString


class Guided:
    """Mix-in with the field ``guidance``: what is known about the error in the column ``error_column``."""

    error_column = "last_error"

    @admin.display(description=_("what to do"))
    def guidance(self, row: Any) -> SafeString | str:
        hint = hints.explain_text(getattr(row, self.error_column), getattr(row, "error_type", ""))
        if hint is None:
            return "-"
        again = _("It is tried again by itself.") if hint.transient else _("Trying again does not help by itself.")
        return format_html("<strong>{}</strong> {}<br>{} {} [{}]", hint.what, hint.why, hint.fix, again, hint.code)
