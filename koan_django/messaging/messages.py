"""The base class of messages."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

import msgspec
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from koan_django.core.registry import origin_of
from koan_django.core.suggestions import did_you_mean

from . import meta
from .masking import shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from .envelope import Receipt

#: Options of ``class Meta``, and whether a subclass inherits them.
_META_OPTIONS = {"abstract": False, "alias": False, "version": False, "bus": True}
_META_TYPES: dict[str, tuple[type, str]] = {
    "abstract": (bool, "True or False"),
    "alias": (str, "text"),
    "version": (int, "a whole number from 1"),
    "bus": (str, "text"),
}
#: A field of such a name would hide the method without a word.
_RESERVED = ("send", "asend", "send_to", "asend_to", "Meta")

#: Every concrete message class, by module and qualified name. Aliases resolve on first use.
_classes: dict[str, type[Message]] = {}
_by_alias: dict[str, type[Message]] = {}


def _own_meta(cls: type) -> dict[str, Any]:
    """The options in force for ``cls``: its own, and the inheritable ones of its parents."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        declared = base.__dict__.get("Meta")
        if declared is None:
            continue
        for parent in reversed(declared.__mro__):
            own = base is cls and parent is declared
            found |= {
                name: value
                for name, value in vars(parent).items()
                if _META_OPTIONS.get(name, False) or (own and name in _META_OPTIONS)
            }
    return found


def _check_meta(name: str, declared: Any) -> None:
    for option, value in vars(declared).items() if declared is not None else ():
        if option.startswith("__"):
            continue
        if option not in _META_OPTIONS:
            raise TypeError(f"{name}.Meta has no option {option!r}{did_you_mean(option, _META_OPTIONS)}")
        kind, words = _META_TYPES[option]
        if type(value) is not kind or (isinstance(value, int) and option == "version" and value < 1):
            raise TypeError(f"{name}.Meta.{option} is {value!r}, not {words}")


def _default_alias(cls: type) -> str | None:
    if _own_meta(cls).get("alias"):
        return None
    config = apps.get_containing_app_config(cls.__module__)
    if config is None:
        raise ImproperlyConfigured(
            f"{origin_of(cls)} is in no installed app: set Meta.alias, or add its app to INSTALLED_APPS"
        )
    return f"{config.label}.{cls.__name__}"


class MessageMeta(msgspec.StructMeta):
    """Checks ``class Meta`` and the field names when a message class is made."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> Any:
        _check_meta(name, namespace.get("Meta"))
        if options.get("array_like"):
            raise TypeError(f"{name}: array_like messages cannot gain a field later; leave it out")
        cls: Any = super().__new__(mcls, name, bases, namespace, **options)
        for field in cls.__struct_fields__:
            if field in _RESERVED:
                raise TypeError(
                    f"{name}.{field} hides Message.{field}; rename the field and keep its wire name"
                    f" with msgspec.field(name={field!r})"
                )
        if namespace.get("__module__") != __name__ and not _own_meta(cls).get("abstract"):
            _classes[origin_of(cls)] = cls
            _by_alias.clear()
        return cls

    @property
    def _meta(cls) -> meta.MessageOptions:
        """The resolved options; built on first use, since a default alias needs the app registry."""
        found: meta.MessageOptions | None = cls.__dict__.get("__koan_options__")
        if found is None:
            found = meta.build(cls, _own_meta(cls), _default_alias(cls))  # type: ignore[arg-type]  # made by this metaclass
            problem = meta.alias_problem(found.alias)
            if problem:
                raise ImproperlyConfigured(f"{origin_of(cls)}: the alias {found.alias!r} is not usable: {problem}")
            type.__setattr__(cls, "__koan_options__", found)
        return found


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Message(msgspec.Struct, metaclass=MessageMeta, frozen=True):
    """Something that happened or should be done, as a frozen ``msgspec.Struct``.

    Fields are the body, encoded as JSON. ``class Meta`` may give ``alias`` (default ``<app_label>.<ClassName>``),
    ``version``, ``bus`` and ``abstract``.
    """

    if TYPE_CHECKING:
        _meta: ClassVar[meta.MessageOptions]

    def send(
        self,
        *,
        delay: timedelta | None = None,
        eta: datetime | None = None,
        bus: str | None = None,
        priority: int = 0,
        using: str | None = None,
    ) -> Receipt:
        """Send to every group that handles this message; accepted once the current transaction commits.

        ``using`` names the database of that transaction when several are open. Raises ``TypeError`` when a field holds
        what its type does not allow, :class:`~koan_django.messaging.exceptions.UnroutableError` when no group receives
        it, and :class:`~koan_django.messaging.exceptions.OutboxError` when several transactions are open and none is
        named.
        """
        return _send()(self, delay=delay, eta=eta, bus=bus, priority=priority, using=using)

    def send_to(
        self,
        group: str,
        *,
        delay: timedelta | None = None,
        eta: datetime | None = None,
        bus: str | None = None,
        priority: int = 0,
        using: str | None = None,
    ) -> Receipt:
        """Send to one group only."""
        return _send()(self, delay=delay, eta=eta, bus=bus, priority=priority, group=group, using=using)

    async def asend(
        self,
        *,
        delay: timedelta | None = None,
        eta: datetime | None = None,
        bus: str | None = None,
        priority: int = 0,
        using: str | None = None,
    ) -> Receipt:
        """Like :meth:`send`, awaited."""
        from koan_django.messaging.outgoing.sending import asend

        return await asend(self, delay=delay, eta=eta, bus=bus, priority=priority, using=using)

    async def asend_to(
        self,
        group: str,
        *,
        delay: timedelta | None = None,
        eta: datetime | None = None,
        bus: str | None = None,
        priority: int = 0,
        using: str | None = None,
    ) -> Receipt:
        """Like :meth:`send_to`, awaited."""
        from koan_django.messaging.outgoing.sending import asend

        return await asend(self, delay=delay, eta=eta, bus=bus, priority=priority, group=group, using=using)

    def __repr__(self) -> str:
        return shown(self)


@cache
def _send() -> Callable[..., Receipt]:
    """What sends, which imports this module. It is asked for with each message: an import each time takes longer."""
    from .outgoing.sending import send

    return send


def classes() -> list[type[Message]]:
    """Return every concrete message class."""
    return list(_classes.values())


def version_of(cls: type[Message]) -> int:
    """Return the version of ``cls``; unlike ``cls._meta`` it may be asked before the apps are ready."""
    version: int = _own_meta(cls).get("version", 1)
    return version


def is_abstract(cls: type[Message]) -> bool:
    """Whether ``cls`` only serves to be derived from."""
    return cls is Message or bool(_own_meta(cls).get("abstract"))


def by_alias(alias: str) -> type[Message] | None:
    """Return the class with ``alias``, or ``None``. What is wrong with a class is for the checks to say."""
    if not _by_alias:
        for cls in _classes.values():
            with suppress(ImproperlyConfigured, NameError, TypeError):
                _by_alias.setdefault(cls._meta.alias, cls)
    return _by_alias.get(alias)


def has_partition_key(receives: Callable[[str], bool]) -> bool:
    """Whether a known class with a partition key has an alias that ``receives`` accepts."""
    for cls in _classes.values():
        with suppress(ImproperlyConfigured, NameError, TypeError):  # what is wrong with a class is for the checks
            if cls._meta.partition_field is not None and receives(cls._meta.alias):
                return True
    return False
