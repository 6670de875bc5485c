"""A scheduled task is run, recorded, and due again."""

from django.core.management import call_command

from domain.scheduling.schedules import RAN
from koan_django.scheduling.models import ScheduledTask, TaskRun


def main() -> None:
    call_command("koan_scheduling", "run", "domain.hourly")
    assert RAN == ["hourly"]
    assert TaskRun.objects.get().state == "succeeded"
    assert ScheduledTask.objects.get().next_run_at is not None
