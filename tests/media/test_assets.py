"""Uploading: what is refused leaves nothing behind, what is stored says what it is."""

from __future__ import annotations

import io

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.forms import modelform_factory

from koan_django.media import RefusedError
from koan_django.storage import profiles
from koan_django.storage.drivers.base import walk
from koan_django.storage.models import Tombstone
from koan_django.testing import override_koan
from tests.media import pictures
from tests.media.testapp.models import Photo
from tests.storage.models import Invoice

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def objects(profile: str = "hot") -> set[str]:
    found = profiles[profile]
    return {stat.key for stat in walk(found.driver, f"{found.options.container}/")}


def upload(content: bytes, name: str = "IMG 0001.JPG", content_type: str = "image/jpeg", **fields) -> Photo:
    return Photo.objects.upload(SimpleUploadedFile(name, content, content_type), **fields)


def test_an_upload_is_inspected_and_described():
    photo = upload(pictures.camera(6), title="Summer", album="2026")
    photo.refresh_from_db()
    assert (photo.width, photo.height, photo.format, photo.content_type) == (400, 300, "jpeg", "image/jpeg")
    assert (photo.original_name, photo.title, photo.album) == ("IMG 0001.JPG", "Summer", "2026")
    assert photo.read_bytes() == pictures.camera(6)
    assert photo.key.startswith("photos/")
    assert photo.source is None
    assert photo.derivation_key is None


@pytest.mark.parametrize(
    "name", ["my photo (1).png", "фото [2].png", "x" * 300 + ".png", "..\\..\\evil.png", "a\u202egpj.png"]
)
def test_odd_names_work(name):
    assert upload(pictures.alpha_png(), name).read_bytes() == pictures.alpha_png()


def test_the_content_decides_type_and_extension_and_the_claim_does_not():
    photo = upload(pictures.camera(), "page.html", "text/html")
    assert photo.content_type == "image/jpeg"
    assert photo.key.endswith(".jpg")
    assert photo.original_name == "page.html"


@pytest.mark.parametrize(
    ("content", "stage"),
    [
        (b"", "size"),
        (b"just a text that calls itself a picture", "magic"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "format"),
        (pictures.bomb(), "pixels"),
        (pictures.camera()[:50], "decode"),
    ],
)
def test_what_is_refused_leaves_no_row_and_no_object(content, stage):
    before = objects()
    with pytest.raises(RefusedError) as caught:
        upload(content)
    assert caught.value.stage == stage
    assert not Photo.objects.exists()
    assert objects() == before


def test_a_file_beyond_the_limit_is_refused():
    with override_koan(MEDIA={"MAX_BYTES": 500}), pytest.raises(RefusedError) as caught:
        upload(pictures.camera())
    assert caught.value.stage == "size"


class Endless(io.RawIOBase):
    """A stream that cannot seek and never ends."""

    def readable(self):
        return True

    def seekable(self):
        return False

    def readinto(self, buffer):
        buffer[:] = b"\xff" * len(buffer)
        return len(buffer)


def test_a_stream_that_cannot_seek_is_stored_and_one_without_end_refused():
    reader = io.BufferedReader(Endless())
    with override_koan(MEDIA={"MAX_BYTES": 3_000_000}), pytest.raises(RefusedError) as caught:
        Photo.objects.upload(reader, name="endless.jpg")
    assert caught.value.stage == "size"

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *args):
            raise io.UnsupportedOperation

    assert Photo.objects.upload(Pipe(pictures.camera()), name="pipe.jpg").read_bytes() == pictures.camera()


def test_every_way_in_is_checked():
    with pytest.raises(RefusedError):
        Photo.objects.create(file=ContentFile(b"text", name="a.jpg"))
    with pytest.raises(RefusedError):
        Photo.objects.bulk_create([Photo(file=ContentFile(b"text", name="a.jpg"))])
    with pytest.raises(RefusedError):
        Photo(file=ContentFile(b"text", name="a.jpg")).save()
    with pytest.raises(RefusedError):
        Photo.objects.create_bytes("a.jpg", b"text")
    photo = upload(pictures.camera())
    photo.file = ContentFile(b"text", name="a.jpg")
    with pytest.raises(RefusedError):
        photo.save()
    assert Photo.objects.get().read_bytes() == pictures.camera()


