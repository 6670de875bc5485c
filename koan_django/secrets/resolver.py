"""The face of resolution: ``get`` and ``resolve``, and which chain answers them.

Nothing here touches ``django.conf.settings`` before they are complete: read from inside ``settings.py`` they would be
frozen half built.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from koan_django.core import conf as koan
from koan_django.core.options import OptionError
from koan_django.core.options import parse as parse_options
from koan_django.core.templating import is_template, register, render

from .chain import Chain
from .conf import SecretsOptions, options
from .exceptions import SecretNotFoundError, SecretOptionsError
from .offline import is_offline, placeholder
from .references import SecretReference, parse
from .types import SecretText, SecretValue

if TYPE_CHECKING:
    from collections.abc import Callable

KIND = "secret"

_lock = threading.RLock()
#: The chain in force, once settings are complete; the last one made; the one a test put in place of both.
_settled: Chain | None = None
_last: Chain | None = None
_replaced: Chain | None = None


def get(reference: str | SecretReference) -> SecretValue:
    """Return the secret that ``reference`` names, or its default.

    Raises :class:`SecretNotFoundError` when nobody has it and :class:`SecretReferenceError` when it is not well formed.
    Any other error of a provider ends the search and passes through.
    """
    return current().get(parse(reference) if isinstance(reference, str) else reference)


async def aget(reference: str | SecretReference) -> SecretValue:
    """The same as :func:`get`, on a thread."""
    return await asyncio.to_thread(get, reference)


def resolve(text: str) -> str:
    """Return ``text`` with its references resolved; its ``repr`` shows the template.

    Within a URL's user and password values are percent-encoded, unless the reference says ``?encode=none``. Raises as
    :func:`get` does.
    """
    if isinstance(text, SecretText) or not is_template(text, kind=KIND):
        return text
    chain = current()
    missing: list[str] = []

    def look_up(reference: SecretReference) -> str:
        try:
            return chain.get(reference).reveal()
        except SecretNotFoundError:
            if chain in (_settled, _replaced) or not is_offline():
                raise
            missing.append(reference.name)
            return placeholder(reference)

    return SecretText(fill(text, look_up), text, tuple(missing))


async def aresolve(text: str) -> str:
    """The same as :func:`resolve`, on a thread."""
    return await asyncio.to_thread(resolve, text)


def fill(text: str, look_up: Callable[[SecretReference], str]) -> str:
    """Return ``text`` with what ``look_up`` says in place of each reference, encoded as its place wants it."""

    def answer(body: str, in_authority: bool) -> str:
        reference = parse(body)
        return _encoded(look_up(reference), reference, in_authority)

    return render(text, {KIND: answer})


def current() -> Chain:
    """Return the chain in force."""
    global _settled
    found = _replaced or _settled
    if found is not None:
        return found
    with _lock:
        chosen, final = _options_in_force()
        chain = adopt(chosen)
        if final:
            _settled = chain
        return chain


def adopt(chosen: SecretsOptions) -> Chain:
    """Return the chain for these options: the last one made when they are the same, with all it knows."""
    global _last
    with _lock:
        if _last is None or _last.options != chosen:
            _last = Chain(chosen)
        return _last


def replace(chain: Chain | None) -> Chain | None:
    """Let ``chain`` answer everything until another one, or ``None``, takes its place; return the one before."""
    global _replaced
    before, _replaced = _replaced, chain
    return before


def read_options(setting: Any) -> SecretsOptions:
    """Read the options from a ``KOAN`` that is not complete settings yet; raises :class:`SecretOptionsError`."""
    if not isinstance(setting, Mapping):
        raise SecretOptionsError(f"KOAN: {type(setting).__name__} is not a dict")
    errors: list[OptionError] = []
    section = koan.effective(setting, errors).get("SECRETS", {})
    found = parse_options(SecretsOptions, section, "KOAN['SECRETS']", errors)
    if found is None or errors:
        raise SecretOptionsError("\n".join(str(error) for error in errors))
    return found


def _options_in_force() -> tuple[SecretsOptions, bool]:
    """The options, and whether they are those of complete settings."""
    django = sys.modules.get("django.conf")
    if django is not None and django.settings.configured:
        return options(), True
    setting = _setting_under_way()
    if setting is not None:
        return read_options(setting), False
    module = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    if not module or _is_being_imported(module):
        return SecretsOptions(), False
    return options(), True


def _setting_under_way() -> Mapping[str, Any] | None:
    """The ``KOAN`` of the settings module that is being imported: the nearest module on the stack that has it."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if "KOAN" in frame.f_globals:
            found: Mapping[str, Any] = frame.f_globals["KOAN"]
            return found
    return None


def _is_being_imported(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


@koan.on_reset
def _forget() -> None:
    global _settled
    _settled = None


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()
    for chain in {id(each): each for each in (_settled, _last, _replaced) if each is not None}.values():
        chain.after_fork()


def _answer(body: str, in_authority: bool) -> str:
    """What core's templates get: the siblings of secrets resolve theirs without importing it."""
    reference = parse(body)
    return _encoded(get(reference).reveal(), reference, in_authority)


def _encoded(value: str, reference: SecretReference, in_authority: bool) -> str:
    encode = reference.encode == "url" or (reference.encode == "auto" and in_authority)
    return quote(value, safe="") if encode else value


def _forget_values() -> None:
    if (chain := _replaced or _settled) is not None:
        chain.cache.clear()


register(KIND, _answer, _forget_values)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
