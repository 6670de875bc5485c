"""Pushes files through the whole flow and says what becomes of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from koan_django.core import health
from koan_django.core.models import HealthFact
from koan_django.messaging.models import MessageEvent
from koan_django.messaging.outgoing import sending
from koan_django.storage.models import Tombstone
from sampleproject.gallery.messages import PhotoUploaded
from sampleproject.gallery.models import Photo, Upload
from sampleproject.gallery.recipes import PUBLISHED

from .visitor import Visitor

if TYPE_CHECKING:
    from pathlib import Path


#: How long nothing at all may happen before the demo gives up.
PATIENCE_SECONDS = 120.0
#: How long the bytes of settled uploads may take to go. What a killed worker was removing waits for the sweep.
TIDY_SECONDS = 10.0
#: What a killed process said about itself counts until it expires.
HEALTH_SECONDS = 45.0


class StuckError(Exception):
    """Nothing moved for too long."""


@dataclass
class Flow:
    """One run of the main job."""

    visitor: Visitor
    say: Callable[[str], None]
    _seen: dict[int, tuple[str, ...]] = field(default_factory=dict)
    _moved: float = field(default_factory=time.monotonic)
    _repeated: str = ""

    def wait_for_worker(self) -> None:
        """Wait until the worker consumes the bus."""
        self._until(lambda: HealthFact.objects.filter(name__startswith="messaging.consumer", status="healthy").exists())

    def push(self, paths: list[Path]) -> None:
        """Upload every file and follow all of them to their end."""
        ids = [self.visitor.upload(path) for path in paths]
        self.say(f"{len(ids)} files uploaded and announced")
        self._repeat_one(ids)
        self._until(lambda: self._follow(ids))
        self.say("every file has reached its end; the archive task moves the originals to cold")
        self._until(self._is_archived)
        self._wait(lambda: not Tombstone.objects.exists(), TIDY_SECONDS)
        self._wait(lambda: health.aggregate().status == "healthy", HEALTH_SECONDS)

    def _repeat_one(self, ids: list[str]) -> None:
        """Deliver the first message a second time, as a lost acknowledgement does."""
        first = Upload.objects.filter(public_id__in=ids).order_by("id").first()
        if first is None:
            raise StuckError(
                "the files went to another demo, which serves on the same port: give this one its own PORT="
            )
        message = PhotoUploaded(upload_id=first.pk)
        envelope = sending.wrap(message, "main", identifier=first.message_id, correlation_id=first.correlation_id)
        sending.redeliver("main", envelope, "media")
        self.say(f"the message of {first.name} is delivered a second time, on purpose")
        self._repeated = first.message_id

    def _follow(self, ids: list[str]) -> bool:
        """Say what changed; ``True`` when every file has reached its end."""
        uploads = list(Upload.objects.filter(public_id__in=ids).order_by("id"))
        made = self._made(uploads)
        for number, upload in enumerate(uploads, start=1):
            now = (*made.get(upload.pk, ()), *((upload.state,) if upload.state != "waiting" else ()))
            if now != self._seen.get(upload.pk, ()):
                self._seen[upload.pk] = now
                self._moved = time.monotonic()
                why = f" at {upload.stage}: {upload.reason}" if upload.state == "refused" else ""
                self.say(f"{number:3}/{len(uploads)} {upload.name[:40]:40} {' '.join(now)}{why}")
        duplicate = MessageEvent.objects.filter(kind="duplicate", message_id=self._repeated)
        return all(upload.state != "waiting" for upload in uploads) and duplicate.exists()

    def _made(self, uploads: list[Upload]) -> dict[int, tuple[str, ...]]:
        """The renditions of each upload, in the order in which they are published."""
        rows = Photo.objects.filter(source__upload__in=uploads, relationship__in=PUBLISHED)
        found: dict[int, set[str]] = {}
        for pk, recipe in rows.values_list("source__upload_id", "relationship"):
            found.setdefault(pk, set()).add(recipe)
        return {pk: tuple(name for name in PUBLISHED if name in names) for pk, names in found.items()}

    def _is_archived(self) -> bool:
        published = Photo.objects.originals().filter(published_at__isnull=False)
        left = published.filter(archived_at__isnull=True).count()
        if self._seen.get(-1) != (str(left),):
            self._seen[-1] = (str(left),)
            self._moved = time.monotonic()
        return not left

    def _wait(self, condition: Callable[[], bool], seconds: float) -> None:
        """Give ``condition`` some time; whether it holds is for the report to say."""
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            time.sleep(0.2)

    def _until(self, condition: Callable[[], bool]) -> None:
        self._moved = time.monotonic()
        while not condition():
            if time.monotonic() - self._moved > PATIENCE_SECONDS:
                raise StuckError(f"nothing has happened for {PATIENCE_SECONDS:g} s")
            time.sleep(0.15)
