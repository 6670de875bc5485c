"""Variants: rendered once, whoever asks, whoever dies."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.core.files.base import ContentFile
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from koan_django.core import dispatch
from koan_django.media import (
    DerivationBusyError,
    DerivationFailedError,
    RecipeNotFoundError,
    RefusedError,
    SourceChangedError,
    SourceDamagedError,
    SourceGoneError,
    backlog,
    deriving,
    publishing,
    requesting,
)
from koan_django.media.claiming import claim
from koan_django.media.models import Derivation
from koan_django.media.signals import derivation_failed, variant_ready
from koan_django.storage import deletion, operations, profiles
from koan_django.storage.drivers.base import walk
from koan_django.storage.models import Tombstone
from koan_django.testing import override_koan
from tests.media import pictures
from tests.media.testapp.models import Photo

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

NAMES = ("thumbnail", "card", "web")


class Elsewhere:
    """A dispatcher whose jobs run when the test says so, as those of a worker do."""

    def __init__(self):
        self.sent = []

    def send(self, job, args, kwargs, context):
        self.sent.append((job, args))

    def run(self):
        sent, self.sent = self.sent, []
        for job, args in sent:
            job(*args)

    def of(self, name):
        return [args for job, args in self.sent if job.name == name]


@pytest.fixture
def worker():
    elsewhere = Elsewhere()
    before = dispatch.use(elsewhere)
    yield elsewhere
    dispatch.use(before)


@pytest.fixture
def photo():
    return upload()


def upload(content: bytes | None = None, **fields) -> Photo:
    return Photo.objects.upload(io.BytesIO(content or pictures.camera(6)), name="IMG 1 (a).jpg", **fields)


def objects() -> set[str]:
    found = profiles["hot"]
    return {stat.key for stat in walk(found.driver, "hot/photos/")}


def keys() -> set[str]:
    return {f"hot/{key}" for key in Photo.objects.values_list("file", flat=True)}


@pytest.fixture(autouse=True)
def _no_bytes_without_a_row():
    """After whatever a test did, every object has a row or a tombstone, and every row an object."""
    before = objects()
    yield
    buried = {f"hot/{key}" for key in Tombstone.objects.values_list("key", flat=True)}
    assert objects() - before <= keys() | buried
    assert keys() <= objects()


def test_a_family_is_rendered_from_one_decoding(photo, decodes):
    made = photo.derive(*NAMES)
    assert list(made) == list(NAMES)
    assert [(row.width, row.height) for row in made.values()] == [(64, 48), (160, 120), (320, 240)]
    assert len(decodes) == 1
    for name, row in made.items():
        assert name in row.key
        assert row.key.endswith(".webp")
        assert (row.source, row.relationship, row.content_type) == (photo, name, "image/webp")
        assert row.original_name == f"IMG 1 (a)-{name}.webp"
        assert pictures.opened(row.read_bytes()).size == (row.width, row.height)


def test_what_is_there_is_not_rendered_again(photo, decodes, storage_calls):
    first = photo.derive(*NAMES)
    decodes.events.clear()
    storage_calls.events.clear()
    with CaptureQueriesContext(connection) as queries:
        again = photo.derive(*NAMES)
    assert {name: row.pk for name, row in again.items()} == {name: row.pk for name, row in first.items()}
    assert not decodes.events
    assert not storage_calls.events
    assert len(queries) == 1


def test_the_record_says_what_happened(photo):
    row = photo.derive("thumbnail")["thumbnail"]
    record = photo.derivations().get()
    assert (record.state, record.attempts, record.recipe, record.version) == ("ready", 1, "thumbnail", 1)
    assert (record.output_pk, record.size, record.width, record.height) == (str(row.pk), row.size, 64, 48)
    assert record.queued_at <= record.started_at <= record.finished_at
    assert record.duration_ms is not None
    assert record.lease_until is None
    assert not Tombstone.objects.exists()


def test_a_variant_takes_over_what_the_model_adds_and_nothing_unique():
    photo = upload(title="Summer", album="2026", slug="summer")
    row = photo.derive("thumbnail")["thumbnail"]
    assert (row.title, row.album, row.slug) == ("Summer", "2026", None)


def test_another_recipe_version_or_content_is_another_variant(photo):
    key = photo.derive("thumbnail")["thumbnail"].derivation_key
    other = upload(pictures.camera(1))
    assert other.derive("thumbnail")["thumbnail"].derivation_key != key
    twin = upload()
    assert twin.derive("thumbnail")["thumbnail"].derivation_key == key
    assert Photo.objects.made().count() == 3


def test_asking_renders_nothing_where_there_is_a_worker(photo, worker, decodes, storage_calls):
    storage_calls.events.clear()
    assert photo.ensure_derivation("thumbnail") is None
    assert photo.ensure_derivation("thumbnail") is None
    assert photo.ensure_derivation("card") is None
    assert not decodes.events
    assert not storage_calls.events
    assert len(worker.of("koan_media.derive")) == 2
    worker.run()
    assert len(decodes) == 1, "the first job renders what the second was sent for"
    with CaptureQueriesContext(connection) as queries:
        assert photo.ensure_derivation("thumbnail").width == 64
    assert len(queries) == 1


def test_asking_renders_at_once_where_there_is_no_worker(photo):
    assert photo.ensure_derivation("thumbnail").width == 64


def test_asking_inside_a_transaction_waits_for_the_commit(photo, decodes):
    with transaction.atomic():
        assert photo.ensure_derivation("thumbnail") is None
        assert not decodes.events
    assert photo.ensure_derivation("thumbnail").width == 64


def test_a_rollback_takes_the_question_back(photo, worker):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        photo.ensure_derivation("thumbnail")
        raise ZeroDivisionError
    assert not worker.sent
    assert not Derivation.objects.exists()


def test_the_async_twins(photo):
    async def ask():
        made = await photo.aderive("card")
        return made["card"].width, (await photo.aensure_derivation("card")).width

    assert async_to_sync(ask)() == (160, 160)


def test_a_recipe_nobody_knows(photo):
    with pytest.raises(RecipeNotFoundError):
        photo.ensure_derivation("thumbnial")
    with pytest.raises(RecipeNotFoundError):
        photo.derive("thumbnail", "thumbnial")
    assert not Derivation.objects.exists()


def in_threads(count, work):
    start, results = threading.Barrier(count), []

    def run():
        try:
            start.wait(10)
            results.append(work())
        except BaseException as error:
            results.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_threads_that_race_render_once(photo, decodes):
    results = in_threads(
        6, lambda: {name: row.pk for name, row in Photo.objects.get(pk=photo.pk).derive(*NAMES).items()}
    )
    assert all(isinstance(result, dict) for result in results), results
    assert len({tuple(sorted(result.items())) for result in results}) == 1
    assert Photo.objects.made().count() == 3
    # The first takes the turn at each variant; those it takes in one go are decoded once.
    assert len(decodes) <= 3
    assert sum(Derivation.objects.values_list("attempts", flat=True)) == 3


def test_requests_that_race_send_and_render_once(photo, decodes):
    results = in_threads(6, lambda: Photo.objects.get(pk=photo.pk).ensure_derivation("thumbnail"))
    assert not [result for result in results if isinstance(result, BaseException)]
    assert len(decodes) == 1
    assert Photo.objects.made().count() == 1


def held(photo, *names):
    """Take the turns at ``names`` as another renderer would."""
    recipes = {requesting.key_of(photo, recipe): recipe for recipe in map(requesting.catalogue.get, names)}
    records = photo.derivations()
    records.request(photo, recipes, grace=timedelta(0))
    return claim(photo, records, recipes)


def test_who_comes_second_waits_and_then_says_who_is_at_it(photo, decodes):
    (other,) = held(photo, "thumbnail")
    with pytest.raises(DerivationBusyError):
        photo.derive("thumbnail", "card", wait=timedelta(seconds=0.1))
    assert set(photo.variants) == {"card"}
    other.held.release()
    assert photo.derive("thumbnail")["thumbnail"].width == 64


def test_a_dead_renderers_claim_is_taken_over_when_its_lease_ends(photo):
    with override_koan(MEDIA={"LEASE": "1s"}):
        held(photo, "thumbnail")
        began = time.monotonic()
        row = photo.derive("thumbnail", wait=timedelta(seconds=20))["thumbnail"]
    assert time.monotonic() - began > 0.5
    assert row.width == 64
    assert photo.derivations().get().attempts == 2


def expire(claimed):
    Derivation.objects.filter(pk=claimed.held.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def rendered(photo, claims):
    from koan_django.media.rendering import render_family

    return render_family(io.BytesIO(photo.read_bytes()), [claimed.recipe for claimed in claims])


def test_a_renderer_that_lost_its_claim_publishes_nothing_and_leaves_nothing(photo):
    """It was paused, woke up, and somebody else is at it."""
    (slow,) = held(photo, "thumbnail")
    (rendition,) = rendered(photo, [slow])
    expire(slow)
    (quick,) = held(photo, "thumbnail")
    before = objects()
    assert publishing.publish(photo, slow, rendition, 1) is None
    assert objects() == before
    assert publishing.publish(photo, quick, rendition, 1) is not None
    assert Photo.objects.made().count() == 1


def test_a_renderer_that_loses_its_claim_while_it_writes_takes_its_bytes_back(photo, monkeypatch):
    (slow,) = held(photo, "thumbnail")
    (rendition,) = rendered(photo, [slow])
    before = objects()
    put = operations.put

    def interrupted(*args, **options):
        stored = put(*args, **options)
        monkeypatch.undo()
        expire(slow)
        winner.append(photo.derive("thumbnail")["thumbnail"])
        return stored

    winner: list[Photo] = []
    monkeypatch.setattr(operations, "put", interrupted)
    assert publishing.publish(photo, slow, rendition, 1) in (None, *winner)
    assert Photo.objects.made().get() == winner[0]
    assert objects() - before == {f"hot/{winner[0].key}"}


def test_bytes_of_a_renderer_that_died_before_its_row_are_removed_by_the_next(photo, monkeypatch):
    before = objects()

    class Killed(BaseException):
        pass

    def die(*args, **options):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "_commit", die)
        patch.setattr(publishing, "_take_back", lambda reserved: None)
        patch.setattr(deriving, "conclude", lambda *args: None)
        with pytest.raises(Killed):
            photo.derive("thumbnail")
    (left,) = objects() - before
    Derivation.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    photo.derive("thumbnail")
    assert left not in objects()
    assert len(objects() - before) == 1
    assert Photo.objects.made().count() == 1


RENDERER = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
django.setup()
from django.conf import settings
from django.db import connections
connections.databases["default"]["NAME"] = sys.argv[2]
settings.DATABASES["default"]["NAME"] = sys.argv[2]
settings.MEDIA_ROOT = sys.argv[3]
from koan_django.media import publishing
from koan_django.testing import override_koan
from tests.media.testapp.models import Photo
where = sys.argv[4]

def stop(*args, **options):
    print("here", flush=True)
    import time
    time.sleep(600)

put = publishing.operations.put
if where == "before":
    publishing.operations.put = stop
else:
    publishing._commit = stop
with override_koan(MEDIA={"LEASE": "2s"}):
    Photo.objects.get(pk=sys.argv[1]).derive("thumbnail", "card", "web")
"""


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_killed_renderer_costs_nothing_but_time(photo, where, settings):
    """kill -9 before the bytes are written, or between the bytes and the row: nothing lost, nothing twice."""
    before = objects()
    database = str(connection.settings_dict["NAME"])
    argv = [sys.executable, "-c", RENDERER, str(photo.pk), database, str(settings.MEDIA_ROOT), where]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as renderer:
        assert renderer.stdout is not None
        assert renderer.stdout.readline().strip() == "here"
        os.kill(renderer.pid, signal.SIGKILL)
    made = photo.derive(*NAMES, wait=timedelta(seconds=30))
    assert len(made) == 3
    assert Photo.objects.made().count() == 3
    assert objects() - before == {f"hot/{row.key}" for row in made.values()}
    assert sorted(photo.derivations().values_list("attempts", flat=True)) == [2, 2, 2]


