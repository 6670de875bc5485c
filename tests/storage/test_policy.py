"""Profile rows: synced from the settings, their policy asked at every write."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import call_command

from koan_django.core import health
from koan_django.core.overview import panels
from koan_django.storage import ProfileRefusedError, ProfileStorage
from koan_django.storage.models import StorageProfile, Tombstone
from koan_django.testing import override_koan
from tests.storage.models import Document

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def run(**options: Any) -> dict[str, str]:
    out = io.StringIO()
    call_command("koan_storage_sync", format="json", stdout=out, **options)
    found: dict[str, str] = json.loads(out.getvalue())
    return found


def test_migrate_has_written_a_row_for_each_profile() -> None:
    rows = {row.name: row for row in StorageProfile.objects.all()}
    assert set(rows) == {"hot", "cold"}
    assert (rows["hot"].is_default, rows["cold"].is_default) == (True, False)
    assert (rows["cold"].alias, rows["cold"].container) == ("archive", "cold")
    assert rows["hot"].driver == "koan_django.storage.drivers.local.LocalDriver"
    assert rows["hot"].enabled


def test_sync_takes_over_settings_and_leaves_policy_alone() -> None:
    StorageProfile.objects.update(read_only=True, note="kept")
    assert run() == {"hot": "unchanged", "cold": "unchanged"}
    with override_koan(STORAGE={"PROFILES": {"cold": {"CONTAINER": "moved"}, "new": {"STORAGE": "default"}}}):
        assert run(dry_run=True) == {"hot": "unchanged", "cold": "changed", "new": "added"}
        assert not StorageProfile.objects.filter(name="new").exists()
        assert run() == {"hot": "unchanged", "cold": "changed", "new": "added"}
    cold = StorageProfile.objects.get(name="cold")
    assert (cold.container, cold.read_only, cold.note) == ("moved", True, "kept")


def test_a_profile_that_left_the_settings_is_kept_as_missing(settings: Any) -> None:
    settings.KOAN = {"STORAGE": {"PROFILES": {"hot": {"STORAGE": "default", "CONTAINER": "hot"}}}}
    assert run() == {"hot": "unchanged", "cold": "missing"}
    assert run() == {"hot": "unchanged", "cold": "unchanged"}
    assert [row.name for row in StorageProfile.objects.missing()] == ["cold"]
    with override_koan(STORAGE={"DEFAULT_PROFILE": "hot", "PROFILES": {"cold": {"STORAGE": "archive"}}}):
        assert run() == {"hot": "unchanged", "cold": "changed"}
    assert not StorageProfile.objects.missing().exists()


def test_the_command_speaks_plain_text() -> None:
    out = io.StringIO()
    call_command("koan_storage_sync", stdout=out)
    assert out.getvalue() == "cold: unchanged\nhot: unchanged\n"


def test_a_disabled_profile_takes_nothing_new_and_lets_go_of_what_it_has() -> None:
    document = Document.objects.create_text("a", "a")
    StorageProfile.objects.filter(name="hot").update(enabled=False, note="use cold")
    with pytest.raises(ProfileRefusedError, match=r"'hot' refuses: it is disabled.*\(note: use cold\)") as caught:
        Document.objects.create_text("b", "b")
    assert caught.value.transient
    assert document.read_text() == "a"
    document.move_to_profile("cold")
    document.delete()
    assert not Tombstone.objects.exists()


def test_a_read_only_profile_is_left_as_it_is(files: Any) -> None:
    document = Document.objects.create_text("a", "a")
    StorageProfile.objects.filter(name="hot").update(read_only=True)
    before = files()
    with pytest.raises(ProfileRefusedError, match="'hot' refuses: it is read-only"):
        Document.objects.create_text("b", "b")
    document.delete()
    assert files() == before
    assert Tombstone.objects.get().attempts == 1
    with pytest.raises(ProfileRefusedError):
        ProfileStorage("hot").delete(document.key)


def test_policy_counts_at_once(files: Any) -> None:
    for enabled in (False, True, False):
        StorageProfile.objects.update(enabled=enabled)
        if enabled:
            Document.objects.create_text("a", "a")
        else:
            with pytest.raises(ProfileRefusedError):
                Document.objects.create_text("a", "a")
    assert len(files()) == 1


def test_a_profile_without_a_row_is_free() -> None:
    StorageProfile.objects.all().delete()
    assert Document.objects.create_text("a", "a").read_text() == "a"


def test_the_panel_names_profiles_and_what_waits() -> None:
    Tombstone.objects.create(profile="hot", key="a", origin="x", last_error="no")
    StorageProfile.objects.filter(name="cold").update(is_configured=False)
    lines = {line.label: line for line in panels["koan_storage.profiles"].lines()}
    assert (lines["hot"].status, lines["cold"].status) == ("healthy", "unknown")
    assert lines["objects to remove"].value == "1, 1 of them failed before"
    assert lines["objects to remove"].status == "degraded"


def probe() -> health.Finding:
    health._cache.clear()
    return next(found for found in health.ready().findings if found.name == "storage")


def test_readiness_asks_the_default_profile_s_store(stores: Any, settings: Any) -> None:
    assert probe().status == "healthy"
    (stores / "media").write_text("a file in place of the folder")
    found = probe()
    assert (found.status, found.critical) == ("unhealthy", False)
    assert "media" in found.message
    settings.KOAN = {"STORAGE": {"FALLBACK": "disabled"}}
    assert probe().status == "healthy"