def test_bulk_create_fills_the_columns():
    (photo,) = Photo.objects.bulk_create([Photo(file=ContentFile(pictures.alpha_png(), name="a.png"))])
    photo = Photo.objects.get(pk=photo.pk)
    assert (photo.width, photo.format, photo.size) == (200, "png", len(pictures.alpha_png()))


def test_a_form_says_why_a_file_is_refused():
    form_class = modelform_factory(Photo, fields=["file", "album"])
    refused = form_class({"album": "a"}, {"file": SimpleUploadedFile("a.jpg", b"plain text", "image/jpeg")})
    assert not refused.is_valid()
    assert "not a picture" in refused.errors["file"][0]
    accepted = form_class({"album": "a"}, {"file": SimpleUploadedFile("a.jpg", pictures.camera(), "image/jpeg")})
    assert accepted.is_valid(), accepted.errors
    assert accepted.save().width == 400


def test_full_clean_refuses_too():
    with pytest.raises(ValidationError) as caught:
        Photo(file=ContentFile(pictures.bomb(), name="b.png"), album="a").full_clean()
    assert caught.value.error_dict["file"][0].code == "refused_pixels"


def test_another_file_changes_the_columns_even_when_it_alone_is_saved():
    photo = upload(pictures.camera())
    first = photo.stored_at
    photo.file = ContentFile(pictures.alpha_png(), name="b.png")
    photo.save(update_fields=["file"])
    photo.refresh_from_db()
    assert (photo.width, photo.height, photo.format) == (200, 200, "png")
    assert photo.stored_at > first


def test_a_model_without_a_profile_takes_that_of_the_options():
    from koan_django.media.files import MediaField

    class Bare(Photo):
        class Meta:
            proxy = True
            app_label = "media_tests"

    field = Bare._meta.get_field("file")
    assert isinstance(field, MediaField)
    from koan_django.storage.binding import Binding

    Bare._storage_binding = Binding()
    with override_koan(MEDIA={"PROFILE": "cold"}):
        assert field.profile_for_new(Bare()) == "cold"
    assert field.profile_for_new(Bare()) == "hot"


def test_the_async_twin_refuses_and_stores():
    async def both():
        with pytest.raises(RefusedError):
            await Photo.objects.aupload(io.BytesIO(b"text"), name="a.jpg")
        return await Photo.objects.aupload(io.BytesIO(pictures.camera()), name="a.jpg")

    assert async_to_sync(both)().width == 400


def test_a_stored_file_is_adopted_after_inspection():
    document = Invoice.objects.create_bytes("scan.bin", pictures.camera(6), number="1")
    photo = Photo.objects.adopt(document, original_name="named by hand.jpg")
    photo.refresh_from_db()
    assert (photo.sha256, photo.size, photo.content_type) == (document.sha256, document.size, "image/jpeg")
    assert (photo.width, photo.height, photo.format) == (400, 300, "jpeg")
    assert photo.original_name == "named by hand.jpg"
    assert photo.key != document.key
    assert photo.read_bytes() == document.read_bytes()
    assert not Tombstone.objects.exists()


def test_what_is_no_picture_is_not_adopted_and_nothing_is_copied():
    document = Invoice.objects.create_bytes("letter.jpg", b"Dear reader, this is no picture.", number="1")
    before = objects()
    with pytest.raises(RefusedError) as refusal:
        async_to_sync(Photo.objects.aadopt)(document)
    assert refusal.value.stage == "magic"
    assert not Photo.objects.exists()
    assert not Tombstone.objects.exists()
    assert objects() == before
