"""The admin screens of scheduling, and django-celery-beat's own with permissions."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery import Celery
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.urls import reverse
from django.utils import timezone
from django_celery_beat import models as beat

from koan_django.core import dispatch
from koan_django.core.models import AuditEvent
from koan_django.scheduling.models import ScheduledTask, TaskRun

pytestmark = [pytest.mark.database, pytest.mark.django_db]

TASKS = reverse("admin:koan_scheduling_scheduledtask_changelist")
RUNS = reverse("admin:koan_scheduling_taskrun_changelist")
PERIODIC = reverse("admin:django_celery_beat_periodictask_changelist")
BEAT_MODELS = (beat.PeriodicTask, beat.IntervalSchedule, beat.CrontabSchedule, beat.SolarSchedule, beat.ClockedSchedule)


@pytest.fixture
def sent():
    """What was sent to workers; nothing runs."""
    jobs = []

    class Mailbox:
        def send(self, job, args, kwargs, context):
            jobs.append((job.name, args))

    before = dispatch.use(Mailbox())
    yield jobs
    dispatch.use(before)


@pytest.fixture
def staff(client):
    """Log in a member of staff who holds ``codenames``."""

    def login(*codenames):
        user = User.objects.create_user("staff", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        assert user.user_permissions.count() == len(codenames)
        client.force_login(user)
        return client

    return login


def act(client, url, action, row):
    return client.post(url, {"action": action, "_selected_action": [row.pk]}, follow=True)


def listed(html):
    """The values that the choice of actions offers."""
    return {part.split('"')[0] for part in html.partition('name="action"')[2].partition("</select>")[0].split('="')[1:]}


def test_who_may_run_runs_enables_and_disables(staff, task, sent, django_capture_on_commit_callbacks):
    row = task(seconds=3600)
    client = staff("view_scheduledtask", "run_scheduledtask")
    assert {"run_now", "enable", "disable"} <= listed(client.get(TASKS).content.decode())
    with django_capture_on_commit_callbacks(execute=True):
        act(client, TASKS, "run_now", row)
    run = row.runs.get()
    assert run.trigger == "manual"
    assert sent == [("koan_scheduling.run", (run.pk,))]
    act(client, TASKS, "disable", row)
    row.refresh_from_db()
    assert not row.enabled
    act(client, TASKS, "enable", row)
    row.refresh_from_db()
    assert row.enabled
    assert LogEntry.objects.count() == 3


def test_running_what_runs_already_is_an_error_message_and_no_run(staff, task, sent):
    row = task()
    client = staff("view_scheduledtask", "run_scheduledtask")
    act(client, TASKS, "run_now", row)
    assert b"under way" in act(client, TASKS, "run_now", row).content
    assert row.runs.count() == 1


def test_who_may_only_view_can_do_nothing(staff, task):
    row = task()
    client = staff("view_scheduledtask", "view_taskrun")
    page = client.get(TASKS)
    assert page.status_code == 200
    assert not {"run_now", "enable", "disable"} & listed(page.content.decode())
    for action in ("run_now", "enable", "disable"):
        act(client, TASKS, action, row)
    change = reverse("admin:koan_scheduling_scheduledtask_change", args=[row.pk])
    assert client.get(change).status_code == 200
    assert client.post(change, {"interval_override": "5"}).status_code == 403
    row.refresh_from_db()
    assert row.enabled
    assert row.interval_override is None
    assert not row.runs.exists()
    assert not LogEntry.objects.exists()


def test_the_interval_is_overridden_by_who_may_change_and_shows_as_drift(staff, task):
    row = task(seconds=3600)
    client = staff("view_scheduledtask", "change_scheduledtask")
    change = reverse("admin:koan_scheduling_scheduledtask_change", args=[row.pk])
    client.post(change, {"interval_override": "90", "enabled": "", "name": "other", "interval": "1"})
    before, row = row, ScheduledTask.objects.get(pk=row.pk)
    assert (row.interval_override, row.schedule.interval) == (timedelta(seconds=90),) * 2
    assert (row.name, row.interval, row.enabled) == (before.name, before.interval, True)
    assert row.next_run_at < before.next_run_at
    page = client.get(TASKS).content.decode()
    assert "every 1 min 30 s" in page
    assert "code: every 1 h" in page
    assert b"greater than or equal" in client.post(change, {"interval_override": "0.1"}).content
    client.post(change, {"interval_override": ""})
    row.refresh_from_db()
    assert not row.drifted


@pytest.mark.parametrize("page", ["add", "delete", "history"])
def test_tasks_are_neither_added_nor_deleted_here(admin_client, task, page):
    arguments = [] if page == "add" else [task().pk]
    status = admin_client.get(reverse(f"admin:koan_scheduling_scheduledtask_{page}", args=arguments)).status_code
    assert status == (200 if page == "history" else 403)


def test_runs_are_read_found_and_filtered(admin_client, task):
    run = TaskRun.objects.create(
        task=task(),
        trigger="schedule",
        planned_at=timezone.now(),
        state="failed",
        error="ValueError: <b>",
        traceback="Traceback <script>",
        result={"count": 3, "password": "hunter22"},
        correlation_id="request-9",
    )
    for query in ("", "?state__exact=failed", "?q=request-9", f"?q={run.uuid}", "?trigger__exact=schedule"):
        page = admin_client.get(RUNS + query).content.decode()
        assert str(run.uuid) in page, query
    assert str(run.uuid) not in admin_client.get(f"{RUNS}?state__exact=succeeded").content.decode()
    detail = admin_client.get(reverse("admin:koan_scheduling_taskrun_change", args=[run.pk])).content.decode()
    assert "hunter22" not in detail
    assert "Traceback &lt;script&gt;" in detail
    assert admin_client.get(reverse("admin:koan_scheduling_taskrun_add")).status_code == 403


def test_the_overview_shows_tasks_and_what_went_wrong(admin_client, task):
    ScheduledTask.objects.filter(pk=task(critical=True).pk).update(last_state="failed", last_error="ValueError: no")
    page = admin_client.get(reverse("admin:koan_core_overview_changelist")).content.decode()
    assert "Scheduled tasks" in page
    assert "ValueError: no" in page


@pytest.fixture
def periodic(monkeypatch):
    """A periodic task, and an app that counts what is sent."""
    from koan_django.scheduling.admin import beat as screens

    app = Celery("tests", broker="memory://", set_as_current=False)

    @app.task(name="tests.periodic", shared=False)
    def work(number, word=""): ...

    monkeypatch.setattr(screens, "current_app", app)
    app.calls = []
    monkeypatch.setattr(work, "apply_async", lambda *a, **k: app.calls.append((a, k)) or type("R", (), {"id": "1"}))
    interval = beat.IntervalSchedule.objects.create(every=1, period="hours")
    row = beat.PeriodicTask.objects.create(
        name="p", task="tests.periodic", interval=interval, args="[1]", kwargs='{"word": "x"}', queue="slow"
    )
    row.app = app
    return row


PERIODIC_ACTIONS = ("enable_tasks", "disable_tasks", "toggle_tasks", "run_tasks")


def test_with_the_view_permission_alone_no_periodic_task_is_run_or_changed(staff, periodic):
    client = staff("view_periodictask")
    page = client.get(PERIODIC)
    assert page.status_code == 200
    for action in PERIODIC_ACTIONS:
        assert action not in page.content.decode()
        act(client, PERIODIC, action, periodic)
    periodic.refresh_from_db()
    assert periodic.enabled
    assert periodic.app.calls == []


def test_with_the_change_permission_periodic_tasks_are_run_and_switched(staff, periodic):
    client = staff("view_periodictask", "change_periodictask")
    assert set(PERIODIC_ACTIONS) <= listed(client.get(PERIODIC).content.decode())
    states = []
    for action in ("disable_tasks", "toggle_tasks", "toggle_tasks", "enable_tasks"):
        changed = beat.PeriodicTasks.last_change()
        act(client, PERIODIC, action, periodic)
        periodic.refresh_from_db()
        states.append(periodic.enabled)
        assert beat.PeriodicTasks.last_change() != changed
    assert states == [False, True, False, True]
    act(client, PERIODIC, "run_tasks", periodic)
    (((args, kwargs), options),) = periodic.app.calls
    assert (args, kwargs) == ([1], {"word": "x"})
    assert options == {"headers": {"periodic_task_name": "p"}, "queue": "slow"}
    assert LogEntry.objects.count() == 5


def test_running_a_periodic_task_that_celery_does_not_know_is_an_error_message(staff, periodic):
    beat.PeriodicTask.objects.update(task="tests.unknown")
    client = staff("view_periodictask", "change_periodictask")
    assert b"knows no task" in act(client, PERIODIC, "run_tasks", periodic).content


@pytest.mark.parametrize("model", BEAT_MODELS)
def test_every_action_of_the_screens_asks_for_a_permission(model, rf):
    screen = admin.site._registry[model]
    assert type(screen).__module__ == "koan_django.scheduling.admin.beat"
    request = rf.get("/")
    request.user = User.objects.create_user("nobody", is_staff=True)
    assert screen.get_actions(request) == {}


@pytest.mark.parametrize("model", BEAT_MODELS)
def test_the_screens_work_and_have_no_inline_script(admin_client, periodic, model):
    name = f"admin:django_celery_beat_{model._meta.model_name}"
    pages = [reverse(f"{name}_changelist"), reverse(f"{name}_add")]
    if model in (beat.PeriodicTask, beat.IntervalSchedule):
        pages.append(reverse(f"{name}_change", args=[model.objects.get().pk]))
    for url in pages:
        page = admin_client.get(url)
        assert page.status_code == 200
        for script in page.content.decode().split("<script")[1:]:
            assert "src=" in script.partition(">")[0] or script.partition("</script>")[0].endswith(">"), script[:200]


def test_a_screen_that_a_project_registered_itself_is_left_alone():
    from koan_django.scheduling.admin import beat as screens

    class Own(admin.ModelAdmin): ...

    ours = type(admin.site._registry[beat.IntervalSchedule])
    admin.site.unregister(beat.IntervalSchedule)
    admin.site.register(beat.IntervalSchedule, Own)
    try:
        screens.register()
        assert type(admin.site._registry[beat.IntervalSchedule]) is Own
    finally:
        admin.site.unregister(beat.IntervalSchedule)
        admin.site.register(beat.IntervalSchedule, ours)


def test_what_people_do_with_a_task_is_audited(staff, task, sent):
    row = task(seconds=3600)
    client = staff("view_scheduledtask", "run_scheduledtask", "change_scheduledtask")
    for action in ("run_now", "enable", "disable"):
        act(client, TASKS, action, row)
    client.post(f"{TASKS}{row.pk}/change/", {"interval_override": "60"})
    events = AuditEvent.objects.filter(object_type="koan_scheduling.scheduledtask", object_id=str(row.pk))
    assert [event.action for event in events.order_by("id")] == [
        "scheduling.run",
        "admin.run_now",
        "scheduling.enable",
        "admin.enable",
        "scheduling.disable",
        "admin.disable",
        "scheduling.override",
        "admin.change",
    ]
    assert {event.actor for event in events} == {"staff"}
    assert events.get(action="scheduling.run").data == {"run": str(row.runs.get().uuid)}
    assert events.get(action="scheduling.override").data == {"to": "0:01:00"}


def test_periodic_tasks_of_the_package_are_audited_too(staff):
    every = beat.IntervalSchedule.objects.create(every=1, period="hours")
    row = beat.PeriodicTask.objects.create(name="hourly", task="x.y", interval=every)
    act(staff("view_periodictask", "change_periodictask"), PERIODIC, "disable_tasks", row)
    assert AuditEvent.objects.get(action="admin.disable_tasks").object_text == "hourly: every hour"
