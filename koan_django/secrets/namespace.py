"""Resolves the references of a settings module where they stand."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from koan_django.core.templating import is_template, references

from .chain import Chain, not_found
from .exceptions import SecretNotFoundError, SecretReferenceError
from .offline import is_offline, placeholder
from .references import SecretReference, parse
from .resolver import KIND, adopt, fill, read_options
from .types import SecretText, SecretValue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping

    #: Receives the path of a text and the text; returns the same text to leave it.
    Change = Callable[[str, str], str]


def resolve_settings(namespace: MutableMapping[str, Any]) -> list[str]:
    """Resolve the references in the settings of ``namespace`` and return the names of those that changed.

    Call it as the last line of the settings module: ``secrets.resolve_settings(globals())``. The chain is read from
    ``namespace["KOAN"]``, which itself stays as it is: its references are resolved when they are used. Containers are
    built anew, never changed in place. All missing secrets are reported in one :class:`SecretNotFoundError`; with
    ``KOAN_SECRETS=offline`` they become placeholders that name them.
    """
    settings = {name: value for name, value in namespace.items() if name.isupper() and name != "KOAN"}
    found = Templates(settings)
    if not found.texts:
        return []
    rewrite = Rewriter(Filler(adopt(read_options(namespace.get("KOAN", {}))), found))
    changed = {name: rewrite(value, name) for name, value in settings.items()}
    names = [name for name, value in changed.items() if value is not settings[name]]
    namespace.update({name: changed[name] for name in names})
    return names


def rewritten(value: Any, chain: Chain) -> Any:
    """Return ``value`` with the references in it resolved by ``chain``."""
    found = Templates({"OPTIONS": value})
    return Rewriter(Filler(chain, found))(value, "OPTIONS") if found.texts else value


class Rewriter:
    """Walks plain containers and changes their texts.

    Only exact ``str``, ``list``, ``tuple``, ``set`` and ``frozenset``, named tuples, ``dict`` and what derives from it
    are entered; a container is built anew when something in it changed, and once however often it occurs.
    """

    def __init__(self, change: Change) -> None:
        self._change = change
        # Holds the originals too: an id is unique only as long as its object lives.
        self._seen: dict[int, tuple[object, object]] = {}

    def __call__(self, value: Any, path: str) -> Any:
        """Return ``value``, or what stands for it now."""
        if type(value) is str:
            return self._change(path, value)
        rebuild = _rebuild_of(value)
        if rebuild is None:
            return value
        if id(value) not in self._seen:
            self._seen[id(value)] = (value, value)  # a container that holds itself
            self._seen[id(value)] = (value, rebuild(self, value, path))
        return self._seen[id(value)][1]

    def mapping(self, value: dict[Any, Any], path: str) -> Any:
        """Rebuild a dict or what derives from it; keys stay."""
        new = {key: self(item, f"{path}[{key!r}]") for key, item in value.items()}
        changes = {key: item for key, item in new.items() if item is not value[key]}
        if not changes:
            return value
        made = copy(value)
        for key, item in changes.items():
            made[key] = item
        return made

    def sequence(self, value: Any, path: str) -> Any:
        """Rebuild a list, a tuple, a named tuple or a set."""
        old = list(value)
        new = [self(item, f"{path}[{index}]") for index, item in enumerate(old)]
        if all(map(_is, new, old)):
            return value
        return type(value)(*new) if hasattr(value, "_fields") else type(value)(new)


class Templates:
    """What a namespace asks for: the texts with references, and where each stands."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.texts: list[str] = []
        self.places: dict[SecretReference, list[str]] = {}
        walk = Rewriter(self._note)
        for name, value in namespace.items():
            walk(value, name)

    def _note(self, path: str, text: str) -> str:
        if is_template(text, kind=KIND):
            self.texts.append(text)
            for kind, body in references(text):
                if kind == KIND:
                    self.places.setdefault(_parsed(body, path), []).append(path)
        return text


class Filler:
    """Changes a template into its value. Each secret is asked for once, all of them before the first change."""

    def __init__(self, chain: Chain, found: Templates) -> None:
        self._missing: dict[SecretReference, str] = {}
        chain.warm(found.places)
        self._values = {reference: self._ask(chain, reference) for reference in found.places}
        if self._missing and not is_offline():
            raise _all_missing(chain, {reference: found.places[reference] for reference in self._missing})

    def __call__(self, path: str, text: str) -> str:
        """Return the value of ``text`` when it is a template."""
        if not is_template(text, kind=KIND):
            return text
        missing = [found.name for found in map(parse, _bodies(text)) if found in self._missing]
        return SecretText(fill(text, self._look_up), text, tuple(missing))

    def _ask(self, chain: Chain, reference: SecretReference) -> SecretValue | None:
        try:
            return chain.get(reference)
        except SecretNotFoundError:
            self._missing[reference] = placeholder(reference)
            return None

    def _look_up(self, reference: SecretReference) -> str:
        value = self._values[reference]
        return self._missing[reference] if value is None else value.reveal()


def _bodies(text: str) -> Iterable[str]:
    return (body for kind, body in references(text) if kind == KIND)


def _parsed(body: str, path: str) -> SecretReference:
    try:
        return parse(body)
    except SecretReferenceError as error:
        raise SecretReferenceError(f"{path}: {error.what}", why=error.why, fix=error.fix) from None


def _all_missing(chain: Chain, places: dict[SecretReference, list[str]]) -> SecretNotFoundError:
    error = not_found(list(places), chain.options.chain)
    listed = "; ".join(f"{reference} for {', '.join(paths)}" for reference, paths in places.items())
    return SecretNotFoundError(error.what, why=f"{error.why}; needed: {listed}", fix=error.fix)


def _rebuild_of(value: Any) -> Callable[[Rewriter, Any, str], Any] | None:
    if isinstance(value, dict):
        return Rewriter.mapping
    if type(value) in (list, tuple, set, frozenset) or (isinstance(value, tuple) and hasattr(value, "_fields")):
        return Rewriter.sequence
    return None


def _is(one: object, other: object) -> bool:
    return one is other
