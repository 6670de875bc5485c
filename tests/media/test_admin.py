from __future__ import annotations

import io

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from koan_django.core import overview
from koan_django.media import RefusedError
from koan_django.media.models import Derivation
from tests.media import pictures
from tests.media.testapp.models import Photo

pytestmark = [pytest.mark.django_db(transaction=True)]

CHANGELIST = "/admin/koan_media/derivation/"


@pytest.fixture
def photo():
    made = Photo.objects.upload(io.BytesIO(pictures.camera()), name="<b>IMG</b>.jpg", album="a")
    made.derive("thumbnail", "card")
    return made


@pytest.fixture
def refused():
    content = pictures.saved(pictures.noise(), "JPEG")
    made = Photo.objects.upload(io.BytesIO(content[:20_000]), name="broken.jpg", album="a")
    with pytest.raises(RefusedError):
        made.derive("web")
    return made


def login(*permissions: str) -> Client:
    user = User.objects.create_user("-".join(permissions) or "nobody", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def reprocess(client: Client, record: Derivation, **more: str):
    data = {"action": "reprocess", "_selected_action": str(record.pk), **more}
    return client.post(CHANGELIST, data, follow=True)


def test_derivations_are_listed_found_and_shown(photo, refused):
    client = login("view_derivation")
    page = client.get(CHANGELIST, {"state__exact": "failed"}).content.decode()
    assert "web" in page
    assert "decode" in page
    assert "1 derivation" in page
    found = client.get(CHANGELIST, {"q": refused.derivations().get().key})
    assert found.context["cl"].result_count == 1
    shown = client.get(f"{CHANGELIST}{refused.derivations().get().pk}/change/")
    assert "ends early or is damaged" in shown.content.decode()
    assert client.get(f"{CHANGELIST}add/").status_code == 403


def test_who_may_only_view_can_render_nothing_again(photo):
    record = photo.derivations().first()
    page = reprocess(login("view_derivation"), record, confirmed="yes")
    assert "reprocess" not in page.content.decode()
    record.refresh_from_db()
    assert record.state == "ready"
    assert not LogEntry.objects.exists()


def test_rendering_again_asks_first_and_leaves_a_log_entry(photo):
    client, record = login("view_derivation", "reprocess_derivation"), photo.derivations().get(recipe="card")
    asked = reprocess(client, record)
    assert str(record) in asked.content.decode()
    assert Photo.objects.filter(pk=record.output_pk).exists()
    reprocess(client, record, confirmed="yes")
    record.refresh_from_db()
    assert record.state == "ready"
    assert not Photo.objects.filter(pk__lt=int(record.output_pk), relationship="card").exists()
    assert LogEntry.objects.get().object_id == str(record.pk)


def test_a_failed_one_is_tried_again(refused):
    client, record = login("view_derivation", "reprocess_derivation"), refused.derivations().get()
    reprocess(client, record, confirmed="yes")
    record.refresh_from_db()
    assert (record.state, record.stage, record.attempts) == ("failed", "decode", 1)


def test_pictures_are_shown_with_preview_lineage_and_derivations(photo, django_assert_max_num_queries):
    client = login("view_photo", "view_derivation")
    with django_assert_max_num_queries(12):
        page = client.get("/admin/media_tests/photo/").content.decode()
    assert photo.variants["thumbnail"].address in page
    assert "<b>IMG</b>" not in page
    page = client.get(f"/admin/media_tests/photo/{photo.pk}/change/").content.decode()
    for variant in photo.variants.values():
        assert f"/admin/media_tests/photo/{variant.pk}/change/" in page
    assert "card: ready, thumbnail: ready" in page
    link = f"{CHANGELIST}?asset={photo._meta.label_lower}&amp;source_pk={photo.pk}"
    assert link in page
    assert client.get(link.replace("&amp;", "&")).context["cl"].result_count == 2
    page = client.get(f"/admin/media_tests/photo/{photo.variants['card'].pk}/change/").content.decode()
    assert f"/admin/media_tests/photo/{photo.pk}/change/" in page
    assert "<script>" not in page.replace(" ", "")
    assert "style=" not in page.split('id="content"')[1].split('id="footer"')[0]


def test_a_picture_is_uploaded_in_the_admin_and_a_text_refused():
    client = login("view_photo", "add_photo")
    url = reverse("admin:media_tests_photo_add")
    named = io.BytesIO(b"this is no picture")
    named.name = "a.jpg"
    page = client.post(url, {"album": "a", "file": named})
    assert "not a picture" in page.content.decode()
    named = io.BytesIO(pictures.camera())
    named.name = "a.jpg"
    client.post(url, {"album": "a", "slug": "a", "file": named})
    assert Photo.objects.get().width == 400


def test_the_overview_counts_and_says_what_failed_last(photo, refused):
    lines = {line.label: line for line in overview.panels["koan_media.derivations"].lines()}
    assert (lines["ready"].value, lines["failed"].value) == ("2", "1")
    assert lines["failed"].status == "degraded"
    assert "damaged" in lines["last failure"].value
    client = login("view_overview", "view_derivation")
    page = client.get(reverse("admin:koan_core_overview_changelist")).content.decode()
    assert "Media" in page
    for line in lines.values():
        if line.url:
            assert client.get(line.url).status_code == 200
