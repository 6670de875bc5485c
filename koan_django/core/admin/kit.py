"""What every admin screen of koan-django is built with.

An *operation* is an admin action that always asks for a permission, works object by object, leaves a LogEntry and an
audit event for each and, when it destroys something, asks first. A *record* is a row that code writes and people only
read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.text import Truncator, capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from koan_django.core import audit
from koan_django.core.audit.actors import of_user
from koan_django.core.exceptions import KoanError
from koan_django.core.redaction import redact, redact_text

M = TypeVar("M", bound=Model)
#: Does the work for one object and returns what to log, or raises KoanError.
Operation = Callable[[Any, HttpRequest, M], str]

JSON_LENGTH = 8000
BRIEF_LENGTH = 80


if TYPE_CHECKING:
    from django.utils.safestring import SafeString

    _ModelAdmin = admin.ModelAdmin
else:

    class _ModelAdmin(admin.ModelAdmin, Generic[M]):
        """Django's own cannot be subscribed at run time."""


class Audited(_ModelAdmin[M]):
    """A ModelAdmin that leaves an audit event beside each LogEntry, also of one for which others act."""

    def log_addition(self, request: HttpRequest, obj: M, message: Any) -> Any:
        audited(request, "add", obj, message)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: M, message: Any, *, action: str = "change") -> Any:
        audited(request, action, obj, message)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for obj in queryset:
            audited(request, "delete", obj)
        return super().log_deletions(request, queryset)


def audited(request: HttpRequest, action: str, obj: Model, message: Any = "") -> None:
    """Record ``admin.<action>`` in the name of the user of ``request``."""
    data = {"message": message} if message else {}
    audit.record(f"admin.{action}", obj, actor=of_user(request.user), data=data)


class KoanAdmin(Audited[M]):
    """A ModelAdmin whose custom permissions (``replay_deadletter``) answer ``has_replay_permission``."""

    show_full_result_count = False
    list_per_page = 50

    def __init__(self, model: type[M], admin_site: admin.AdminSite) -> None:
        super().__init__(model, admin_site)
        for codename, _label in model._meta.permissions:
            verb = codename.removesuffix(f"_{model._meta.model_name}")
            setattr(self, f"has_{verb}_permission", partial(self._has, codename))

    def correlation_of(self, obj: M) -> str:
        """Return the correlation id of ``obj``; a screen of rows that keep it elsewhere says where."""
        return getattr(obj, "correlation_id", "")

    @admin.display(description=gettext_lazy("trail"))
    def trail(self, obj: M) -> SafeString | str:
        """A link to everything that belongs to the same story; name it among the ``fields`` or in the list."""
        return trail_link(self.correlation_of(obj))

    def _has(self, codename: str, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.{codename}")


class RecordAdmin(KoanAdmin[M]):
    """Rows that code writes: nobody adds, changes or deletes them here."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def operation(
    *, permission: str, description: Any, destructive: bool = False
) -> Callable[[Operation[M]], Callable[[Any, HttpRequest, QuerySet[M]], TemplateResponse | None]]:
    """Make a function of one object an action of an :class:`Audited` admin for those who hold ``permission``.

    ``permission`` is a verb: ``replay`` asks ``has_replay_permission``. A destructive operation shows what it is about
    to touch and wants to be confirmed.
    """

    def decorate(function: Operation[M]) -> Callable[[Any, HttpRequest, QuerySet[M]], TemplateResponse | None]:
        @admin.action(permissions=[permission], description=description)
        @wraps(function)
        def action(modeladmin: Audited[M], request: HttpRequest, queryset: QuerySet[M]) -> TemplateResponse | None:
            if destructive and "confirmed" not in request.POST:
                return _ask(modeladmin, request, queryset, action.__name__, str(description))
            _run(modeladmin, request, queryset, function, action.__name__, str(description))
            return None

        return action

    return decorate


def _run(
    modeladmin: Audited[M],
    request: HttpRequest,
    queryset: QuerySet[M],
    function: Operation[M],
    action: str,
    title: str,
) -> None:
    done = 0
    for obj in queryset:
        try:
            note = function(modeladmin, request, obj)
        except KoanError as error:
            modeladmin.message_user(request, f"{obj}: {redact(str(error))}", messages.ERROR)
            continue
        modeladmin.log_change(request, obj, str(redact(note)), action=action)
        done += 1
    if done:
        text = ngettext("%(title)s: %(count)d done.", "%(title)s: %(count)d done.", done)
        modeladmin.message_user(request, text % {"title": title, "count": done}, messages.SUCCESS)


def _ask(
    modeladmin: Audited[M], request: HttpRequest, queryset: QuerySet[M], action: str, title: str
) -> TemplateResponse:
    context = {
        **modeladmin.admin_site.each_context(request),
        "title": capfirst(title),
        "opts": modeladmin.opts,
        "objects": list(queryset[:100]),
        "count": queryset.count(),
        "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
        "action": action,
        "select_across": request.POST.get("select_across", "0"),
        "checkbox": ACTION_CHECKBOX_NAME,
    }
    return TemplateResponse(request, "admin/koan_core/confirm.html", context)


def trail_link(correlation_id: str) -> SafeString | str:
    """Return a link to the trail of ``correlation_id``, or what there is instead."""
    try:
        url = reverse("admin:koan_core_trail", args=[correlation_id])
    except NoReverseMatch:  # there is none, or a stranger's has a line break in it
        return correlation_id or "-"
    return format_html('<a href="{}">{}</a>', url, correlation_id)


def pretty_json(value: object) -> SafeString:
    """Return ``value`` as indented JSON, redacted and cut."""
    # Redacted once more as text, for what only str() could turn into JSON.
    text = redact_text(json.dumps(redact(value), indent=2, ensure_ascii=False, default=str, sort_keys=True))
    cut = text if len(text) <= JSON_LENGTH else text[:JSON_LENGTH] + _("\n… cut")
    return format_html('<pre class="koan-json">{}</pre>', cut)


def badge(status: str, label: str = "") -> SafeString:
    """Return ``status`` as a coloured word; the colours are in ``koan_core/admin.css``."""
    return format_html('<span class="koan-badge koan-{}">{}</span>', status, label or status)


def brief(text: str) -> str:
    """Return the beginning of the first line, for a list; the page of the row shows all of it."""
    return Truncator(text.partition("\n")[0]).chars(BRIEF_LENGTH) or "-"


class Styled:
    """Mix-in that loads the stylesheet of badges and JSON."""

    class Media:
        css: ClassVar[dict[str, tuple[str, ...]]] = {"all": ("koan_core/admin.css",)}
