"""Sealing and verifying: every later change is found, whatever it is; what commits late is sealed late."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, models, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koan_django.core import audit
from koan_django.core.audit import sealing
from koan_django.core.audit.canonical import COLUMNS, seal_hash
from koan_django.core.audit.forgetting import forget_old
from koan_django.core.audit.keys import key_ring
from koan_django.core.audit.sealing import LEASE, seal
from koan_django.core.audit.verifying import Head, verify
from koan_django.core.dispatch import jobs
from koan_django.core.leases import acquire
from koan_django.core.models import AuditEvent, AuditSeal
from koan_django.testing import override_koan

pytestmark = [pytest.mark.database, pytest.mark.django_db]

KEY, OTHER = "k" * 40, "o" * 40
#: Past the guards of the model, as somebody at the database's own prompt is.
raw_events, raw_seals = models.QuerySet(AuditEvent), models.QuerySet(AuditSeal)


def options(**changes: Any) -> Any:
    return override_koan(CORE={"AUDIT": {"BATCH": 5, **changes}})


def make(count: int) -> list[AuditEvent]:
    return AuditEvent.objects.bulk_create(
        [
            AuditEvent(action="x.y", actor="ann", object_type="thing", object_id=str(number), data={"n": number})
            for number in range(count)
        ]
    )


@pytest.fixture
def chain() -> Iterator[list[AuditEvent]]:
    """Twenty-three events under five seals."""
    with options(KEY=KEY):
        events = make(23)
        assert seal().batches == 5
        yield events


class TestSealing:
    def test_every_event_is_covered_once_in_batches(self, chain: list[AuditEvent]) -> None:
        counts = list(AuditSeal.objects.order_by("number").values_list("number", "count"))
        assert counts == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 3)]
        assert not AuditEvent.objects.all().unsealed().exists()
        report = verify()
        assert (report.findings, report.seals, report.events, report.waiting) == ([], 5, 23, 0)

    def test_the_jobs_do_it_by_themselves(self) -> None:
        made = {each.name: each for each in jobs}
        make(3)
        made["koan_core.seal_audit"]()
        made["koan_core.forget_audit"]()
        assert AuditSeal.objects.get().count == 3
        assert made["koan_core.seal_audit"].every == timedelta(minutes=1)

    def test_with_nothing_to_do_it_adds_nothing(self, chain: list[AuditEvent]) -> None:
        head = seal().head
        assert (AuditSeal.objects.count(), head) == (5, verify().head)

    def test_the_cost_of_a_batch_does_not_depend_on_its_size(self, django_assert_num_queries: Any) -> None:
        make(40)
        with options(BATCH=40, KEY=KEY):
            keys, using = key_ring(), "default"
            with django_assert_num_queries(8):  # two savepoints, the events, the head, the seal, the mark
                sealing.seal_batch(keys, using)

    def test_one_that_commits_late_with_a_low_id_is_taken_by_the_next_batch(self) -> None:
        late, *_others = make(7)
        raw_events.filter(pk=late.pk).delete()  # as long as it is not committed nobody sees it
        with options():
            seal()
            AuditEvent.objects.bulk_create([late])
            assert [each.pk for each in AuditEvent.objects.all().unsealed()] == [late.pk]
            seal()
            report = verify()
        assert report.is_intact
        newest = AuditSeal.objects.all().head()
        assert newest is not None
        assert (newest.first_id, newest.last_id, newest.count) == (late.pk, late.pk, 1)

    def test_who_comes_second_leaves_it_to_the_first(self) -> None:
        make(3)
        held = acquire(LEASE, timedelta(minutes=1))
        assert held is not None
        assert seal().busy
        held.release()
        assert seal().events == 3

    def test_a_number_that_another_sealer_took_fails_the_whole_batch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        make(3)
        first = sealing._next

        def slower(*args: Any) -> AuditSeal:
            made = first(*args)
            AuditSeal.objects.create(**{**_values(made), "digest": "0" * 64})
            return made

        monkeypatch.setattr(sealing, "_next", slower)
        with pytest.raises(sealing._TakenError), transaction.atomic():
            sealing.seal_batch(key_ring(), "default")
        assert AuditEvent.objects.all().unsealed().count() == 3

    def test_an_event_that_another_sealer_took_fails_the_whole_batch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        events = make(3)
        first = sealing._next

        def slower(head: Any, rows: Any, keys: Any) -> AuditSeal:
            made = first(head, rows, keys)
            other = AuditSeal.objects.create(**{**_values(made), "number": 99})
            raw_events.filter(pk=events[1].pk).update(seal=other)
            return made

        monkeypatch.setattr(sealing, "_next", slower)
        with pytest.raises(sealing._TakenError), transaction.atomic():
            sealing.seal_batch(key_ring(), "default")
        assert not AuditSeal.objects.exists()

    def test_the_log_hears_of_every_head(self, events: list[Any]) -> None:
        make(3)
        with options():
            head = seal().head
        told = [event.metadata for event in events if event.name == "audit.seal"]
        assert told == [{"head": head, "events": 3}]


def _values(made: AuditSeal) -> dict[str, Any]:
    names = ("number", "previous", "first_id", "last_id", "count", "digest", "hash")
    return {name: getattr(made, name) for name in names}


@pytest.fixture
def events() -> Iterator[list[Any]]:
    from koan_django.core import telemetry

    seen: list[Any] = []
    end = telemetry.subscribe(seen.append)
    yield seen
    end()


COLUMN_CHANGES: dict[str, Callable[[Any], Any]] = {
    "at": lambda at: at + timedelta(microseconds=1),
    "data": lambda data: {**data, "m": 1},
    **{name: (lambda text: f"{text}x") for name in COLUMNS if name not in ("id", "at", "data")},
}
SEAL_COLUMNS = ("number", "previous", "first_id", "last_id", "count", "digest", "sealed_at", "hash", "key_id")
ANY = settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


def findings_after(change: Callable[[], object]) -> list[str]:
    """Make a change at the database, which may heed no foreign key, verify, and take it back."""
    with transaction.atomic():
        with connection.constraint_checks_disabled():
            change()
        found = [finding.text for finding in verify().findings]
        transaction.set_rollback(True)
    return found


class TestVerifying:
    @ANY
    @given(st.integers(0, 22), st.sampled_from(sorted(COLUMN_CHANGES)))
    def test_any_edit_is_found(self, chain: list[AuditEvent], index: int, column: str) -> None:
        pk = chain[index].pk

        def edit() -> None:
            value = raw_events.filter(pk=pk).values_list(column, flat=True).get()
            raw_events.filter(pk=pk).update(**{column: COLUMN_CHANGES[column](value)})

        assert findings_after(edit) == [f"an event was changed or exchanged in {_where(index, chain)}"]

    @ANY
    @given(st.sets(st.integers(0, 22), min_size=1, max_size=4))
    def test_any_deletion_is_found(self, chain: list[AuditEvent], indexes: set[int]) -> None:
        found = findings_after(lambda: raw_events.filter(pk__in=[chain[each].pk for each in indexes]).delete())
        assert len(found) == len({each // 5 for each in indexes})
        assert all("missing of" in text for text in found)

    @ANY
    @given(st.lists(st.integers(0, 22), min_size=2, max_size=2, unique=True))
    def test_any_two_that_change_places_are_found(self, chain: list[AuditEvent], pair: list[int]) -> None:
        one, other = chain[pair[0]].pk, chain[pair[1]].pk

        def swap() -> None:
            raw_events.filter(pk=one).update(id=-1)
            raw_events.filter(pk=other).update(id=one)
            raw_events.filter(pk=-1).update(id=other)

        assert findings_after(swap)

    @ANY
    @given(st.lists(st.integers(0, 22), min_size=2, max_size=2))
    def test_any_two_that_change_their_seals_are_found(self, chain: list[AuditEvent], pair: list[int]) -> None:
        one, other = (AuditEvent.objects.get(pk=chain[index].pk) for index in pair)

        def swap() -> None:
            raw_events.filter(pk=one.pk).update(seal=other.seal)
            raw_events.filter(pk=other.pk).update(seal=one.seal)

        assert bool(findings_after(swap)) == (one.seal != other.seal)

    @ANY
    @given(
        st.integers(1, 5),
        st.sampled_from(
            ["number", "previous", "first_id", "last_id", "count", "digest", "sealed_at", "hash", "key_id"]
        ),
    )
    def test_any_change_of_a_seal_is_found(self, chain: list[AuditEvent], number: int, column: str) -> None:
        def edit() -> None:
            value = raw_seals.filter(number=number).values_list(column, flat=True).get()
            changed = {
                int: lambda: value + 100,
                str: lambda: ("1" if value[:1] != "1" else "2") + value[1:],
            }.get(type(value), lambda: value + timedelta(microseconds=1))()
            raw_seals.filter(number=number).update(**{column: changed})

        assert findings_after(edit)

    @pytest.mark.parametrize("number", [1, 2, 3, 4])
    def test_a_seal_that_is_gone_with_its_events_is_found(self, chain: list[AuditEvent], number: int) -> None:
        def cut() -> None:
            raw_events.filter(seal__number=number).delete()
            raw_seals.filter(number=number).delete()

        assert findings_after(cut)[0] == f"seal {number} is missing"

    def test_an_event_that_is_put_under_a_seal_afterwards_is_found(self, chain: list[AuditEvent]) -> None:
        def add() -> None:
            [forged] = make(1)
            raw_events.filter(pk=forged.pk).update(seal=AuditSeal.objects.get(number=3))

        assert findings_after(add) == [f"1 event was added to {_where(10, chain)}"]

    def test_an_end_that_was_cut_off_is_found_by_whoever_noted_the_head(self, chain: list[AuditEvent]) -> None:
        noted = Head.parse(verify().head)
        raw_events.filter(seal__number=5).delete()
        raw_seals.filter(number=5).delete()
        assert verify().is_intact, "nothing in the chain tells what came after it"
        assert [each.text for each in verify(noted).findings] == ["the chain was cut off: the noted seal 5 is missing"]

    def test_an_end_that_was_sealed_anew_is_found_by_whoever_noted_the_head(self, chain: list[AuditEvent]) -> None:
        noted = Head.parse(verify().head)
        raw_events.filter(seal__number=5).update(seal=None, actor="mallory")
        raw_seals.filter(number=5).delete()
        seal()
        assert verify().is_intact
        assert [each.text for each in verify(noted).findings] == ["seal 5 is not the one that was noted"]

    def test_who_has_the_database_and_not_the_key_cannot_seal_anew(self, chain: list[AuditEvent]) -> None:
        raw_events.filter(pk=chain[0].pk).update(actor="mallory")
        raw_events.update(seal=None)
        raw_seals.all().delete()
        with options(KEY=OTHER):
            seal()
        with options(KEY=KEY):
            assert {each.kind for each in verify().findings} == {"key"}

    def test_nor_by_leaving_the_key_out(self, chain: list[AuditEvent]) -> None:
        raw_events.update(seal=None)
        raw_seals.all().delete()
        with options(KEY=""):
            seal()
        with options(KEY=KEY):
            assert "seal 1 was made without a key" in verify().findings[0].text
            assert verify(unkeyed_through=5).is_intact
            assert not verify(unkeyed_through=4).is_intact

    def test_a_key_may_be_replaced(self, chain: list[AuditEvent]) -> None:
        make(3)
        with options(KEY=OTHER, OLD_KEYS=[KEY]):
            seal()
            assert verify().is_intact
        assert not verify().is_intact, "the new key is not in the options any more"

    def test_an_edit_without_a_key_is_found_too(self) -> None:
        [first, *_] = make(7)
        with options():
            seal()
            raw_events.filter(pk=first.pk).update(actor="mallory")
            assert not verify().is_intact

    def test_it_holds_one_batch_at_a_time(self) -> None:
        make(3000)
        with options(BATCH=30):
            seal()
            verified = peak(lambda: verify().is_intact)
        whole = peak(lambda: list(AuditEvent.objects.values_list(*COLUMNS)))
        assert verified < whole / 5, (verified, whole)


def write(pk: int, data: str) -> None:
    """Put JSON into an event that no code of ours would write."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE koan_core_auditevent SET data = %s WHERE id = %s", [data, pk])


