"""A project that knows Django's file fields and nothing else of us, with a profile as its default storage."""

from __future__ import annotations

import io
import urllib.request
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.forms import modelform_factory
from PIL import Image
from rest_framework import serializers

from koan_django.storage import profiles
from koan_django.storage.drivers.base import walk
from koan_django.testing import override_koan
from tests.storage.models import Snapshot

pytestmark = [pytest.mark.django_db]


def _png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), "teal").save(stream, "png")
    return stream.getvalue()


PNG = _png()


def upload(name: str = "a picture.png", data: bytes = PNG) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data, content_type="image/png")


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.services("s3"))], autouse=True)
def store(request: Any, settings: Any, tmp_path: Any) -> Any:
    """Run each test on a folder and on a bucket; return which."""
    backend = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(tmp_path / "files"), "base_url": "/files/"},
    }
    if request.param == "s3":
        bucket = request.getfixturevalue("bucket")
        backend = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": bucket.options}
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "koan_django.storage.ProfileStorage", "OPTIONS": {"profile": "main"}},
        "files": backend,
    }
    with override_koan(
        STORAGE={"DEFAULT_PROFILE": "main", "PROFILES": {"main": {"STORAGE": "files", "CONTAINER": "media"}}}
    ):
        yield request.param


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        data: bytes = answer.read()
    return data


def test_a_model_form_stores_measures_and_shows_a_picture(store: str) -> None:
    form = modelform_factory(Snapshot, fields=["picture"])(files={"picture": upload()})
    assert form.is_valid(), form.errors
    saved = form.save()
    assert (saved.width, saved.height) == (4, 3)
    found = Snapshot.objects.get(pk=saved.pk)
    assert found.picture.name == "pictures/a_picture.png"
    assert found.picture.size == len(PNG)
    with found.picture.open() as file:
        assert Image.open(file).size == (4, 3)
        file.seek(0)
        assert file.read() == PNG
    with found.picture.open() as file:
        assert b"".join(file.chunks()) == PNG
    assert profiles["main"].driver.stat("media/pictures/a_picture.png").content_type in ("image/png", "")
    if store == "s3":
        assert fetched(found.picture.url) == PNG
    else:
        assert found.picture.url == "/files/media/pictures/a_picture.png"
    assert found.picture.url.partition("?")[0] in str(modelform_factory(Snapshot, fields=["picture"])(instance=found))


def test_a_form_that_refuses_a_picture_stores_nothing() -> None:
    form = modelform_factory(Snapshot, fields=["picture"])(files={"picture": upload(data=b"no picture")})
    assert not form.is_valid()
    assert list(walk(profiles["main"].driver)) == []


def test_width_and_height_are_read_from_the_store_when_the_row_does_not_have_them() -> None:
    saved = Snapshot.objects.create(picture=upload())
    Snapshot.objects.update(width=None, height=None)
    found = Snapshot.objects.get(pk=saved.pk)
    assert (found.picture.width, found.picture.height) == (4, 3)


class SnapshotSerializer(serializers.ModelSerializer):  # type: ignore[type-arg]
    class Meta:
        model = Snapshot
        fields = ["picture", "notes", "width"]


def test_a_serializer_takes_a_picture_and_gives_its_address(store: str) -> None:
    given = SnapshotSerializer(data={"picture": upload(), "notes": SimpleUploadedFile("n.txt", b"notes")})
    given.is_valid(raise_exception=True)
    shown = SnapshotSerializer(given.save()).data
    assert shown["width"] == 4
    if store == "s3":
        assert (fetched(shown["picture"]), fetched(shown["notes"])) == (PNG, b"notes")
    else:
        assert (shown["picture"], shown["notes"]) == ("/files/media/pictures/a_picture.png", "/files/media/notes/n.txt")


def test_a_serializer_refuses_what_is_no_picture() -> None:
    given = SnapshotSerializer(data={"picture": upload(data=b"no picture")})
    assert not given.is_valid()
    assert set(given.errors) == {"picture"}


def test_a_file_is_saved_opened_listed_and_deleted(store: str) -> None:
    row = Snapshot()
    row.notes.save("n.txt", ContentFile("Größe"))
    row.notes.save("n.txt", ContentFile(b"second"))
    assert row.notes.name != "notes/n.txt"
    assert default_storage.listdir("notes") == ([], sorted(["n.txt", row.notes.name.removeprefix("notes/")]))
    with default_storage.open("notes/n.txt") as file:
        assert file.read().decode() == "Größe"
        assert list(file.open()) == ["Größe".encode()]
    assert default_storage.get_modified_time("notes/n.txt").tzinfo is not None
    with pytest.raises(ValueError, match="stored whole"):
        default_storage.open("notes/n.txt", "wb")
    if store == "s3":
        with pytest.raises(NotImplementedError):
            default_storage.path("notes/n.txt")
    name = row.notes.name
    row.notes.delete()
    assert not default_storage.exists(name)
    assert default_storage.exists("notes/n.txt")
