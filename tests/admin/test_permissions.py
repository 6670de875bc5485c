"""No screen of the admin lets somebody do what they have no permission for. Swept over every registered admin."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import models
from django.test import Client, RequestFactory
from django.urls import reverse

ADMINS = sorted(admin.site._registry.items(), key=lambda entry: entry[0]._meta.label)
#: Django's own screens; theirs are not ours to prove.
OWN = [(model, screen) for model, screen in ADMINS if not model.__module__.startswith("django.")]
STORED = [(model, screen) for model, screen in OWN if model._meta.managed]


def label(value: object) -> str:
    return value._meta.label if isinstance(value, type) and issubclass(value, models.Model) else ""


@pytest.fixture
def viewer(db: None) -> User:
    """A member of staff who may look at everything and do nothing."""
    user = User.objects.create_user("viewer", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    return user


@pytest.fixture
def looking(viewer: User) -> Client:
    client = Client()
    client.force_login(viewer)
    return client


def filled(model: type[models.Model]) -> Any:
    """Return a saved row of ``model`` with plausible values in the columns that need one."""
    values: dict[str, Any] = {}
    for field in model._meta.concrete_fields:
        if (
            field.primary_key
            or field.has_default()
            or field.null
            or field.blank
            or field.db_default is not models.NOT_PROVIDED
        ):
            continue
        values[field.name] = _value(field)
    row = model(**values)
    model._base_manager.bulk_create([row])
    return model._base_manager.latest("pk")


def _value(field: Any) -> Any:
    from django.utils import timezone

    if isinstance(field, models.ForeignKey):
        return filled(field.related_model)
    if field.choices:
        return field.flatchoices[0][0]
    kinds: list[tuple[type, Any]] = [
        (models.DateTimeField, timezone.now()),
        (models.BooleanField, False),
        (models.JSONField, {}),
        (models.BinaryField, b"{}"),
        (models.UUIDField, "12345678123456781234567812345678"),
        (models.DurationField, timedelta(seconds=1)),
        (models.DecimalField, 1),
        (models.IntegerField, 1),
        (models.FloatField, 1.0),
    ]
    return next((value for kind, value in kinds if isinstance(field, kind)), "x")


def test_every_app_of_the_package_has_a_screen_for_every_model() -> None:
    ours = [model for model in apps.get_models() if model.__module__.startswith("koan_django.")]
    missing = [model._meta.label for model in ours if model not in admin.site._registry]
    assert not missing
    assert len(ours) > 8


def actions(screen: Any) -> list[tuple[Any, str]]:
    """The functions of its actions with their names: Django 6.1 has an object where there was a tuple."""
    every = screen._get_base_actions()
    return [(each.func, each.name) if hasattr(each, "func") else (each[0], each[1]) for each in every]


@pytest.mark.parametrize(("model", "screen"), OWN, ids=label)
def test_a_viewer_is_offered_no_action(viewer: User, model: type[models.Model], screen: Any) -> None:
    request = RequestFactory().get("/")
    request.user = viewer
    assert screen.has_view_permission(request)
    assert screen.get_actions(request) == {}


@pytest.mark.parametrize(("model", "screen"), STORED, ids=label)
def test_a_viewer_who_posts_an_action_changes_nothing(looking: Client, model: type[models.Model], screen: Any) -> None:
    row = filled(model)
    before = model._base_manager.filter(pk=row.pk).values().get()
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    for name in [*(name for _function, name in actions(screen)), "delete_selected"]:
        answer = looking.post(
            address, {"action": name, "_selected_action": [row.pk], "confirmed": "yes", "post": "yes"}
        )
        assert answer.status_code in (200, 302, 403), name
        assert model._base_manager.filter(pk=row.pk).values().get() == before, name
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(("model", "screen"), STORED, ids=label)
def test_a_viewer_can_neither_add_nor_change_nor_delete(
    looking: Client, model: type[models.Model], screen: Any
) -> None:
    row = filled(model)
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    assert looking.get(reverse(f"{name}_changelist")).status_code == 200
    assert looking.get(reverse(f"{name}_change", args=[row.pk])).status_code == 200
    assert looking.post(reverse(f"{name}_change", args=[row.pk]), {}).status_code == 403
    assert looking.post(reverse(f"{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    assert looking.get(reverse(f"{name}_add")).status_code == 403


@pytest.mark.parametrize(("model", "screen"), OWN, ids=label)
def test_every_action_asks_for_a_permission(model: type[models.Model], screen: Any) -> None:
    for function, name in actions(screen):
        if name == "delete_selected":
            continue
        needed = getattr(function, "allowed_permissions", ())
        assert needed, f"{screen}.{name} has no permission"
        assert all(hasattr(screen, f"has_{verb}_permission") for verb in needed), f"{screen}.{name}: {needed}"


@pytest.mark.parametrize(("model", "screen"), OWN, ids=label)
def test_somebody_without_any_permission_sees_no_screen(db: None, model: type[models.Model], screen: Any) -> None:
    client = Client()
    client.force_login(User.objects.create_user("nobody", password="x", is_staff=True))
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
    assert client.get(reverse(name)).status_code == 403
