"""What is wrong with the declaration of a handler."""

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, get_type_hints

from koan_django.core.circuits import BreakerPolicy
from koan_django.core.retry import RetryPolicy

from .conf import GROUP
from .envelope import Context, Envelope
from .messages import Message, is_abstract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PATTERN = re.compile(r"([A-Za-z0-9_-]+|\*|#)(\.([A-Za-z0-9_-]+|\*|#))*")
#: What no message is: a handler of one that is annotated so was written for something else.
_OTHERS = (bool, bytes, dict, float, int, str)
#: Of the column in which the inbox remembers it.
NAME_LENGTH = 255
#: What the breaker of a handler is called, before the handler's name; together they fit into 200 characters.
BREAKER_PREFIX = "messaging.handler."
GUARDED_NAME_LENGTH = 200 - len(BREAKER_PREFIX)


def objections(
    function: Callable[..., Any],
    message: Any,
    group: str | None,
    name: str,
    batch: int | None,
    atomic: bool,
    max_attempts: int | None,
    retry: object,
    on_failure: str,
) -> Iterator[str]:
    """Yield what is wrong with a declaration."""
    if inspect.isclass(function) or not callable(function):
        yield "it is not a function"
    elif inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        yield "it is a generator: calling it would run nothing"
    else:
        yield from _signature_objections(function)
    if isinstance(message, str):
        if not _PATTERN.fullmatch(message):
            yield f"{message!r} is not a pattern"
    elif not (isinstance(message, type) and issubclass(message, Message)):
        yield f"{message!r} is neither a message class nor a pattern; a generic message has no alias for each type"
    elif is_abstract(message):
        yield f"{message.__name__} is abstract: nothing of it is ever sent"
    if group is not None and not GROUP.fullmatch(group):
        yield f"the group {group!r} is not usable in a queue name"
    if not 0 < len(name) <= NAME_LENGTH:
        yield f"its name has {len(name)} characters, not 1 to {NAME_LENGTH}: give another name="
    if batch is not None and batch < 1:
        yield "batch must be at least 1"
    if batch is not None and not atomic:
        yield "a batch is one transaction: leave out atomic=False"
    if max_attempts is not None and max_attempts < 1:
        yield "max_attempts must be at least 1"
    if retry is not None and not isinstance(retry, RetryPolicy):
        yield f"retry={retry!r} is not a RetryPolicy"
    elif retry is not None and max_attempts is not None:
        yield "the number of attempts is part of retry=: leave out max_attempts"
    if on_failure not in ("skip", "stop"):
        yield f"on_failure is 'skip' or 'stop', not {on_failure!r}"
    yield from _parameter_objections(function, message, batch)


def limit_objections(hard: timedelta | None, soft: timedelta | None) -> Iterator[str]:
    """Yield what is wrong with the time limits of a declaration."""
    if any(limit is not None and limit <= timedelta(0) for limit in (hard, soft)):
        yield "a time limit must be above 0"
    if hard is not None and soft is not None and soft >= hard:
        yield "soft_time_limit must be shorter than time_limit, which kills"


def breaker_objections(breaker: object, name: str) -> Iterator[str]:
    """Yield what is wrong with the breaker of a declaration."""
    if not isinstance(breaker, bool | BreakerPolicy):
        yield f"breaker is {breaker!r}, not True, False or a BreakerPolicy"
    elif breaker and len(name) > GUARDED_NAME_LENGTH:
        yield f"its name has {len(name)} characters; with a breaker at most {GUARDED_NAME_LENGTH}: give another name="


def _signature_objections(function: Callable[..., Any]) -> Iterator[str]:
    count = len(positional(function))
    if count not in (1, 2):
        yield f"it takes {count} arguments, not (message) or (message, context)"
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            yield f"nobody gives it the argument {parameter.name!r}"


def _parameter_objections(function: Callable[..., Any], message: Any, batch: int | None) -> Iterator[str]:
    """Yield why the first parameter is not the message, as far as its name and its annotation tell."""
    first = next(iter(positional(function)), None)
    if first is None:
        return
    if first.name in ("self", "cls"):
        yield f"it is a method: its first argument would be the message, and not {first.name}"
        return
    try:
        hint = get_type_hints(function).get(first.name)
    except Exception:  # what it is annotated with is there for a type checker only
        return
    given = Envelope if isinstance(message, str) else message
    if hint is Context:
        yield f"its first argument is the message, and the context the second: {first.name!r} is annotated with Context"
    elif hint in _OTHERS or (isinstance(hint, type) and issubclass(hint, Message | Envelope)):
        if batch is not None:
            yield f"with batch= it is given a list, and {first.name!r} is annotated with {hint.__name__}"
        elif not issubclass(given, hint):
            yield f"{first.name!r} is annotated with {hint.__name__}, and it is given {given.__name__}"


def positional(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters that a handler is called with."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter for parameter in inspect.signature(function).parameters.values() if parameter.kind in kinds]
