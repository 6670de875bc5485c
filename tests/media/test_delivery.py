"""Delivery over HTTP; conditions and ranges are in ``test_rfc9110.py``."""

from __future__ import annotations

import io
import uuid

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client, RequestFactory
from django.utils.http import parse_http_date

from koan_django.core import dispatch
from koan_django.media.views import MediaView
from koan_django.testing import override_koan
from tests.media import pictures
from tests.media.testapp.models import Photo

pytestmark = [pytest.mark.django_db(transaction=True)]

CONTENT = pictures.camera(6)


@pytest.fixture
def photo():
    return Photo.objects.upload(io.BytesIO(CONTENT), name="IMG 1.jpg")


@pytest.fixture
def staff():
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_photo"))
    client = Client()
    client.force_login(user)
    return client


def body(response) -> bytes:
    return b"".join(response.streaming_content) if response.streaming else response.content


def test_a_picture_is_served_with_what_keeps_it_harmless(photo, staff):
    response = staff.get(photo.address)
    assert response.status_code == 200
    assert body(response) == CONTENT
    assert response["Content-Type"] == "image/jpeg"
    assert response["Content-Length"] == str(len(CONTENT))
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert response["ETag"] == f'"sha256-{photo.sha256}"'
    assert response["Content-Disposition"] == 'inline; filename="IMG 1.jpg"'
    response.close()
    assert response["Cache-Control"] == "private, max-age=31536000, immutable"
    assert parse_http_date(response["Last-Modified"]) == int(photo.stored_at.timestamp())


def test_an_address_of_other_content_is_not_kept_for_ever(photo, staff):
    old = photo.address.replace(photo.sha256[:16], "0" * 16)
    response = staff.get(old)
    assert response["Cache-Control"] == "private, max-age=3600"
    response.close()
    with override_koan(MEDIA={"CACHE": "5m"}):
        response = staff.get(old)
    assert response["Cache-Control"] == "private, max-age=300"
    response.close()


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_nothing_else_is_allowed(photo, staff, method):
    assert getattr(staff, method)(photo.address).status_code == 405


@pytest.mark.parametrize(
    ("name", "disposition"),
    [
        ('a"b.jpg', 'inline; filename="a\\"b.jpg"'),
        ("фото.jpg", "inline; filename*=utf-8''%D1%84%D0%BE%D1%82%D0%BE.jpg"),
        ("page.html", 'inline; filename="page.jpg"'),
        ("a\u202egpj.exe", 'inline; filename="agpj.jpg"'),
        ("x\r\nSet-Cookie: a=b.jpg", 'inline; filename="xSet-Cookie: a=b.jpg"'),
    ],
)
def test_names_are_safe_in_a_header(staff, name, disposition):
    photo = Photo.objects.upload(io.BytesIO(CONTENT), name=name)
    response = staff.get(photo.address)
    assert response["Content-Disposition"] == disposition
    response.close()


def test_a_download_is_an_attachment(photo, staff):
    response = staff.get(photo.address + "?download")
    assert response["Content-Disposition"].startswith("attachment")
    response.close()


def test_what_is_no_known_picture_is_never_shown(photo, staff):
    Photo.objects.update(format="", content_type="text/html", original_name="x.html")
    response = staff.get(photo.address)
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"] == 'attachment; filename="x.html"'
    response.close()


def test_who_may_not_see_it_does_not_learn_whether_it_is_there(photo, django_assert_num_queries):
    unknown = photo.address.replace(str(photo.public_id), str(uuid.uuid4()))
    with django_assert_num_queries(0):
        assert Client().get(photo.address).status_code == 403
        assert Client().get(unknown).status_code == 403
    plain = Client()
    plain.force_login(User.objects.create_user("plain"))
    assert plain.get(photo.address).status_code == 403
    without = Client()
    without.force_login(User.objects.create_user("without", is_staff=True))
    assert without.get(photo.address).status_code == 403


def test_what_is_not_there(photo, staff):
    assert staff.get(photo.address.replace(str(photo.public_id), str(uuid.uuid4()))).status_code == 404
    assert staff.get(photo.address.replace("media_tests.photo", "auth.user")).status_code == 403
    assert staff.get(photo.address.replace("media_tests.photo", "no.such")).status_code == 403
    assert staff.get(photo.address.replace("media_tests.photo", "nonsense")).status_code == 403


def test_bytes_that_are_gone_are_not_found(photo, staff):
    from koan_django.storage import profiles

    profiles["hot"].driver.delete(f"hot/{photo.key}")
    assert staff.get(photo.address).status_code == 404


def test_a_project_opens_its_own_view(photo):
    class Open(MediaView):
        model = Photo
        public = True

    class Closed(MediaView):
        model = Photo

        def has_permission(self, request, model):
            return request.headers.get("X-Key") == "open"

    answer = Open.as_view()(RequestFactory().get("/"), public_id=photo.public_id)
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "public, max-age=3600"
    answer.close()
    answer = Closed.as_view()(RequestFactory().get("/", headers={"X-Key": "open"}), public_id=photo.public_id)
    assert answer.status_code == 200
    answer.close()


def test_a_variant_is_rendered_on_demand_and_then_kept_for_ever(photo, staff):
    response = staff.get(photo.variant_address("thumbnail"))
    assert response.status_code == 200
    assert pictures.opened(body(response)).size == (64, 48)
    assert response["Content-Type"] == "image/webp"
    assert "immutable" in response["Cache-Control"]
    assert response["ETag"] != f'"sha256-{photo.sha256}"'


def test_a_variant_that_is_being_rendered_is_202(photo, staff):
    class Nowhere:
        def send(self, *args):
            pass

    before = dispatch.use(Nowhere())
    try:
        response = staff.get(photo.variant_address("thumbnail"))
    finally:
        dispatch.use(before)
    assert response.status_code == 202
    assert response["Cache-Control"] == "no-store"
    assert int(response["Retry-After"]) > 0


def test_a_variant_that_cannot_be(photo, staff):
    assert staff.get(photo.variant_address("thumbnail").replace("/thumbnail/", "/no-such/")).status_code == 404
    content = pictures.saved(pictures.noise(), "JPEG")
    bad = Photo.objects.upload(io.BytesIO(content[: len(content) // 2]), name="bad.jpg")
    assert staff.get(bad.variant_address("thumbnail")).status_code == 404


def test_an_address_is_computed_without_asking_anybody(photo, django_assert_num_queries, storage_calls):
    storage_calls.events.clear()
    with django_assert_num_queries(0):
        assert photo.address.endswith("/img-1.jpg")
        assert photo.variant_address("thumbnail").endswith("/img-1.webp")
    assert not storage_calls.events


def test_variants_of_variants_are_not_rendered_by_request(photo, staff):
    made = photo.derive("web")["web"]
    assert staff.get(made.variant_address("thumbnail")).status_code == 404
    response = staff.get(made.address)
    assert response.status_code == 200
    response.close()
