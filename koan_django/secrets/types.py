"""The values: a secret that does not show itself, and the text that shows its template instead."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Any, NoReturn

from koan_django.core.redaction import MASK

from .exceptions import SecretFormatError

if TYPE_CHECKING:
    from datetime import timedelta


class SecretValue:
    """A secret. Only :meth:`reveal` and :meth:`reveal_bytes` give it away.

    ``str()``, ``repr()`` and formatting show a mask; it compares in constant time, has no hash and cannot be pickled.
    ``source`` is the alias of the provider; ``ttl`` is how long the provider vouches for the value, if it says so.
    """

    __slots__ = ("_content", "name", "source", "ttl", "version")

    def __init__(
        self,
        content: str | bytes,
        *,
        name: str = "",
        source: str = "",
        version: str = "",
        ttl: timedelta | None = None,
    ) -> None:
        self._content = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else bytes(content)
        self.name = name
        self.source = source
        self.version = version
        self.ttl = ttl

    def reveal(self) -> str:
        """Return the secret as text; raises :class:`SecretFormatError` when it is not UTF-8."""
        try:
            return self._content.decode()
        except UnicodeDecodeError:
            raise SecretFormatError(f"the secret {self.name!r} is not text", fix="Use reveal_bytes().") from None

    def reveal_bytes(self) -> bytes:
        """Return the secret as bytes."""
        return self._content

    def field(self, name: str) -> SecretValue | None:
        """Return one field of a JSON object, or ``None`` when it has no such field.

        What is not text in the object is given as JSON. Raises :class:`SecretFormatError` when it is no object.
        """
        found = self.fields().get(name)
        if found is None:
            return None
        content = found if isinstance(found, str) else json.dumps(found)
        return SecretValue(content, name=self.name, source=self.source, version=self.version, ttl=self.ttl)

    def fields(self) -> dict[str, Any]:
        """Return the secret read as a JSON object; raises :class:`SecretFormatError`."""
        try:
            found = json.loads(self._content)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise SecretFormatError(
                f"the secret {self.name!r} has no fields",
                why="it is not a JSON object",
                fix="Ask for it without #field.",
            )
        return found

    def described(self, *, name: str, source: str) -> SecretValue:
        """Return the same secret under the name and the provider it was found by."""
        return SecretValue(self._content, name=name, source=source, version=self.version, ttl=self.ttl)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            other = other.encode("utf-8", "surrogateescape")
        if isinstance(other, SecretValue):
            other = other._content
        return hmac.compare_digest(self._content, other) if isinstance(other, bytes) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # a hash of the value would give it away to who can try

    def __bool__(self) -> bool:
        return bool(self._content)

    def __repr__(self) -> str:
        return f"<SecretValue {self.name!r}{f' from {self.source!r}' if self.source else ''}>"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __copy__(self) -> SecretValue:
        return self

    def __deepcopy__(self, memo: object) -> SecretValue:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a SecretValue cannot be pickled: send its reference and resolve it there")


class SecretText(str):
    """Text whose references are resolved: it *is* the value, and its ``repr`` shows the template.

    Code that reads a string's buffer gets the value, so it works as a password of any client. What is made from it
    (a slice, an f-string, ``str()``) is plain text again. ``missing`` names the references that the offline mode filled
    with a placeholder.
    """

    __slots__ = ("missing", "template")

    template: str
    missing: tuple[str, ...]

    def __new__(cls, value: str, template: str, missing: tuple[str, ...] = ()) -> SecretText:
        made = super().__new__(cls, value)
        made.template = template
        made.missing = missing
        return made

    def __repr__(self) -> str:
        return f"<secret {self.template!r}>"

    def __copy__(self) -> SecretText:
        return self

    def __deepcopy__(self, memo: object) -> SecretText:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _resolved_again, (self.template,)

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return self.__reduce__()


def _resolved_again(template: str) -> str:
    """Unpickle: the pickle holds the template alone, the value is looked up where it is loaded."""
    from .resolver import resolve

    return resolve(template)
