"""The pytest side: which tests need which servers, and what to show when something goes wrong.

A test that uses the fixture ``rabbitmq``, ``postgres``, ``pgbouncer``, ``mariadb``, ``redis`` or ``chromium``, straight
or by way of another, is marked ``services``. One that asks for them later (``request.getfixturevalue``) names them
itself: ``@pytest.mark.services("rabbitmq")``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .catalogue import REQUIREMENTS
from .policy import PolicyError, asked, unwanted
from .requirement import missing, remedy
from .server import Server

#: Servers of this run that were started.
STARTED = pytest.StashKey[list[Server]]()
#: Functions that return (title, text), to be shown should the test fail.
EVIDENCE = pytest.StashKey[list[Callable[[], tuple[str, str]]]]()
_LEFT_OUT = pytest.StashKey[int]()
_DIED = pytest.StashKey[dict[str, str]]()


def evidence(item: pytest.Item, show: Callable[[], tuple[str, str]]) -> None:
    """Show what ``show`` returns if ``item`` fails."""
    item.stash.setdefault(EVIDENCE, []).append(show)


def needs(item: pytest.Item) -> set[str]:
    """Return the names of the requirements that ``item`` uses."""
    names = getattr(item, "fixturenames", ())
    used = {name.removeprefix("own_") for name in names} & set(REQUIREMENTS)
    return used.union(*(mark.args for mark in item.iter_markers("services")))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STARTED] = []
    config.stash[_DIED] = {}
    config.stash[_LEFT_OUT] = 0
    try:
        asked()
    except PolicyError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if needs(item) and item.get_closest_marker("services") is None:
            item.add_marker("services")
        for name in getattr(item, "fixturenames", ()):
            if name.startswith("own_"):  # spread over processes, each would start one
                item.add_marker(pytest.mark.xdist_group(name))
    if not os.environ.get("KOAN_TEST_LONG"):
        long = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if not item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)
    if unwanted():
        out = [item for item in items if item.get_closest_marker("services")]
        items[:] = [item for item in items if not item.get_closest_marker("services")]
        config.stash[_LEFT_OUT] = len(out)
        config.hook.pytest_deselected(items=out)


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly:
        return
    needed = set().union(*(needs(item) for item in session.items))
    lacking = missing(REQUIREMENTS[name] for name in sorted(needed))
    if lacking:
        raise pytest.UsageError(remedy(lacking))


def pytest_runtest_setup(item: pytest.Item) -> None:
    used = needs(item)
    for server in item.config.stash[STARTED]:
        if server.name in used and (how := server.died()) is not None:
            item.config.stash[_DIED][server.title] = how
            pytest.fail(f"{server.title} died earlier in this run: {how}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[misc]  # pytest sends it
    # Between the processes of a run only what can be encoded travels.
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    if report.failed:
        for show in item.stash.get(EVIDENCE, []):
            report.sections.append(_safely(show))
        for server in item.config.stash[STARTED]:
            if (how := server.died()) is not None:
                item.config.stash[_DIED][server.title] = how
                report.sections.append((f"{server.title} died", how))
    return report  # type: ignore[return-value]  # as a wrapper must


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[_LEFT_OUT]:
        count = config.stash[_LEFT_OUT]
        terminalreporter.write_line(f"SERVICES=none: tests left out because they need servers: {count}", yellow=True)
    for title, how in config.stash[_DIED].items():
        terminalreporter.write_line(f"{title} died during the run: {how.splitlines()[0]}", red=True)


def _safely(show: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    try:
        return show()
    except Exception as error:  # evidence that cannot be had must not hide the failure
        return "evidence", f"{type(error).__name__}: {error}"