class TestWhatWasWrittenByHand:
    def test_events_under_a_seal_that_does_not_exist_are_found(self, chain: list[AuditEvent]) -> None:
        made: list[AuditEvent] = []
        forged = [AuditEvent(action="x.y", actor="mallory", seal_id=999_999) for _ in range(12)]
        found = findings_after(lambda: made.extend(raw_events.bulk_create(forged)))
        ids = ", ".join(str(each.pk) for each in made[:10])
        assert found == [f"12 events are under a seal that does not exist: {ids}"]

    def test_a_chain_that_lost_only_its_last_seal_is_found_without_a_head(self, chain: list[AuditEvent]) -> None:
        found = findings_after(lambda: raw_seals.filter(number=5)._raw_delete("default"))
        ids = ", ".join(str(each.pk) for each in chain[20:])
        assert found == [f"3 events are under a seal that does not exist: {ids}"]

    @pytest.mark.parametrize("data", ['{"n": 1e999}', f'{{"n": {"9" * 5000}}}'])
    def test_a_sealed_event_that_became_unreadable_is_a_finding(self, chain: list[AuditEvent], data: str) -> None:
        (found,) = findings_after(lambda: write(chain[7].pk, data))
        assert _where(7, chain) in found

    def test_a_number_beyond_floats_is_sealed_with_the_others(self) -> None:
        with options():
            write(make(3)[1].pk, '{"n": 1e999}')
            assert seal().events == 3
            assert verify().is_intact

    def test_what_cannot_be_read_stops_neither_sealing_nor_verifying(self, caplog: pytest.LogCaptureFixture) -> None:
        with options():
            bad = [each.pk for each in make(12)[:6]]  # more than a batch
            for pk in bad:
                write(pk, f'{{"n": {"9" * 5000}}}')
            assert seal().events == 6
            report = verify()
        assert (report.seals, report.events, report.waiting) == (2, 6, 6)
        ids = ", ".join(map(str, bad))
        assert [each.text for each in report.findings] == [f"6 events without a seal cannot be read: {ids}"]
        assert "cannot be read and stay without a seal" in caplog.text

    @pytest.mark.parametrize("through", ["1e999", "9" * 5000])
    def test_a_note_of_retention_that_says_nothing_is_passed(self, chain: list[AuditEvent], through: str) -> None:
        made = AuditEvent.objects.create(action="audit.forget", actor="mallory")
        write(made.pk, f'{{"through": {through}, "hash": "", "key_id": "", "proof": ""}}')
        assert verify().seals == 5


