"""Who is asked, in which order, and what ends the search."""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from typing import Any

import pytest

from koan_django.core import telemetry
from koan_django.core.redaction import redact_text
from koan_django.secrets import (
    SecretAccessError,
    SecretError,
    SecretNotFoundError,
    SecretOptionsError,
    SecretUnavailableError,
)
from koan_django.secrets.chain import Chain
from koan_django.secrets.conf import CacheOptions, ProviderOptions, SecretsOptions
from koan_django.secrets.references import parse

from .conftest import BACKEND, RemoteProvider


def chain(*aliases: str, cache: CacheOptions | None = None, **values: str) -> Chain:
    """A chain of the remote store and one in memory with ``values``."""
    memory = ProviderOptions(backend="koan_django.secrets.providers.memory.MemoryProvider", options={"values": values})
    remote = ProviderOptions(backend=BACKEND)
    return Chain(
        SecretsOptions(chain=aliases, providers={"vault": remote, "memory": memory}, cache=cache or CacheOptions())
    )


def raising(error: BaseException) -> Any:
    def fail() -> None:
        raise error

    return fail


def test_the_first_that_has_it_answers(remote: type[RemoteProvider]) -> None:
    remote.values.update(a="remote")
    found = chain("vault", "memory", a="memory", b="memory")
    values = [found.get(parse(name)) for name in ("a", "b")]
    assert [(value.reveal(), value.source) for value in values] == [("remote", "vault"), ("memory", "memory")]


def test_a_forced_provider_never_falls_back(remote: type[RemoteProvider]) -> None:
    found = chain("memory", a="memory")
    with pytest.raises(SecretNotFoundError) as caught:
        found.get(parse("vault:a"))
    assert "asked: vault" in str(caught.value)
    remote.values.update(c="remote")
    assert found.get(parse("vault:c")).reveal() == "remote"
    with pytest.raises(SecretNotFoundError):
        found.get(parse("c"))


def test_nobody_has_it_and_the_default_stands_in() -> None:
    found = chain("memory", a="")
    assert found.get(parse("b?default=x")).reveal() == "x"
    assert found.get(parse("b?default=x")).source == "default"
    assert found.get(parse("a?default=x")).reveal() == ""
    with pytest.raises(SecretNotFoundError) as caught:
        found.get(parse("b#f@1"))
    assert str(caught.value) == (
        "no secret 'b#f@1': asked: memory. Store it where one of them looks, or give the reference a ?default=."
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SecretAccessError("denied"), SecretAccessError),
        (SecretUnavailableError("down"), SecretUnavailableError),
        (ConnectionError("refused"), SecretUnavailableError),
        (KeyError("bug"), SecretUnavailableError),
    ],
)
def test_an_error_ends_the_search_and_no_default_hides_it(
    remote: type[RemoteProvider], error: Exception, expected: type[SecretError]
) -> None:
    remote.before = raising(error)
    for text in ("a", "a?default=x", "vault:a"):
        with pytest.raises(expected):
            chain("vault", "memory", a="memory").get(parse(text))


def test_an_unknown_provider_is_named_with_a_suggestion() -> None:
    with pytest.raises(SecretOptionsError, match=r"no provider 'vualt'.*did you mean 'vault'"):
        chain("memory").get(parse("vualt:a"))


def test_what_was_fetched_is_masked_from_then_on(remote: type[RemoteProvider]) -> None:
    remote.values.update(a="correct-horse", b='{"user": "battery", "password": "staple-9"}')
    found = chain("vault")
    found.get(parse("a"))
    found.get(parse("b"))
    assert redact_text("correct-horse battery staple-9") == "******** ******** ********"


def test_remote_fetches_are_told_without_values(remote: type[RemoteProvider]) -> None:
    remote.values.update(a="correct-horse")
    told: list[telemetry.Event] = []
    end = telemetry.subscribe(told.append, "secrets.")
    try:
        chain("vault", "memory", b="x").get(parse("a"))
        chain("memory", b="x").get(parse("b"))
    finally:
        end()
    assert [(event.phase, event.metadata) for event in told] == [
        (phase, {"provider": "vault", "reference": "a"}) for phase in ("start", "stop")
    ]


