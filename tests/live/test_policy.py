"""What people change in the admin reaches a worker that runs."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from koan_django.messaging import Message
from koan_django.storage.models import StorageProfile
from koan_django.storage.sync import sync
from tests.messaging.shop import listening
from tests.services import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True)]


class Store(Message):
    """The worker's own class of that alias is in another process."""

    number: int

    class Meta:
        alias = "live.store"


def mark(client: Client, **values: str) -> None:
    """Save the profile in the admin."""
    row = StorageProfile.objects.get(name="hot")
    url = reverse("admin:koan_storage_storageprofile_change", args=[row.pk])
    assert client.post(url, {"enabled": "on", **values}).status_code == 302


def until(site: Any, outcome: str, so_far: int) -> None:
    """Send until a file is ``outcome``, looking at the deeds after ``so_far``."""

    def seen() -> bool:
        Store(len(site.deeds()) + 1000).send()
        return outcome in [deed[0] for deed in site.deeds()[so_far:]]

    wait_until(seen, 20, f"a file to be {outcome}")


def test_a_change_in_the_admin_reaches_a_running_worker_at_no_cost_per_message(site: Any) -> None:
    sync()
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    worker = site.worker("-c", "1")
    began = time.time()
    with listening(Store, group="live", name="live.store"):
        for number in range(200):
            Store(number).send()
        wait_until(lambda: len(site.deeds("stored")) == 200, 30, "200 files")
        for change, outcome in (({"read_only": "on"}, "refused"), ({}, "stored")):
            so_far = len(site.deeds())
            mark(client, **change)
            changed = time.time()
            until(site, outcome, so_far)
            late = [deed for deed in site.deeds()[so_far:] if deed[0] != outcome and float(deed[5]) > changed + 2]
            assert late == []
    versions, rows = (sum(int(deed[column]) for deed in site.deeds()) for column in (3, 4))
    assert len({deed[2] for deed in site.deeds()}) == 1  # one process
    assert 1 <= versions <= time.time() - began + 1  # one a second
    assert rows == 3  # at the start, and once for each change
    worker.kill()  # a clean stop of Celery on folders takes seconds, and proves nothing here
