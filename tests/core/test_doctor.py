"""``koan_doctor``: it opens what ``check`` does not, and every trouble comes with its remedy."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
from celery import Celery
from django.core.management import call_command
from django.utils import timezone

from koan_django.core import doctor, facts, health, redaction
from koan_django.core.election import proclaim
from koan_django.core.environment import Environment, Trait
from koan_django.core.health import Finding
from koan_django.core.models import ProcessFact
from koan_django.messaging.buses import registry
from koan_django.messaging.buses.elected import ElectedBus
from koan_django.messaging.candidates import brokers
from koan_django.messaging.conf import BusOptions
from koan_django.messaging.examinations import STEP
from koan_django.messaging.models import DeadLetter, QueuedDelivery
from koan_django.storage.models import StorageProfile
from koan_django.storage.sync import sync
from koan_django.testing import override_koan, static_secrets
from tests.core.test_health import database_down
from tests.messaging.shop import OrderPlaced, listening

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    before = set(doctor._examinations.names())
    health._cache.clear()
    yield
    for name in set(doctor._examinations.names()) - before:
        doctor._examinations.remove(name)
    health._cache.clear()


def beside_the_settings(monkeypatch: pytest.MonkeyPatch, broker: str) -> Celery:
    """Put a Celery app where that of a project is looked for, in a module of its own."""
    module = ModuleType("tests.celery_app")
    module.__spec__ = ModuleSpec("tests.celery_app", None)
    app = Celery("tests", broker=broker, set_as_current=False)
    vars(module)["app"] = app
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return app


def run(*arguments: str) -> tuple[int, str]:
    """Return the exit code and what was written."""
    out = io.StringIO()
    try:
        call_command("koan_doctor", *arguments, stdout=out)
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue()
    return 0, out.getvalue()


def found() -> dict[str, dict[str, str]]:
    """The findings by name."""
    return {each["name"]: each for each in json.loads(run("--format", "json")[1])["findings"]}


def saying(*findings: Finding) -> None:
    """Let these be all that is found."""
    for name in doctor._examinations.names():
        doctor._examinations.remove(name)
    doctor.examination("said")(lambda: findings)


@pytest.fixture
def alone(monkeypatch: Any) -> Iterator[None]:
    """Only what a test says is examined."""
    kept = dict(doctor._examinations._items)
    monkeypatch.setattr(health, "ready", lambda: health.Report("healthy", ()))
    yield
    doctor._examinations._items = kept


@pytest.fixture
def elected(settings: Any, monkeypatch: Any) -> Iterator[ElectedBus]:
    """The bus ``main`` without a URL; a broker at which nobody listens is elected."""
    settings.KOAN = {}
    environ = {"KOAN_RABBITMQ_URL": "amqp://u:hunter22@127.0.0.1:1/"}
    here = Environment(container=Trait(False), kubernetes=Trait(False), ci=Trait(False))
    bus = ElectedBus("main", BusOptions(), brokers(environ, here))
    monkeypatch.setitem(registry._made, "main", bus)
    [candidate] = bus.candidates.values()
    proclaim(bus.subject, candidate, 0)
    yield bus
    bus.close()


@pytest.mark.usefixtures("alone")
class TestTheCommand:
    @pytest.mark.parametrize(
        ("statuses", "code"),
        [
            ([], 0),
            (["healthy"], 0),
            (["healthy", "degraded"], 1),
            (["unknown"], 1),
            (["degraded", "unhealthy", "healthy"], 2),
        ],
    )
    def test_the_worst_finding_is_the_exit_code(self, statuses: list[Any], code: int) -> None:
        saying(*(Finding(f"f{number}", status) for number, status in enumerate(statuses)))
        assert run()[0] == code
        assert json.loads(run("--format", "json")[1])["exit_code"] == code

    def test_text_names_level_subject_message_and_remedy(self) -> None:
        saying(Finding("bus", "unhealthy", "refused", remedy="Start it."), Finding("store", "healthy"))
        lines = run()[1].splitlines()
        assert lines[0].split() == ["error", "bus", "refused"]
        assert lines[1].strip() == "Start it."
        assert lines[2].split() == ["ok", "store"]
        assert lines[3] == "1 ok, 0 warnings, 1 error"

    def test_no_finding_is_without_a_remedy(self) -> None:
        saying(Finding("odd", "degraded", "it is odd"))
        assert found()["odd"]["remedy"]

    def test_an_examination_that_fails_hides_no_other_and_no_secret_gets_out(self) -> None:
        saying(Finding("fine", "healthy"))
        redaction.register_value("s3cr3t-value")

        @doctor.examination("broken")
        def broken() -> list[Finding]:
            raise RuntimeError("s3cr3t-value at amqp://u:hunter22@h")

        try:
            text = run()[1]
        finally:
            redaction.forget_value("s3cr3t-value")
        assert "RuntimeError: ******** at amqp://u:********@h" in text
        assert "fine" in text


class TestWhatIsExamined:
    def test_what_works_is_well(self) -> None:
        well = {name for name, each in found().items() if each["level"] == "ok"}
        assert {"database.default", "migrations", "storage.hot", "storage.cold", "bus.main", "secrets.env"} <= well
        assert {"backlog", "outbox", "outbox.parked", "deadletters", "ready.database", "secrets.references"} <= well

    def test_every_trouble_has_a_remedy(self) -> None:
        assert [each for each in found().values() if each["level"] != "ok" and not each["remedy"]] == []

    def test_a_system_check_is_a_finding_with_its_hint(self) -> None:
        with override_koan(INBOX={"RETENTON": "7d"}):
            each = found()["check.koan_inbox.E001"]
        assert each["level"] == "error"
        assert "did you mean 'RETENTION'" in each["message"]

    def test_development_defaults_are_warnings_outside_of_debug(self, settings: Any) -> None:
        assert found()["check.koan_secrets.W005"]["level"] == "warning"
        settings.DEBUG = True
        assert "check.koan_secrets.W005" not in found()

    def test_a_database_that_is_away(self) -> None:
        with database_down():
            code, text = run("--format", "json")
        by_name = {each["name"]: each for each in json.loads(text)["findings"]}
        assert code == 2
        assert by_name["database.default"]["level"] == "error"
        assert "DATABASES['default']" in by_name["database.default"]["remedy"]
        assert by_name["storage.cold" if "storage.cold" in by_name else "storage.profiles"]

    def test_a_broker_that_is_away(self) -> None:
        with override_koan(MESSAGING={"BUSES": {"main": {"URL": "amqp://u:hunter22@127.0.0.1:1/"}}}):
            each = found()["bus.main"]
        assert each["level"] == "error"
        assert "127.0.0.1:1/ cannot be reached" in each["message"]
        assert "hunter22" not in str(each)
        assert each["remedy"].startswith("Start the broker, or correct the URL of the bus 'main'")

    def test_a_broker_whose_password_is_nowhere(self) -> None:
        with override_koan(MESSAGING={"BUSES": {"main": {"URL": "amqp://u:{{secret:nowhere}}@127.0.0.1:1/"}}}):
            each = found()["bus.main"]
        assert "nowhere" in each["message"]
        assert each["remedy"].startswith("Correct what is referred to in the URL of the bus 'main'")

    def test_an_elected_broker_that_is_away(self, elected: ElectedBus) -> None:
        each = found()
        assert each["bus.main"]["level"] == "error"
        assert each["bus.main.candidate"]["level"] == "warning"
        assert each["bus.main.candidate"]["remedy"] == "Start it, or take it out of the variable KOAN_RABBITMQ_URL."
        assert "hunter22" not in str(each)

    def test_a_store_that_takes_nothing(self, settings: Any, tmp_path: Any) -> None:
        (tmp_path / "file").touch()
        stores = {**settings.STORAGES, "archive": {**settings.STORAGES["archive"]}}
        stores["archive"]["OPTIONS"] = {"location": str(tmp_path / "file" / "below")}
        settings.STORAGES = stores
        broken = {name: each for name, each in found().items() if name.startswith("storage.cold")}
        assert [each["level"] for each in broken.values()] == ["error"]

    def test_a_closed_profile_is_left_alone(self) -> None:
        sync()
        StorageProfile.objects.filter(name="cold").update(read_only=True)
        assert found()["storage.cold"]["message"] == "not tried: it is disabled or read-only by policy"

    def test_a_secret_that_is_missing(self) -> None:
        url = "amqp://u:{{secret:no/such#password}}@h/"
        with static_secrets({}), override_koan(MESSAGING={"BUSES": {"other": {"URL": url}}}):
            each = found()["secrets.references"]
        assert each["level"] == "error"
        assert "no/such#password for OPTIONS" in each["message"] or "no/such#password for MESSAGING" in each["message"]

    def test_nobody_handles_what_is_sent(self) -> None:
        with listening(OrderPlaced):
            assert "celery -A" in found()["process.worker"]["remedy"]
            facts._published = (0, ())
            facts.publish()
            ProcessFact.objects.update(reporter="host:1:worker")
            assert found()["process.worker"] == {
                "name": "process.worker",
                "level": "ok",
                "message": "host:1:worker",
                "remedy": "",
            }

    def test_celerys_own_broker_is_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        beside_the_settings(monkeypatch, "amqp://u:hunter22@127.0.0.1:1//")
        with listening(OrderPlaced):
            each = found()["celery.broker"]
        assert each["level"] == "error"
        assert each["message"].startswith("Celery's broker amqp://u:")
        assert "CELERY_BROKER_URL" in each["remedy"]
        assert "hunter22" not in str(each)

    def test_celerys_own_broker_answers_and_install_was_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        app = beside_the_settings(monkeypatch, "memory://")
        with listening(OrderPlaced):
            asked = found()
            assert asked["celery.broker"]["level"] == "ok"
            assert asked["celery.app"]["message"] == "the workers of tests.celery_app handle no messages"
            assert "install(app)" in asked["celery.app"]["remedy"]
            app.steps["worker"].add(STEP)
            assert "celery.app" not in found()
        assert "celery.broker" not in found()  # without handlers nobody needs it

    def test_nobody_fires_what_is_due(self) -> None:
        pytest.importorskip("django_celery_beat")
        pytest.importorskip("django_celery_beat", reason="Django is too new for beat")
        from koan_django.scheduling.models import ScheduledTask

        ScheduledTask.objects.create(name="x", trigger="every 1 h", interval=timedelta(hours=1))
        assert found()["process.beat"]["level"] == "warning"

    def test_a_backlog_and_dead_letters(self) -> None:
        with listening(OrderPlaced, group="slow"):
            OrderPlaced(1).send()
            assert found()["backlog"]["level"] == "ok"
            QueuedDelivery.objects.update(available_at=timezone.now() - timedelta(hours=1))
            each = found()["backlog"]
        assert each["level"] == "warning"
        assert each["message"].startswith("1 waits (bus main, group slow), the oldest since ")
        row = QueuedDelivery.objects.get()
        DeadLetter.holding("main", row.envelope(), group="slow", reason="exhausted").save()
        assert found()["deadletters"]["message"] == "1 dead letter"

    def test_what_another_process_says(self) -> None:
        health.report("broker", "unhealthy", "gone", critical=True)
        each = found()["health.broker"]
        assert (each["level"], each["message"]) == ("error", "gone")
        assert each["remedy"].startswith("Look at the log of that process")


class TestSettings:
    def values(self) -> dict[str, tuple[str, str]]:
        code, text = run("--settings", "--format", "json")
        assert code == 0
        return {each["path"]: (each["value"], each["origin"]) for each in json.loads(text)}

    def test_each_value_names_where_it_comes_from(self, settings: Any, monkeypatch: Any) -> None:
        monkeypatch.setenv("KOAN_ENVIRONMENT", "production")
        settings.KOAN = {
            "INBOX": {"RETENTION": "5d"},
            "SECRETS": {"PROVIDERS": {"x": {"BACKEND": "a.B", "OPTIONS": {"anything": "hunter22"}}}},
            "MESSAGING": {"BUSES": {"main": {"URL": "amqp://u:hunter22@rabbit/?p=hunter22", "BATCH": 10}}},
            "ENVIRONMENTS": {"production": {"MESSAGING": {"BUSES": {"main": {"BATCH": 99}}}}},
        }
        sync()
        StorageProfile.objects.filter(name="default").update(read_only=True)
        found = self.values()
        assert found["KOAN['ENVIRONMENT']"] == ("production", "environment variable KOAN_ENVIRONMENT")
        assert found["KOAN['INBOX']['RETENTION']"] == ("5 days, 0:00:00", "KOAN")
        assert found["KOAN['INBOX']['LEASE']"] == ("0:01:00", "default")
        main = "KOAN['MESSAGING']['BUSES']['main']"
        assert found[f"{main}['BATCH']"] == ("99", "the overlay 'production'")
        assert found[f"{main}['URL']"] == ("amqp://rabbit/", "KOAN")
        assert found[f"{main}['RETRY']['MAX_ATTEMPTS']"] == ("5", "default")
        assert found["storage profile 'default': read_only"] == ("True", "policy row")
        assert found["KOAN['SECRETS']['PROVIDERS']['x']['OPTIONS']"] == ("********", "KOAN")
        assert "hunter22" not in run("--settings")[1] + str(found)

    def test_a_bus_that_nobody_configured_is_elected(self, settings: Any) -> None:
        settings.KOAN = {}
        url = self.values()["KOAN['MESSAGING']['BUSES']['main']['URL']"]
        assert url == ("database://", "elected: default")

    def test_one_that_is_elected_names_the_variable_that_led_there(self, elected: ElectedBus) -> None:
        url = self.values()["KOAN['MESSAGING']['BUSES']['main']['URL']"]
        assert url == (next(iter(elected.candidates)), "elected: environment variable KOAN_RABBITMQ_URL")

    def test_text_is_one_line_each(self) -> None:
        lines = run("--settings")[1].splitlines()
        assert any(line == "KOAN['INBOX']['STORE'] = database  (default)" for line in lines)

    def test_a_scheduled_task_that_people_changed(self) -> None:
        pytest.importorskip("django_celery_beat")
        pytest.importorskip("django_celery_beat", reason="Django is too new for beat")
        from koan_django.scheduling.models import ScheduledTask

        hour = timedelta(hours=1)
        ScheduledTask.objects.create(
            name="x", trigger="every 1 h", interval=hour, interval_override=2 * hour, enabled=False
        )
        found = self.values()
        assert found["scheduled task 'x': enabled"] == ("False", "policy row")
        assert found["scheduled task 'x': trigger"][1] == "policy row"

    def test_without_the_database_the_settings_are_known_all_the_same(self) -> None:
        with database_down():
            assert "KOAN['INBOX']['RETENTION']" in self.values()
