"""System checks name what is wrong and how to put it right."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest
from django.apps import apps
from django.core import checks
from django.db import models
from django.test.utils import isolate_apps

from koan_django.storage import StoredFile, StoredFileField
from koan_django.testing import override_koan


def found(**koan: Any) -> dict[str, str]:
    with override_koan(STORAGE=koan):
        messages = checks.run_checks(apps.get_app_configs())
    return {m.id or "": f"{m.msg} {m.hint}" for m in messages if (m.id or "").startswith("koan_storage")}


def ids(model: type[models.Model]) -> dict[str, str]:
    return {m.id or "": f"{m.msg} {m.hint}" for m in model.check() if (m.id or "").startswith("koan_storage")}


def test_the_settings_of_the_tests_are_right() -> None:
    assert found() == {}


def test_a_wrong_option() -> None:
    text = found(DEFAULT_PROFIL="hot")["koan_storage.E001"]
    assert "KOAN['STORAGE']['DEFAULT_PROFIL']: unknown option; did you mean 'DEFAULT_PROFILE'?" in text


def test_an_unknown_alias() -> None:
    text = found(PROFILES={"new": {"STORAGE": "s3"}})["koan_storage.E002"]
    assert "KOAN['STORAGE']['PROFILES']['new']['STORAGE']: settings.STORAGES has no alias 's3'" in text
    assert "archive, default, staticfiles" in text


@pytest.mark.parametrize(
    ("backend", "text"),
    [
        ("django.core.files.storage.InMemoryStorage", "no driver for"),
        ("no.such.Backend", "No module named"),
        ("koan_django.storage.ProfileStorage", "no driver for"),
    ],
)
def test_a_backend_without_a_driver(settings: Any, backend: str, text: str) -> None:
    settings.STORAGES = {**settings.STORAGES, "odd": {"BACKEND": backend}}
    assert text in found(PROFILES={"new": {"STORAGE": "odd"}})["koan_storage.E003"]


def test_a_driver_that_cannot_be_imported() -> None:
    text = found(PROFILES={"hot": {"DRIVER": "no.such.Driver"}})["koan_storage.E003"]
    assert "No module named 'no'" in text


def test_checks_make_no_backend(settings: Any) -> None:
    settings.STORAGES = {
        **settings.STORAGES,
        "odd": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"no_such_option": "{{secret:x}}"},
        },
    }
    assert found(PROFILES={"new": {"STORAGE": "odd", "CONTAINER": "x"}}) == {}


@pytest.mark.parametrize(
    ("profile", "clash"),
    [
        ({"STORAGE": "archive", "CONTAINER": "cold"}, True),
        ({"STORAGE": "archive"}, True),
        ({"STORAGE": "archive", "CONTAINER": "cold/er"}, True),
        ({"STORAGE": "archive", "CONTAINER": "colder"}, False),
        ({"STORAGE": "default", "CONTAINER": "cold"}, False),
        ({"STORAGE": "twin", "CONTAINER": "cold"}, True),
    ],
)
def test_two_profiles_in_one_place(settings: Any, profile: dict[str, str], clash: bool) -> None:
    settings.STORAGES = {**settings.STORAGES, "twin": dict(settings.STORAGES["archive"])}
    messages = found(PROFILES={"other": profile})
    assert ("koan_storage.E004" in messages) is clash
    if clash:
        assert "'cold' and 'other' share one place" in messages["koan_storage.E004"]


def test_files_would_go_where_the_process_was_started(settings: Any) -> None:
    settings.MEDIA_ROOT = ""
    assert "'hot' writes into the folder that the process is started in" in found()["koan_storage.W001"]


@isolate_apps("tests.storage")
def test_a_model_names_a_profile_that_is_not_there() -> None:
    class Lost(StoredFile):
        class Storage:
            profile = "nowhere"

    class AlsoLost(models.Model):
        file = StoredFileField(profile="nowhere")

    for model in (Lost, AlsoLost):
        text = ids(model)["koan_storage.E005"]
        assert "there is no storage profile 'nowhere'" in text
        assert "cold, hot" in text


@isolate_apps("tests.storage")
def test_a_model_names_no_profile_where_each_must_be_named() -> None:
    class Unnamed(StoredFile):
        pass

    assert "koan_storage.E005" not in ids(Unnamed)
    with override_koan(STORAGE={"FALLBACK": "disabled", "DEFAULT_PROFILE": None}):
        assert "no storage profile is named" in ids(Unnamed)["koan_storage.E005"]


@isolate_apps("tests.storage")
def test_columns_of_the_file_must_exist_behind_it() -> None:
    class Early(models.Model):
        size = models.BigIntegerField()
        file = StoredFileField(profile="hot", size_field="size")

    class Absent(models.Model):
        file = StoredFileField(profile="hot", size_field="bytes")

    class Right(models.Model):
        file = StoredFileField(profile="hot", size_field="size")
        size = models.BigIntegerField()

    assert "stands in front of it" in ids(Early)["koan_storage.E006"]
    assert "does not have" in ids(Absent)["koan_storage.E006"]
    assert ids(Right) == {}


@isolate_apps("tests.storage")
def test_a_model_takes_a_column_of_its_file_for_itself() -> None:
    class Wrong(StoredFile):
        size = models.CharField(max_length=3)

    class AlsoWrong(StoredFile):
        sha256 = None

    class Renamed(StoredFile):
        file = StoredFileField(profile="hot")

    class Right(StoredFile):
        title = models.CharField(max_length=3)

    assert "Wrong.size is not the BigIntegerField of StoredFile" in ids(Wrong)["koan_storage.E007"]
    assert "AlsoWrong.sha256" in ids(AlsoWrong)["koan_storage.E007"]
    assert "Renamed.file" in ids(Renamed)["koan_storage.E007"]
    assert ids(Right) == {}


@isolate_apps("tests.storage")
def test_the_inner_class_is_read_once_and_strictly() -> None:
    class Base(StoredFile):
        class Storage:
            profile = "cold"

        class Meta:
            abstract = True

    class Middle(Base):
        class Storage:
            container = "papers"

        class Meta:
            abstract = True

    class Leaf(Middle):
        pass

    field = Leaf._meta.get_field("file")
    assert field.binding_of(Leaf).profile == "cold"  # type: ignore[union-attr]
    assert field.binding_of(Leaf).container == "papers"  # type: ignore[union-attr]

    with pytest.raises(TypeError, match=r"Storage: unknown option 'profil'; did you mean 'profile'"):

        class Misspelt(StoredFile):
            class Storage:
                profil = "hot"

    with pytest.raises(TypeError, match="must be text"):

        class Number(StoredFile):
            class Storage:
                container = 3

    with pytest.raises(TypeError, match=r"container '\.\./x' holds the part"):

        class Escaping(StoredFile):
            class Storage:
                container = "../x"

    with pytest.raises(TypeError, match="is a proxy"):

        class Proxy(Leaf):
            class Storage:
                profile = "hot"

            class Meta:
                proxy = True


@isolate_apps("tests.storage")
def test_migrations_know_nothing_of_profiles() -> None:
    class Any_(models.Model):
        file = StoredFileField(profile="hot", container="x", size_field="size", blank=True)
        size = models.BigIntegerField()

    name, path, args, kwargs = Any_._meta.get_field("file").deconstruct()
    assert (name, path, list(args)) == ("file", "koan_django.storage.StoredFileField", [])
    assert kwargs == {"blank": True, "db_index": True, "max_length": 255}
    rebuilt = StoredFileField(**kwargs)
    assert rebuilt.deconstruct()[1:] == (path, args, kwargs)


S3 = "storages.backends.s3.S3Storage"


def s3(settings: Any, **aliases: dict[str, Any]) -> dict[str, Any]:
    """Put S3 backends with these options behind profiles of the same names."""
    backends = {name: {"BACKEND": S3, "OPTIONS": options} for name, options in aliases.items()}
    settings.STORAGES = {**settings.STORAGES, **backends}
    return {"PROFILES": {name: {"STORAGE": name} for name in aliases}}


def test_checking_an_s3_profile_opens_no_socket(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError(f"a check opens a socket: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    options = {"bucket_name": "shop", "endpoint_url": "http://127.0.0.1:1", "access_key": "{{secret:no-such}}"}
    assert found(**s3(settings, remote=options)) == {}


def test_an_s3_profile_needs_a_bucket(settings: Any) -> None:
    assert "STORAGES['remote']['OPTIONS'] names no bucket" in found(**s3(settings, remote={}))["koan_storage.E008"]
    settings.AWS_STORAGE_BUCKET_NAME = "shop"
    assert found(**s3(settings, remote={})) == {}


def test_compression_by_the_backend_is_told_to_have_no_effect(settings: Any) -> None:
    text = found(**s3(settings, remote={"bucket_name": "shop", "gzip": True}))["koan_storage.W003"]
    assert "has no effect" in text


@pytest.mark.parametrize(
    ("endpoint", "warned"),
    [("http://10.0.0.1:9000", True), ("http://localhost:9000", False), ("https://s3.example.org", False), ("", False)],
)
def test_an_open_endpoint_is_told_before_deployment(settings: Any, endpoint: str, warned: bool) -> None:
    options = {"bucket_name": "shop", "endpoint_url": endpoint}
    with override_koan(STORAGE=s3(settings, remote=options)):
        messages = checks.run_checks(apps.get_app_configs(), include_deployment_checks=True)
    assert ("koan_storage.W004" in {message.id for message in messages}) is warned


def test_profiles_of_one_bucket_share_a_place_whatever_else_differs(settings: Any) -> None:
    first = {"bucket_name": "shop", "location": "a/"}
    text = found(**s3(settings, one=first, two={**first, "querystring_expire": 60}))["koan_storage.E004"]
    assert "'one' and 'two' share one place" in text
    assert found(**s3(settings, one=first, two={**first, "location": "b"})) == {}


def test_a_backend_without_its_package_says_what_to_install(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, S3.rpartition(".")[0], raising=False)
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setitem(sys.modules, "boto3.session", None)
    assert "koan-django[s3]" in found(**s3(settings, remote={"bucket_name": "shop"}))["koan_storage.E003"]


def test_an_unknown_capability_is_told() -> None:
    text = found(PROFILES={"hot": {"WITHOUT": ["exclusive-creat"]}})["koan_storage.E001"]
    assert "there is no capability 'exclusive-creat'; did you mean 'exclusive-create'?" in text
