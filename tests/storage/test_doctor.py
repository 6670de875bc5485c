"""``koan_storage_doctor`` finds out what a store does, says what to set, and leaves nothing behind."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command

from koan_django.storage import Capability, profiles
from koan_django.storage.models import StorageProfile
from koan_django.testing import override_koan
from tests.services.s3 import Bucket

pytestmark = [pytest.mark.django_db]

Examined = tuple[int, dict[str, str], str]


def examined(*arguments: str) -> Examined:
    """Return the exit code, the state by subject and the whole text."""
    out, code = io.StringIO(), 0
    try:
        call_command("koan_storage_doctor", *arguments, "--format", "json", stdout=out)
    except SystemExit as exit:
        code = int(exit.code or 0)
    found = json.loads(out.getvalue())
    return code, {finding["subject"]: finding["state"] for finding in found}, out.getvalue()


@pytest.fixture
def on_s3(settings: Any, bucket: Bucket) -> Callable[..., Any]:
    """Put the profile ``remote`` on the bucket, its backend with other options."""

    def put(without: tuple[str, ...] = (), **options: Any) -> Any:
        backend = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {**bucket.options, **options}}
        settings.STORAGES = {**settings.STORAGES, "remote": backend}
        return override_koan(
            STORAGE={"PROFILES": {"remote": {"STORAGE": "remote", "CONTAINER": "shop", "WITHOUT": list(without)}}}
        )

    return put


def test_a_folder_does_what_its_driver_says_and_is_as_before(files: Any) -> None:
    code, states, _ = examined("hot")
    assert code == 0
    assert states.pop("store") == "works"
    assert set(states) == set(Capability)
    assert {subject for subject, state in states.items() if state == "works"} == set(profiles["hot"].capabilities)
    assert files() == []


def test_a_bucket_lacks_one_thing_until_the_settings_say_so(on_s3: Callable[..., Any], bucket: Bucket) -> None:
    with on_s3():
        code, states, text = examined("remote")
        assert code == 1
        assert {subject: state for subject, state in states.items() if state != "works"} == {"ordered-list": "missing"}
        assert "Add 'ordered-list' to WITHOUT of the profile 'remote'." in text
    with on_s3(without=("ordered-list",)):
        code, states, _ = examined("remote")
        assert (code, states["ordered-list"]) == (0, "not tried")
        assert Capability.ORDERED_LIST not in profiles["remote"].capabilities
    assert (bucket.objects(), bucket.unfinished()) == ([], [])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"bucket_name": "no-such-bucket"}, "no bucket"),
        ({"secret_key": "wrong"}, "credentials"),
        ({"access_key": "reader", "secret_key": "reader-secret"}, "may put, get, delete"),
    ],
)
def test_a_store_that_cannot_be_used_is_an_error_with_its_remedy(
    on_s3: Callable[..., Any], options: dict[str, str], text: str
) -> None:
    with on_s3(**options):
        code, states, told = examined("remote")
    assert (code, states) == (2, {"store": "failed"})
    assert text in told


def test_a_profile_that_people_have_closed_is_left_alone(files: Any) -> None:
    StorageProfile.objects.filter(name="hot").update(read_only=True)
    code, states, text = examined("hot")
    assert (code, states) == (2, {"store": "failed"})
    assert "read-only" in text


def test_all_profiles_are_tried_and_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("koan_storage_doctor")
    out = capsys.readouterr().out
    assert "hot          store             works" in out
    assert "cold         checksum          not tried" in out


def test_an_unknown_profile_is_refused() -> None:
    from django.core.management import CommandError

    with pytest.raises(CommandError, match="did you mean 'hot'") as caught:
        call_command("koan_storage_doctor", "hott")
    assert caught.value.returncode == 2