def test_a_long_rendering_keeps_its_claim(photo, monkeypatch):
    render = deriving.render_family

    def slowly(*args):
        time.sleep(2.5)
        return render(*args)

    monkeypatch.setattr(deriving, "render_family", slowly)
    with override_koan(MEDIA={"LEASE": "1s"}):
        results = in_threads(2, lambda: Photo.objects.get(pk=photo.pk).derive("thumbnail")["thumbnail"].pk)
    assert len(set(results)) == 1, results
    assert photo.derivations().get().attempts == 1


def damaged() -> bytes:
    content = pictures.saved(pictures.noise(), "JPEG")
    return content[: len(content) // 2]


def test_a_damaged_picture_is_refused_for_good(decodes):
    photo = upload(damaged())
    with pytest.raises(RefusedError) as caught:
        photo.derive(*NAMES)
    assert caught.value.stage == "decode"
    records = photo.derivations()
    assert {(record.state, record.stage) for record in records} == {("failed", "decode")}
    assert all(caught.value.reason == record.reason for record in records)
    with pytest.raises(RefusedError) as again:
        photo.derive(*NAMES)
    assert (again.value.stage, again.value.reason) == ("decode", caught.value.reason)
    assert len(decodes) == 1, "what was refused is not decoded again"
    assert photo.ensure_derivation("thumbnail") is None


def test_a_recipe_beyond_a_limit_fails_and_leaves_the_others_alone(photo):
    with override_koan(MEDIA={"MAX_QUALITY": 90}), pytest.raises(DerivationFailedError, match="quality 95"):
        photo.derive("too-fine", "thumbnail")
    assert set(photo.variants) == {"thumbnail"}


def test_a_store_that_is_away_is_tried_again(photo, monkeypatch):
    from koan_django.storage import StorageUnavailableError

    def away(*args, **options):
        raise StorageUnavailableError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(operations, "put", away)
        with pytest.raises(StorageUnavailableError):
            photo.derive("thumbnail")
    record = photo.derivations().get()
    assert (record.state, record.attempts) == ("pending", 1)
    assert "away" in record.reason
    assert record.not_before > timezone.now()
    assert photo.derive("thumbnail")["thumbnail"].width == 64
    assert photo.derivations().get().reason == ""


def test_an_error_nobody_foresaw_is_tried_again_until_the_attempts_are_used_up(photo, monkeypatch):
    def broken(*args):
        raise ConnectionResetError("by peer")

    with monkeypatch.context() as patch, override_koan(MEDIA={"RETRY": {"MAX_ATTEMPTS": 2}}):
        patch.setattr(deriving, "render_family", broken)
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                photo.derive("thumbnail")
        with pytest.raises(DerivationFailedError, match="by peer"):
            photo.derive("thumbnail")
    requesting.again(photo.derivations().get())
    assert photo.derive("thumbnail")["thumbnail"].width == 64


def test_a_time_limit_says_nothing_against_the_picture(photo, monkeypatch):
    from PIL import JpegImagePlugin

    class SoftTimeLimitExceeded(Exception):
        pass

    def load(self):
        raise SoftTimeLimitExceeded

    with monkeypatch.context() as patch:
        patch.setattr(JpegImagePlugin.JpegImageFile, "load", load)
        with pytest.raises(SoftTimeLimitExceeded):
            photo.derive("thumbnail")
    assert photo.derivations().get().state == "pending"


def test_bytes_that_changed_on_the_store_are_not_rendered(photo):
    driver = profiles["hot"].driver
    driver.put(f"hot/{photo.key}", io.BytesIO(pictures.camera(1)), overwrite=True)
    with pytest.raises(SourceDamagedError):
        photo.derive("thumbnail")
    assert photo.derivations().get().state == "failed"


def test_a_variant_that_was_deleted_is_rendered_again(photo, worker):
    photo.derive("thumbnail")["thumbnail"].delete()
    worker.run()
    assert photo.ensure_derivation("thumbnail") is None
    worker.run()
    assert photo.ensure_derivation("thumbnail").width == 64
    photo.derive("thumbnail")["thumbnail"].delete()
    assert photo.derive("thumbnail")["thumbnail"].width == 64
    assert photo.derivations().get().attempts == 1


def test_deleting_the_source_takes_everything_with_it(photo):
    photo.derive(*NAMES)
    before = keys()
    photo.delete()
    assert not Photo.objects.exists()
    assert not objects() & before


def test_a_source_that_is_deleted_meanwhile_leaves_no_bytes(photo, monkeypatch):
    before = objects()
    put = operations.put

    def interrupted(*args, **options):
        Photo.objects.get(pk=photo.pk).delete()
        return put(*args, **options)

    monkeypatch.setattr(operations, "put", interrupted)
    with pytest.raises(SourceGoneError):
        photo.derive("thumbnail")
    assert f"hot/{photo.key}" not in objects()
    assert not objects() - before


def test_the_sweep_sends_what_nobody_came_for(photo, worker):
    photo.ensure_derivation("thumbnail")
    worker.sent.clear()
    backlog.send_due()
    assert not worker.sent, "its job has just been sent"
    Derivation.objects.update(not_before=timezone.now() - timedelta(seconds=1))
    backlog.send_due()
    backlog.send_due()
    assert len(worker.of("koan_media.derive")) == 1
    worker.run()
    assert photo.ensure_derivation("thumbnail").width == 64


def test_the_sweep_sends_what_a_dead_renderer_left(photo, worker):
    (dead,) = held(photo, "thumbnail")
    backlog.send_due()
    assert not worker.sent
    expire(dead)
    backlog.send_due()
    worker.run()
    assert photo.variants["thumbnail"].width == 64


def test_a_job_for_a_recipe_or_a_picture_that_is_gone(photo, worker):
    photo.ensure_derivation("thumbnail")
    photo.ensure_derivation("card")
    Derivation.objects.filter(recipe="card").update(recipe="cart")
    Photo.objects.filter(pk=photo.pk).update(sha256="0" * 64)
    worker.run()
    states = dict(Derivation.objects.values_list("recipe", "reason"))
    assert "no recipe 'cart@1'" in states["cart"]
    assert "has changed" in states["thumbnail"]
    gone = upload()
    gone.ensure_derivation("thumbnail")
    pk = str(gone.pk)
    gone.delete()
    worker.run()
    assert not Derivation.objects.filter(source_pk=pk).exists()


def test_the_signals_are_sent_after_the_commit_and_a_receiver_fails_alone(photo):
    ready, failed = [], []

    def on_ready(sender, source, variant, recipe, **_):
        ready.append((sender, source, variant.relationship, recipe.name, connection.in_atomic_block))
        raise RuntimeError("a receiver")

    def on_failed(sender, source, recipe, stage, reason, **_):
        failed.append((source.pk, recipe.name, stage))

    variant_ready.connect(on_ready)
    derivation_failed.connect(on_failed)
    try:
        photo.derive("thumbnail")
        assert ready == [(Photo, photo, "thumbnail", "thumbnail", False)]
        bad = upload(damaged())
        with pytest.raises(RefusedError):
            bad.derive("card")
        assert failed == [(bad.pk, "card", "decode")]
    finally:
        variant_ready.disconnect(on_ready)
        derivation_failed.disconnect(on_failed)


def test_lineage(photo):
    thumbnail = photo.derive("web")["web"]
    smaller = thumbnail.derive("thumbnail")["thumbnail"]
    other = upload()
    with CaptureQueriesContext(connection) as queries:
        assert smaller.ancestors() == [thumbnail, photo]
    assert len(queries) == 2
    assert set(photo.descendants()) == {thumbnail, smaller}
    assert photo.descendants().filter(relationship="web").get() == thumbnail
    assert photo.ancestors() == []
    assert not other.descendants().exists()
    assert set(Photo.objects.originals()) == {photo, other}


def test_a_list_of_pictures_costs_two_queries_and_no_storage(photo, storage_calls):
    for one in (photo, upload(), upload()):
        one.derive("thumbnail", "card")
    storage_calls.events.clear()
    with CaptureQueriesContext(connection) as queries:
        for one in Photo.objects.originals().prefetch_related("derivatives"):
            assert set(one.variants) == {"thumbnail", "card"}
            assert one.ensure_derivation("card").address
            assert one.variant_address("web")
    assert len(queries) == 2
    assert not storage_calls.events


def test_a_new_version_is_a_new_variant_and_the_current_one(photo):
    from koan_django.media.catalogue import catalogue
    from koan_django.media.recipes import recipe

    old = photo.derive("thumbnail")["thumbnail"]
    second = recipe("thumbnail", version=2).resize(20).encode("webp")
    try:
        assert photo.derive("thumbnail")["thumbnail"].width == 20
        assert photo.variants["thumbnail"].width == 20
        assert Photo.objects.filter(pk=old.pk).exists()
    finally:
        catalogue.remove(second)
    assert Photo.objects.get(pk=photo.pk).variants["thumbnail"] == old


def test_correlation_is_kept(photo):
    from koan_django.core.context import correlation

    with correlation.use("request-1"):
        photo.derive("thumbnail")
    assert photo.derivations().get().correlation_id == "request-1"


def test_again_replaces_what_is_there(photo, worker):
    old = photo.derive("thumbnail")["thumbnail"]
    requesting.again(photo.derivations().get())
    with pytest.raises(DerivationBusyError):
        requesting.again(photo.derivations().get())
    worker.run()
    new = photo.ensure_derivation("thumbnail")
    assert new.pk != old.pk
    assert deletion.purge_due() == 0
    assert f"hot/{old.key}" not in objects()


def test_another_file_takes_the_variants_of_the_old_one_with_it(photo):
    old = photo.derive(*NAMES)
    photo.file = ContentFile(pictures.camera(1, 200, 200), name="cropped.jpg")
    photo.save()
    assert not Photo.objects.made().exists()
    assert not {f"hot/{row.key}" for row in old.values()} & objects()
    assert photo.derive("web")["web"].width == 200
    photo.title = "another title"
    photo.save()
    assert set(Photo.objects.get(pk=photo.pk).variants) == {"web"}


def test_a_picture_that_is_given_another_file_meanwhile_gets_no_variant_of_the_old_one(photo, monkeypatch):
    put, stale = operations.put, Photo.objects.get(pk=photo.pk)

    def interrupted(*args, **options):
        monkeypatch.undo()
        photo.file = ContentFile(pictures.camera(1, 200, 200), name="cropped.jpg")
        photo.save()
        return put(*args, **options)

    monkeypatch.setattr(operations, "put", interrupted)
    with pytest.raises(SourceChangedError):
        stale.derive("web")
    assert not Photo.objects.made().exists()
    assert photo.derive("web")["web"].width == 200


def test_a_proxy_shares_the_records_of_its_model(photo, decodes):
    class Favourite(Photo):
        class Meta:
            proxy = True
            app_label = "media_tests"

    favourite = Favourite.objects.get(pk=photo.pk)
    made = favourite.derive("thumbnail")["thumbnail"]
    assert isinstance(made, Favourite)
    assert photo.derive("thumbnail")["thumbnail"].pk == made.pk
    assert photo.derivations().get().asset == "media_tests.photo"
    assert len(decodes) == 1
