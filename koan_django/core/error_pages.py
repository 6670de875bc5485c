"""Django's error pages and error mails without the values of secrets.

Django hides a setting or a variable by its name. A password inside a URL, a list or the text of an exception has no
name, so these hide by value too::

    DEFAULT_EXCEPTION_REPORTER = "koan_django.core.error_pages.RedactingReporter"
    DEFAULT_EXCEPTION_REPORTER_FILTER = "koan_django.core.error_pages.RedactingReporterFilter"
"""

from __future__ import annotations

from pprint import pformat
from typing import TYPE_CHECKING, Any

from django.utils.safestring import mark_safe
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

from .redaction import is_sensitive, redact, redact_text

if TYPE_CHECKING:
    from collections.abc import ItemsView

    from django.http import HttpRequest
    from django.utils.safestring import SafeString


class Shown:
    """Stands for a variable on the page: prints as the variable would, redacted."""

    def __init__(self, value: object) -> None:
        # Before it is printed, since a long text is printed in pieces, and after, for objects that print a value.
        safe = redact(value) if type(value) in (str, bytes, dict, list, tuple, set, frozenset) else value
        try:
            self._text = redact_text(pformat(safe))
        except Exception as error:  # the variable's own repr may fail, as it may on Django's page
            self._text = f"Error in formatting: {type(error).__name__}"

    def __repr__(self) -> str:
        return self._text


class RedactingReporterFilter(SafeExceptionReporterFilter):
    """Hides what Django hides, and every registered secret by its value; a variable by its name too unless DEBUG."""

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        cleansed = super().cleanse_setting(key, value)
        if isinstance(cleansed, str):
            return redact_text(cleansed)
        return redact(cleansed) if isinstance(cleansed, bytes) else cleansed

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, Any]:
        return _redacted_items(super().get_post_parameters(request))

    def get_traceback_frame_variables(self, request: HttpRequest | None, tb_frame: Any) -> ItemsView[str, Any]:
        hides_names = self.is_active(request)
        return {
            name: self.cleansed_substitute if hides_names and is_sensitive(name) else Shown(value)
            for name, value in super().get_traceback_frame_variables(request, tb_frame)
        }.items()


class RedactingReporter(ExceptionReporter):
    """Masks registered secrets in the finished report as well: in the exception's text, notes and source lines."""

    def get_traceback_html(self) -> SafeString:
        return _masked(super().get_traceback_html())

    def get_traceback_text(self) -> SafeString:
        return _masked(super().get_traceback_text())


def _masked(report: str) -> SafeString:
    return mark_safe(redact_text(report))  # noqa: S308  # Django escaped it; the mask needs no escape


def _redacted_items(parameters: Any) -> dict[str, Any]:
    return {name: redact(value, str(name)) for name, value in parameters.items()}