def test_several_are_warmed_in_one_call_per_provider(remote: type[RemoteProvider]) -> None:
    remote.values.update(a="1", b="2")
    found = chain("vault", "memory", c="3")
    references = [parse(text) for text in ("a", "b", "c", "a?default=x", "vault:b")]
    found.warm(references)
    assert remote.batches == [["a", "b", "c"]]
    assert [found.get(reference).reveal() for reference in references] == ["1", "2", "3", "1", "2"]
    assert len(remote.asked) == 3


def test_options_of_a_provider_may_refer_to_another_one(remote: type[RemoteProvider]) -> None:
    options = {"token": "{{secret:memory:token}}", "nested": [{"a": "{{secret:memory:token}}"}]}
    memory = ProviderOptions(
        backend="koan_django.secrets.providers.memory.MemoryProvider", options={"values": {"token": "t"}}
    )
    made = Chain(
        SecretsOptions(
            chain=("vault",), providers={"vault": ProviderOptions(backend=BACKEND, options=options), "memory": memory}
        )
    )
    provider = made.provider("vault")
    assert isinstance(provider, RemoteProvider)
    assert provider.options == {"token": "t", "nested": [{"a": "t"}]}


def test_options_of_a_provider_that_need_itself_are_refused() -> None:
    declared = ProviderOptions(backend=BACKEND, options={"token": "{{secret:token}}"})
    with pytest.raises(SecretOptionsError, match="needed to build itself"):
        Chain(SecretsOptions(chain=("vault",), providers={"vault": declared})).get(parse("a"))


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        (ProviderOptions(backend="nowhere.Provider"), "cannot be imported"),
        (ProviderOptions(backend="koan_django.secrets.Nothing"), "cannot be imported"),
        (ProviderOptions(backend="Provider"), "cannot be imported"),
        (ProviderOptions(backend="koan_django.secrets.SecretValue"), "no subclass of Provider"),
        (
            ProviderOptions(backend="koan_django.secrets.providers.file.FileProvider", options={"rooot": "/"}),
            "unexpected keyword argument 'rooot'",
        ),
    ],
)
def test_a_provider_that_cannot_be_built_says_why(declared: ProviderOptions, reason: str) -> None:
    with pytest.raises(SecretOptionsError, match=reason):
        Chain(SecretsOptions(chain=("x",), providers={"x": declared})).provider("x")


def test_a_provider_is_built_once_however_many_ask(remote: type[RemoteProvider]) -> None:
    found, made = chain("vault"), []
    together = threading.Barrier(8)

    def ask() -> None:
        together.wait()
        made.append(found.provider("vault"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(provider) for provider in made}) == 1


def test_ttl_of_a_reference_shortens_the_time_in_the_cache(remote: type[RemoteProvider]) -> None:
    remote.values.update(a="1")
    found = chain("vault", cache=CacheOptions(ttl=timedelta(hours=1)))
    for text in ("a", "a", "a?ttl=0", "a?ttl=0", "a?ttl=1h", "a"):
        found.get(parse(text))
    assert len(remote.asked) == 3


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of a fork beside threads, which is the point
def test_a_child_process_has_its_own_locks_and_no_connection_of_the_parent(
    remote: type[RemoteProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    from koan_django.secrets import resolver

    remote.values.update(a="1")
    found = chain("vault")
    monkeypatch.setattr(resolver, "_replaced", found)
    entered, leave = threading.Event(), threading.Event()

    def wait_inside() -> None:
        entered.set()
        leave.wait(30)

    remote.before = wait_inside
    slow = threading.Thread(target=found.get, args=(parse("a"),))
    slow.start()
    assert entered.wait(30)
    pid = os.fork()
    if pid == 0:  # the thread that fetches does not exist here
        code = 1
        try:
            remote.before = None
            code = 0 if found.get(parse("a")).reveal() == "1" and remote.closed else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    leave.set()
    slow.join()
    assert os.waitstatus_to_exitcode(status) == 0
    assert not remote.closed
