"""Finds out what a profile's store does, by doing it: some small objects are written, tried and removed again."""

from __future__ import annotations

import contextlib
import io
import secrets
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from koan_django.core.exceptions import KoanError

from . import policy
from .drivers.base import Capability, walk
from .exceptions import CapabilityError, ObjectExistsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .drivers.base import Driver, PresignedUpload
    from .profile import Profile

State = Literal["works", "missing", "not tried", "failed"]

_DATA = b"0123456789"
_MINUTE = timedelta(minutes=1)
#: How many create one object at the same time.
_RIVALS = 8


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one trial. ``subject`` is a capability, or ``store`` for storing, reading and removing."""

    profile: str
    subject: str
    state: State
    text: str = ""
    fix: str = ""


class Trial:
    """One store, and the objects that the trials leave behind."""

    def __init__(self, profile: Profile) -> None:
        self.driver: Driver = profile.driver
        self.folder = profile.at(f"koan-doctor/{uuid.uuid4().hex}")
        self._used: set[str] = set()

    def key(self, name: str = "") -> str:
        """Return a key that was never used, to be removed at the end."""
        made = f"{self.folder}/{name or uuid.uuid4().hex}"
        self._used.add(made)
        return made

    def stored(self, data: bytes = _DATA) -> str:
        """Store ``data`` and return its key."""
        key = self.key()
        self.driver.put(key, io.BytesIO(data))
        return key

    def read(self, key: str) -> bytes:
        """Return all bytes of the object."""
        with self.driver.open(key) as stream:
            return stream.read()

    def clear(self) -> None:
        """Remove everything."""
        for key in self._used:
            with contextlib.suppress(KoanError):
                self.driver.delete(key)


def examine(profile: Profile) -> list[Finding]:
    """Try the store, then each capability that its driver declares."""
    trial = Trial(profile)
    try:
        policy.require_store(profile.name)
        policy.require_delete(profile.name)
        profile.driver.probe()
        basic = _try(profile.name, "store", _stores, trial)
        if basic.state != "works":
            return [basic]
        return [basic, *(_capability(profile, capability, trial) for capability in Capability)]
    except KoanError as error:
        return [_failure(profile.name, "store", error)]
    finally:
        trial.clear()


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 when all is as declared, 1 when a store lacks something, 2 when a trial failed."""
    states = {finding.state for finding in findings}
    return 2 if "failed" in states else int("missing" in states)


def _capability(profile: Profile, capability: Capability, trial: Trial) -> Finding:
    if capability not in profile.capabilities:
        return Finding(profile.name, capability.value, "not tried", "not declared, or denied by WITHOUT")
    return _try(profile.name, capability.value, TRIALS[capability], trial)


def _try(profile: str, subject: str, act: Callable[[Trial], bool], trial: Trial) -> Finding:
    try:
        if act(trial):
            return Finding(profile, subject, "works")
        why = "the store accepts it and does something else"
    except CapabilityError as error:
        why = error.why or error.what
    except KoanError as error:
        return _failure(profile, subject, error)
    except OSError as error:
        return Finding(profile, subject, "failed", str(error))
    return Finding(profile, subject, "missing", why, f"Add {subject!r} to WITHOUT of the profile {profile!r}.")


def _failure(profile: str, subject: str, error: KoanError) -> Finding:
    return Finding(profile, subject, "failed", f"{error.what}: {error.why}" if error.why else error.what, error.fix)


def _stores(trial: Trial) -> bool:
    key = trial.stored()
    return trial.read(key) == _DATA and trial.driver.delete(key) and not trial.driver.exists(key)


def _range(trial: Trial) -> bool:
    with trial.driver.open_range(trial.stored(), 3, 5) as found:
        return found.read() == b"345"