def peak(work: Callable[[], object]) -> int:
    """Return the most bytes that Python held during ``work``."""
    tracemalloc.start()
    try:
        assert work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _where(index: int, chain: list[AuditEvent]) -> str:
    number = index // 5 + 1
    mine = chain[(number - 1) * 5 : number * 5]
    return f"seal {number} (events {mine[0].pk} to {mine[-1].pk})"


class TestRetention:
    @pytest.fixture
    def old(self, chain: list[AuditEvent]) -> list[AuditEvent]:
        """The first three seals are of a year ago; made again by who holds the key, as they would have been."""
        previous = "0" * 64
        for each in AuditSeal.objects.order_by("number"):
            if each.number <= 3:
                each.sealed_at = timezone.now() - timedelta(days=365)
            each.previous = previous
            each.hash = previous = seal_hash(each, KEY.encode())
            raw_seals.filter(pk=each.pk).update(sealed_at=each.sealed_at, previous=each.previous, hash=each.hash)
        assert verify().is_intact
        return chain

    def test_whole_old_batches_go_and_the_chain_is_verified_from_there(self, old: list[AuditEvent]) -> None:
        with options(KEY=KEY, RETENTION="90d"):
            assert forget_old() == 15
            assert AuditEvent.objects.exclude(action="audit.forget").count() == 8
            assert verify().is_intact
            seal()
            report = verify()
        assert (report.findings, report.forgotten_through, report.seals) == ([], 3, 3)

    def test_without_the_option_nothing_goes(self, old: list[AuditEvent]) -> None:
        assert forget_old() == 0
        assert AuditSeal.objects.count() == 5

    def test_the_newest_seal_stays_however_old(self, old: list[AuditEvent]) -> None:
        raw_seals.update(sealed_at=timezone.now() - timedelta(days=365))
        with options(KEY=KEY, RETENTION="90d"):
            forget_old()
        assert list(AuditSeal.objects.values_list("number", flat=True)) == [5]

    def test_a_beginning_that_somebody_else_cut_off_is_found(self, old: list[AuditEvent]) -> None:
        third = AuditSeal.objects.get(number=3)
        raw_events.filter(seal__number__lte=3).delete()
        raw_seals.filter(number__lte=3).delete()
        assert verify().findings[0].text == "seals 1 to 3 are missing"
        forged = {"through": 3, "hash": third.hash, "events": 15, "key_id": third.key_id, "proof": "0" * 64}
        audit.record("audit.forget", data=forged)
        assert [each.kind for each in verify().findings] == ["retention"]
        audit.record("audit.forget", data={**forged, "key_id": ""})
        assert [each.kind for each in verify().findings] == ["key"]

    def test_a_noted_head_that_was_forgotten_says_so(self, old: list[AuditEvent]) -> None:
        noted = Head(2, AuditSeal.objects.get(number=2).hash)
        with options(KEY=KEY, RETENTION="90d"):
            forget_old()
            assert "was forgotten by retention" in verify(noted).findings[0].text


