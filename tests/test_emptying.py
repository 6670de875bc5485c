"""What is left in the database behind a test that commits."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User

from koan_django.storage.models import StorageProfile
from tests.emptying import empty

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def test_what_was_added_is_gone_whoever_refers_to_it_and_the_rest_is_not_touched() -> None:
    empty("default")
    before = list(Permission.objects.values_list("pk", "codename").order_by("pk"))
    assert before
    LogEntry.objects.create(user=User.objects.create_user("staff"), action_flag=1)
    empty("default")
    assert not User.objects.exists()
    assert not LogEntry.objects.exists()
    assert list(Permission.objects.values_list("pk", "codename").order_by("pk")) == before


def test_what_apps_have_written_themselves_is_as_they_write_it() -> None:
    empty("default")
    permissions = Permission.objects.count()
    profiles = list(StorageProfile.objects.order_by("name").values_list("name", "alias"))
    Permission.objects.filter(content_type__app_label="koan_storage").delete()
    StorageProfile.objects.all().delete()
    User.objects.create_user("staff")
    empty("default")
    assert Permission.objects.count() == permissions
    assert list(StorageProfile.objects.order_by("name").values_list("name", "alias")) == profiles
    assert profiles
    assert not User.objects.exists()