def _exclusive_create(trial: Trial) -> bool:
    """Small objects at once, and large ones one after the other: some stores check the condition for one kind only."""
    key = trial.key()
    with ThreadPoolExecutor(_RIVALS) as rivals:
        winners = sum(rivals.map(lambda number: _creates(trial, key, b"%d" % number), range(_RIVALS)))
    large = bytes(getattr(trial.driver, "part_size", 0) + 1)
    key = trial.key()
    return winners == 1 and _creates(trial, key, large) and not _creates(trial, key, large)


def _creates(trial: Trial, key: str, data: bytes) -> bool:
    try:
        trial.driver.put(key, io.BytesIO(data))
    except ObjectExistsError:
        return False
    return True


def _atomic_replace(trial: Trial) -> bool:
    key = trial.stored()
    trial.driver.put(key, io.BytesIO(b"new"), overwrite=True)
    return trial.read(key) == b"new"


def _server_copy(trial: Trial) -> bool:
    source, target = trial.stored(), trial.key()
    trial.driver.copy_within(source, target)
    return trial.read(target) == _DATA


def _list(trial: Trial) -> bool:
    return set(_listed(trial)) == _names(trial)


def _ordered_list(trial: Trial) -> bool:
    return _listed(trial) == sorted(_names(trial))


def _names(trial: Trial) -> set[str]:
    return {trial.key(f"list/{name}") for name in ("a-b", "a/b", "a0", "b")}


def _listed(trial: Trial) -> list[str]:
    for key in _names(trial):
        trial.driver.put(key, io.BytesIO(b""), overwrite=True)
    return [found.key for found in walk(trial.driver, f"{trial.folder}/list/", page=2)]


def _checksum(trial: Trial) -> bool:
    return trial.driver.verifies(trial.key())


def _presigned_get(trial: Trial) -> bool:
    url = trial.driver.presign_get(trial.stored(), _MINUTE)
    return _send(url) == (200, _DATA) and _send(_tampered(url))[0] >= 400


def _presigned_put(trial: Trial) -> bool:
    key = trial.key()
    upload = trial.driver.presign_put(key, _MINUTE, content_type="text/plain")
    status, _ = _send(upload.url, upload.method, _DATA, upload.headers)
    return status < 300 and trial.read(key) == _DATA and _send(upload.url, upload.method, b"")[0] >= 400


def _presigned_post(trial: Trial) -> bool:
    key, other = trial.key(), trial.key()
    taken = _post(trial.driver.presign_post(key, _MINUTE, max_size=len(_DATA)), _DATA)
    refused = _post(trial.driver.presign_post(other, _MINUTE, max_size=len(_DATA)), _DATA * 2)
    return taken < 300 and trial.read(key) == _DATA and refused >= 400 and not trial.driver.exists(other)


def _post(upload: PresignedUpload, data: bytes) -> int:
    boundary = secrets.token_hex(16)
    begin = f"--{boundary}\r\nContent-Disposition: form-data; name="
    fields = "".join(f'{begin}"{name}"\r\n\r\n{value}\r\n' for name, value in upload.fields.items())
    head = f'{fields}{begin}"file"; filename="file"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
    return _send(upload.url, "POST", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})[0]


def _send(
    url: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    request = urllib.request.Request(url, body, dict(headers or {}), method=method)  # noqa: S310  # signed by the driver
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, b""


def _tampered(url: str) -> str:
    return url[:-1] + ("0" if url[-1] != "0" else "1")


TRIALS: Mapping[Capability, Callable[[Trial], bool]] = {
    Capability.RANGE: _range,
    Capability.EXCLUSIVE_CREATE: _exclusive_create,
    Capability.ATOMIC_REPLACE: _atomic_replace,
    Capability.SERVER_COPY: _server_copy,
    Capability.LIST: _list,
    Capability.ORDERED_LIST: _ordered_list,
    Capability.PRESIGNED_GET: _presigned_get,
    Capability.PRESIGNED_PUT: _presigned_put,
    Capability.PRESIGNED_POST: _presigned_post,
    Capability.CHECKSUM: _checksum,
}