def run(*arguments: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command(*arguments, stdout=out, stderr=StringIO())
    except SystemExit as error:
        return int(error.code or 0), out.getvalue()
    except CommandError as error:
        return error.returncode, str(error)
    return 0, out.getvalue()


class TestCommands:
    def test_an_intact_chain_is_0_and_its_head_is_printed(self, chain: list[AuditEvent]) -> None:
        code, text = run("koan_audit_verify")
        assert code == 0
        assert "5 seals of 23 events: intact" in text
        head = text.split()[-1]
        assert run("koan_audit_verify", "--head", head)[0] == 0

    def test_a_broken_one_is_1_and_says_where(self, chain: list[AuditEvent]) -> None:
        raw_events.filter(pk=chain[7].pk).update(actor="mallory")
        code, text = run("koan_audit_verify", "--format", "json")
        told = json.loads(text)
        assert (code, told["intact"]) == (1, False)
        assert told["findings"] == [
            {
                "kind": "event",
                "text": f"an event was changed or exchanged in {_where(7, chain)}",
                "seal": 2,
            }
        ]
        assert "NOT INTACT, 1 finding" in run("koan_audit_verify")[1]

    @pytest.mark.parametrize("head", ["7", "x:" + "0" * 64, "1:00"])
    def test_a_head_that_is_none_is_2(self, head: str) -> None:
        assert run("koan_audit_verify", "--head", head)[0] == 2

    @pytest.mark.parametrize("key", ["short", "{{secret:no/such/key}}"])
    def test_a_key_that_cannot_be_had_is_2(self, key: str) -> None:
        with options(KEY=key):
            code, text = run("koan_audit_verify")
        assert code == 2
        assert "could not be verified" in text

    def test_sealing_says_what_it_did(self) -> None:
        make(7)
        with options():
            code, text = run("koan_audit_seal", "--format", "json")
        assert code == 0
        told = json.loads(text)
        assert (told["batches"], told["events"]) == (2, 7)

    def test_export_writes_lines_and_is_itself_an_event(self, chain: list[AuditEvent], tmp_path: Any) -> None:
        code, text = run("koan_audit_export", "--action", "x.y")
        assert code == 0
        lines = [json.loads(line) for line in text.splitlines()]
        assert [line["object_id"] for line in lines] == [str(number) for number in range(23)]
        assert (lines[0]["seal"], lines[-1]["seal"]) == (1, 5)
        target = tmp_path / "audit.csv"
        assert run("koan_audit_export", "--format", "csv", "--output", str(target))[0] == 0
        assert len(target.read_text().splitlines()) == 25
        assert run("koan_audit_export", "--output", str(target))[0] == 2, "it overwrites nothing"
        assert AuditEvent.objects.filter(action="command.run").count() == 3

    def test_export_is_bounded_by_time(self, chain: list[AuditEvent]) -> None:
        tomorrow = (timezone.now() + timedelta(days=1)).isoformat()
        assert run("koan_audit_export", "--since", tomorrow)[1] == ""
        assert len(run("koan_audit_export", "--until", tomorrow)[1].splitlines()) >= 23
        assert run("koan_audit_export", "--since", "yesterday")[0] == 2
        assert connection.vendor
