"""The fixtures that tests use. Servers start on first use and serve the whole run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import pytest

from . import waiting
from .chromium import Chromium
from .mariadb import MariaDB
from .pgbouncer import PgBouncer
from .plugin import STARTED, evidence
from .postgres import Postgres
from .process import Process
from .rabbitmq import RabbitMQ, Vhost
from .redis import Redis
from .s3 import S3, Bucket
from .server import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, WebError

S = TypeVar("S", bound=Server)


class StartProcess(Protocol):
    """Starts a live process, ended with the test. Its output is shown if the test fails."""

    def __call__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process: ...


@pytest.fixture(scope="session")
def rabbitmq(pytestconfig: pytest.Config) -> Iterator[RabbitMQ]:
    """The broker of this run: ``url``, ``management_url``, ``api()`` and ``with rabbitmq.vhost() as vhost``."""
    yield from _serve(pytestconfig, RabbitMQ())


@pytest.fixture(scope="session")
def own_rabbitmq(pytestconfig: pytest.Config) -> Iterator[RabbitMQ]:
    """A broker that a test may stop, or bring into trouble with ``control()``; the others do not use it."""
    if RabbitMQ.source(shared=False) != "binaries":
        pytest.skip("a broker can be controlled where its binaries are: install rabbitmq-server")
    yield from _serve(pytestconfig, RabbitMQ(own=True))


@pytest.fixture(scope="session")
def own_postgres(pytestconfig: pytest.Config) -> Iterator[Postgres]:
    """A server that a test may restart; the others do not use it."""
    if Postgres.source(shared=False) != "binaries":
        pytest.skip("a server can be restarted where its binaries are: install postgresql")
    yield from _serve(pytestconfig, Postgres(own=True))


@pytest.fixture
def vhost(rabbitmq: RabbitMQ) -> Iterator[Vhost]:
    """A virtual host for this test alone: ``name``, ``url``, ``queues()``."""
    with rabbitmq.vhost() as made:
        yield made


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Iterator[Postgres]:
    """The PostgreSQL of this run: ``dsn`` and ``with postgres.database() as dsn``."""
    yield from _serve(pytestconfig, Postgres())


@pytest.fixture
def postgres_database(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty PostgreSQL database for this test alone."""
    with postgres.database() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def pgbouncer(pytestconfig: pytest.Config) -> Iterator[PgBouncer]:
    """A PostgreSQL behind a pooler that hands out connections by transaction: ``dsn`` and ``database()``."""
    yield from _serve(pytestconfig, PgBouncer())


@pytest.fixture(scope="session")
def mariadb(pytestconfig: pytest.Config) -> Iterator[MariaDB]:
    """The MariaDB of this run: ``dsn`` and ``with mariadb.database() as dsn``."""
    yield from _serve(pytestconfig, MariaDB())


@pytest.fixture(scope="session")
def redis(pytestconfig: pytest.Config) -> Iterator[Redis]:
    """The Redis of this run: ``url``. Its keys are shared by all tests."""
    yield from _serve(pytestconfig, Redis())


@pytest.fixture(scope="session")
def s3(pytestconfig: pytest.Config) -> Iterator[S3]:
    """The object store of this run: ``url``, ``options``, ``client`` and ``with s3.bucket() as bucket``."""
    yield from _serve(pytestconfig, S3())


@pytest.fixture
def bucket(s3: S3) -> Iterator[Bucket]:
    """A bucket for this test alone: ``name``, ``options``, ``client``, ``objects()``, ``unfinished()``."""
    with s3.bucket() as made:
        yield made


@pytest.fixture(scope="session")
def chromium() -> Chromium:
    """The browser of this machine; tests use :func:`page`."""
    return Chromium()


@pytest.fixture
def browser(chromium: Chromium, monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    """A browser started for this test. The test may use the ORM beside it, but not ``asyncio.run``."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with chromium.browser() as started:
        yield started


@pytest.fixture
def browser_errors() -> list[str]:
    """What the pages of this test have complained about. A test that expects an error takes it out of the list."""
    return []


@pytest.fixture
def page(browser: Browser, browser_errors: list[str], request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Page]:
    """An empty page in a fresh context. The test fails on any error in a console and any uncaught exception."""

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            browser_errors.append(f"console: {message.text} ({message.location.get('url', '')})")

    def on_exception(error: WebError) -> None:
        browser_errors.append(f"exception: {error.error}")

    context = browser.new_context()
    context.route("**/favicon.ico", lambda route: route.fulfill(status=204))  # browsers ask for it unasked
    context.on("console", on_console)
    context.on("weberror", on_exception)
    opened = context.new_page()
    evidence(request.node, lambda: ("browser", _picture(opened, tmp_path / "page.png", browser_errors)))
    yield opened
    context.close()
    if browser_errors:
        pytest.fail("the browser reported errors:\n" + "\n".join(browser_errors), pytrace=False)


@pytest.fixture
def process(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StartProcess]:
    """Start live processes: ``web = process("web", [sys.executable, "manage.py", "runserver"])``."""
    started: list[Process] = []

    def start(
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        made = Process(name, argv, tmp_path / f"{name}-{len(started)}.log", env=env, cwd=cwd)
        started.append(made)
        evidence(request.node, lambda: (f"output of {made!r}", made.tail()))
        return made

    yield start
    for made in reversed(started):
        made.stop()


@pytest.fixture
def free_port() -> int:
    """A port of the loopback interface that is free now."""
    return waiting.free_port()


def _serve(config: pytest.Config, server: S) -> Iterator[S]:
    server.start()
    config.stash[STARTED].append(server)
    yield server
    config.stash[STARTED].remove(server)
    how = server.died()
    server.stop()
    if how is not None:
        pytest.fail(f"{server.title} died during the run: {how}", pytrace=False)


def _picture(page: Page, path: Path, errors: list[str]) -> str:
    page.screenshot(path=path, full_page=True)
    return "\n".join([f"at {page.url}", f"screenshot: {path}", *errors])
