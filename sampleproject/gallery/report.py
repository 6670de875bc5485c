"""The report, counted from rows and files and never from what the demo meant to do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.models import Count
from PIL import Image

from koan_django.core import health
from koan_django.messaging.models import MessageEvent
from koan_django.scheduling.models import TaskRun
from koan_django.storage import profiles
from koan_django.storage.models import Tombstone

from .models import Photo, Tally, Upload
from .recipes import PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What a killed process was writing has no name yet; storage's daily sweep removes it.
UNFINISHED = ".koan-"


def build() -> dict[str, Any]:
    """Return the report as plain values."""
    uploads = list(Upload.objects.select_related("photo").order_by("id"))
    kinds = dict(MessageEvent.objects.values_list("kind").annotate(Count("id")))
    return {
        "inputs": [_input(upload) for upload in uploads],
        "messages": {
            "sent": kinds.get("sent", 0),
            "handled": kinds.get("handled", 0),
            "retried": kinds.get("retried", 0),
            "dead": kinds.get("dead", 0),
        },
        "duplicates_suppressed": kinds.get("duplicate", 0),
        "runs": _runs(),
        "archived": Photo.objects.originals().filter(profile="cold", archived_at__isnull=False).count(),
        "health": health.aggregate().status,
    }


def problems(report: dict[str, Any]) -> list[str]:
    """Return what does not hold; an empty list is success."""
    inputs = report["inputs"]
    published = [each for each in inputs if each["outcome"] == "published"]
    found = [f"{each['name']}: is still {each['outcome']}" for each in inputs if each["outcome"] == "waiting"]
    for each in published:
        found += _unlike_what_was_asked(each)
    found += [f"{each['name']}: refused without a reason" for each in inputs if _is_mute(each)]
    found += _numbers(report, len(published))
    return [*found, *_files()]


def _input(upload: Upload) -> dict[str, Any]:
    row: dict[str, Any] = {"name": upload.name, "outcome": upload.state}
    if upload.state == Upload.State.REFUSED:
        row |= {"stage": upload.stage, "reason": upload.reason}
    photo = getattr(upload, "photo", None)
    made = [] if photo is None else photo.derivatives.filter(relationship__in=PUBLISHED).order_by("id")
    in_order = sorted(made, key=lambda each: PUBLISHED.index(each.relationship))
    return {**row, "derivations": [_path(each) for each in in_order]}


def _path(row: Photo | Upload) -> str:
    return _at(row.profile, row.key)


def _at(profile: str, key: str) -> str:
    return str(_root(profile) / profiles[profile].at(key))


def _unlike_what_was_asked(published: dict[str, Any]) -> list[str]:
    name, paths = published["name"], published["derivations"]
    counted = Counter(recipe for path in paths for recipe in PUBLISHED if Path(path).stem.endswith(f"-{recipe}"))
    found = [f"{name}: {counted[recipe]} renditions {recipe}" for recipe in PUBLISHED if counted[recipe] != 1]
    for path in paths:
        try:
            with Image.open(path) as image:
                image.load()
                if image.format != "WEBP" or image.getexif():
                    found.append(f"{path}: is not a WebP without metadata")
        except OSError as error:
            found.append(f"{path}: {error}")
    return found


def _is_mute(row: dict[str, Any]) -> bool:
    return row["outcome"] == "refused" and not (row["stage"] and row["reason"])


def _numbers(report: dict[str, Any], published: int) -> list[str]:
    tally = Tally.objects.filter(name="published").values_list("count", flat=True).first() or 0
    found = []
    if tally != published:
        found.append(f"{published} photographs are published, but their message had its effect {tally} times")
    if report["archived"] != published:
        found.append(f"{published} photographs are published and {report['archived']} archived")
    if report["messages"]["dead"]:
        found.append(f"{report['messages']['dead']} messages are dead letters")
    if report["inputs"] and not report["duplicates_suppressed"]:
        found.append("the message that was delivered twice on purpose was not noticed")
    if report["health"] != "healthy":
        found.append(f"health is {report['health']}")
    failed = {name: run["failed"] for name, run in report["runs"].items() if run["failed"]}
    return [*found, *(f"{count} runs of {name} failed" for name, count in failed.items())]


def _runs() -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for task, state, count in TaskRun.objects.values_list("task__name", "state").annotate(Count("id")):
        runs = found.setdefault(task, {"runs": 0, "succeeded": 0, "failed": 0})
        runs["runs"] += count
        if state == "succeeded":
            runs["succeeded"] += count
        if state in ("failed", "timeout"):
            runs["failed"] += count
    return found


def _files() -> list[str]:
    """Compare the folders with the rows: every file belongs to one or is about to go, also after kills and refusals."""
    if Upload.objects.filter(state="waiting").exists():
        return []  # something is still on its way
    going = {_at(each.profile, each.key) for each in Tombstone.objects.all()}
    rows: list[Photo | Upload] = [*Photo.objects.exclude(file=""), *Upload.objects.exclude(file="")]
    wanted = {_path(row) for row in rows}
    present = {str(path) for path in _folders() if path.is_file() and not path.name.startswith(UNFINISHED)}
    stray, missing = sorted(present - wanted - going), sorted(wanted - present)
    return [*(f"{path}: belongs to no row" for path in stray), *(f"{path}: is missing" for path in missing)]


def _folders() -> Iterator[Path]:
    for profile in profiles:
        yield from _root(profile).rglob("*")


def _root(profile: str) -> Path:
    storages: dict[str, Any] = settings.STORAGES
    return Path(storages[profiles[profile].options.storage]["OPTIONS"]["location"])
