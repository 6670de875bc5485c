"""Secrets from files that a platform mounts: Docker, Compose, Kubernetes, systemd credentials."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from koan_django.secrets.exceptions import SecretAccessError, SecretFormatError, SecretUnavailableError
from koan_django.secrets.types import SecretValue

from .base import Provider

if TYPE_CHECKING:
    from collections.abc import Iterable

    from koan_django.secrets.references import SecretReference

#: The largest file that is read as a secret, in bytes; Kubernetes allows as much and Docker half of it.
MAX_BYTES = 1024 * 1024
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


class FileProvider(Provider):
    """Reads ``{{secret:app/database}}`` from the file ``app/database`` below ``root``.

    ``#field`` is a file of that name in the directory ``app/database``, as a mounted Kubernetes secret has it, else a
    field of the JSON object in the file. A file is read each time, so a change counts at once. Symbolic links are
    followed as long as they stay below ``root``. One line end at the end of the text is dropped, since editors and
    ``echo`` leave it there; ``strip_newline=False`` keeps it.
    """

    is_remote: ClassVar[bool] = False

    def __init__(self, *, root: str | Path = "/run/secrets", strip_newline: bool = True) -> None:
        self.root = Path(root)
        self._strip_newline = strip_newline

    def fetch(self, reference: SecretReference) -> SecretValue | None:
        if reference.version:
            return None
        if reference.field and "/" not in reference.field and os.path.isdir(self.root / reference.path):
            return self._value(f"{reference.path}/{reference.field}")
        value = self._value(reference.path)
        return value.field(reference.field) if value is not None and reference.field else value

    def problems(self) -> Iterable[str]:
        if not self.root.is_dir():
            yield f"{self.root} is not a directory"
        elif not os.access(self.root, os.R_OK | os.X_OK):
            yield f"{self.root} cannot be read by this process"

    def _value(self, relative: str) -> SecretValue | None:
        content = self._read(relative)
        return None if content is None else SecretValue(self._stripped(content), name=relative)

    def _stripped(self, content: bytes) -> bytes:
        if not self._strip_newline or not content.endswith(b"\n"):
            return content
        return content[:-2] if content.endswith(b"\r\n") else content[:-1]

    def _read(self, relative: str) -> bytes | None:
        """Return the file's bytes, or ``None``. A mount that is swapped between two looks is looked at again."""
        for _ in range(3):
            path = self._resolved(relative)
            if path is None:
                return None
            try:
                return _content(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _refusal(relative, error) from None
        return None

    def _resolved(self, relative: str) -> Path | None:
        try:
            root = self.root.resolve(strict=True)
            path = (root / relative).resolve(strict=True)
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
            if isinstance(error, OSError) and error.errno in _ABSENT:
                return None
            raise _refusal(relative, error) from None
        if not path.is_relative_to(root):
            raise SecretAccessError(
                f"the secret file {relative!r} is not read",
                why=f"it is a link that leads out of {self.root}",
                fix="Put the file itself below the root.",
            )
        return path


def _content(path: Path) -> bytes:
    # A pipe would block the caller at open, a device be read for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            fix = "Name a file, or a file of the directory as its #field."
            raise SecretFormatError(f"{path.name!r} is no file", why="only regular files hold secrets", fix=fix)
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise SecretFormatError(
            f"the secret file {path.name!r} is too large", why=f"it has more than {MAX_BYTES} bytes"
        )
    return content


def _refusal(relative: str, error: OSError | RuntimeError) -> SecretAccessError | SecretUnavailableError:
    what = f"the secret file {relative!r} cannot be read"
    if isinstance(error, RuntimeError) or error.errno in (errno.EACCES, errno.EPERM, errno.ELOOP):
        return SecretAccessError(what, why=str(error), fix="Let the user of this process read it.")
    return SecretUnavailableError(what, why=str(error))
