"""RabbitMQ with its management plugin."""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from .process import Process, plain_environment
from .requirement import first
from .server import Server, ServerError
from .waiting import free_port, wait_until

_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
_CONFIG = """\
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
log.console = true
log.console.level = warning
log.file = false
collect_statistics_interval = 1000
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 1GB
"""
#: Two schedulers, and a distribution port that nobody outside reaches. They spin for a moment before they sleep, unlike
#: RabbitMQ's own choice: to be woken costs a virtual machine so much that a node starts in a third of the time.
_ERLANG = "+S 2:2 +sbwt very_short +sbwtdio very_short -kernel inet_dist_use_interface {127,0,0,1}"


@dataclass(frozen=True)
class Vhost:
    """A virtual host of its own. ``url`` is for AMQP; ``api`` asks the management API below ``/api``."""

    name: str
    url: str
    broker: RabbitMQ

    def queues(self) -> dict[str, dict[str, Any]]:
        """Return what the management API says of each queue, by name."""
        return {queue["name"]: queue for queue in self.broker.api("GET", f"queues/{quote(self.name, safe='')}")}


class RabbitMQ(Server):
    """A RabbitMQ node. ``url`` leads to the default vhost, ``management_url`` to the HTTP API's root."""

    title = "RabbitMQ"
    name = "rabbitmq"
    packages = ("rabbitmq-server",)
    units = ("rabbitmq-server.service", "epmd.service", "epmd.socket")
    variable = "KOAN_TEST_RABBITMQ_URL"
    management_variable = "KOAN_TEST_RABBITMQ_MANAGEMENT_URL"
    url: str
    management_url: str
    #: Arguments of the Erlang machine.
    erlang: ClassVar[str] = _ERLANG
    #: Quorum queues tell their depth each second: of the five that are usual most tests would wait for two or three.
    settings: ClassVar[str] = "-rabbit quorum_tick_interval 1000"
    _started_with: dict[str, str] | None = None

    @classmethod
    def binary(cls) -> Path | None:
        # Debian's name on PATH is a wrapper that becomes the system's user, with that user's files.
        return first("/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/homebrew/sbin/rabbitmq-server", _on_path())

    @contextmanager
    def vhost(self) -> Iterator[Vhost]:
        """Make a virtual host and yield it; it is deleted afterwards with all its queues and connections."""
        name = f"koan-{uuid.uuid4().hex[:12]}"
        self.api("PUT", f"vhosts/{name}", {})
        user = unquote(urlsplit(self.url).username or "guest")
        self.api("PUT", f"permissions/{name}/{quote(user)}", {"configure": ".*", "write": ".*", "read": ".*"})
        try:
            yield Vhost(name, urlunsplit(urlsplit(self.url)._replace(path=f"/{name}")), self)
        finally:
            self.api("DELETE", f"vhosts/{name}")

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Ask the management API; ``path`` is below ``/api/``. Raises ``urllib.error.HTTPError``."""
        where = urlsplit(self.management_url)
        address = f"{where.scheme}://{where.hostname}:{where.port}{where.path.rstrip('/')}/api/{path}"
        user = f"{unquote(where.username or 'guest')}:{unquote(where.password or 'guest')}"
        request = urllib.request.Request(address, method=method)
        request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                content = response.read()
        except urllib.error.HTTPError as error:
            error.close()  # it holds the answer, whose socket would be found unclosed in another test
            raise
        return json.loads(content) if content else None

    def control(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` and return what it says. Only a server of this run can be controlled."""
        program = first("/usr/lib/rabbitmq/bin/rabbitmqctl", "/opt/homebrew/sbin/rabbitmqctl")
        if self._started_with is None or program is None:
            raise ServerError(f"{self.title} was not started here: rabbitmqctl cannot reach it")
        done = subprocess.run(
            [program, *arguments], env=self._started_with, capture_output=True, text=True, check=False, timeout=120
        )
        if done.returncode:
            raise ServerError(f"rabbitmqctl {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def kill(self) -> None:
        """End the node as a crash does; :meth:`revive` starts it again with its files."""
        self._processes.pop().kill()

    def revive(self) -> None:
        """Start the node that was killed."""
        program = self.binary()
        assert program is not None
        self._run("rabbitmq", [program], env=self._started_with)
        wait_until(self._check, 120, f"{self.title} to answer", errors=(OSError,))

    def exports(self) -> dict[str, str]:
        return {self.variable: self.url, self.management_variable: self.management_url}

    def _adopt(self) -> None:
        self.url = os.environ[self.variable]
        parts = urlsplit(self.url)
        credentials = f"{parts.username or 'guest'}:{parts.password or 'guest'}"
        usual = f"http://{credentials}@{parts.hostname}:15672"
        self.management_url = os.environ.get(self.management_variable, usual)

    def _contain(self) -> None:
        container = self._up()
        self._at(container.port(5672), container.port(15672))

    def _launch(self) -> None:
        program = self.binary()
        assert program is not None
        amqp, management, distribution, epmd = (free_port() for _ in range(4))
        env = self._started_with = self._environment(amqp, distribution, epmd)
        self._configure(management)
        # Without this one Erlang would leave a daemon that nobody owns.
        mapper = first("epmd", "/usr/bin/epmd", "/opt/homebrew/bin/epmd")
        assert mapper is not None
        self._run("epmd", [mapper, "-port", str(epmd), "-address", "127.0.0.1"], env=env)
        self._run("rabbitmq", [program], env=env)
        self._at(amqp, management)

    def _at(self, amqp: int, management: int) -> None:
        self.url = f"amqp://guest:guest@127.0.0.1:{amqp}/%2F"
        self.management_url = f"http://guest:guest@127.0.0.1:{management}"

    def _configure(self, management: int) -> None:
        folder = self._files()
        (folder / "rabbitmq.conf").write_text(_CONFIG.format(management=management))
        (folder / "enabled_plugins").write_text("[rabbitmq_management,rabbitmq_consistent_hash_exchange].\n")
        cookie = folder / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)

    def _environment(self, amqp: int, distribution: int, epmd: int) -> dict[str, str]:
        folder = self._files()
        return plain_environment(
            HOME=str(folder),
            ERL_EPMD_PORT=str(epmd),
            ERL_EPMD_ADDRESS="127.0.0.1",
            RABBITMQ_NODENAME=f"koan{amqp}@localhost",
            RABBITMQ_NODE_IP_ADDRESS="127.0.0.1",
            RABBITMQ_NODE_PORT=str(amqp),
            RABBITMQ_DIST_PORT=str(distribution),
            RABBITMQ_MNESIA_BASE=str(folder / "mnesia"),
            RABBITMQ_LOG_BASE=str(folder / "log"),
            RABBITMQ_PID_FILE=str(folder / "pid"),
            RABBITMQ_GENERATED_CONFIG_DIR=str(folder / "generated"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(folder / "enabled_plugins"),
            RABBITMQ_CONFIG_FILE=str(folder / "rabbitmq"),
            # Files that do not exist, so that the machine's own are not read.
            RABBITMQ_ADVANCED_CONFIG_FILE=str(folder / "none.config"),
            RABBITMQ_CONF_ENV_FILE=str(folder / "none.conf"),
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=f"{self.erlang} {self.settings}",
        )

    def _answers(self) -> bool:
        parts = urlsplit(self.url)
        with socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 5672), 2) as connection:
            connection.settimeout(2)
            connection.sendall(_PROTOCOL_HEADER)
            if not connection.recv(8):
                return False
        self.api("GET", "health/checks/virtual-hosts")
        return True

    def _end(self, process: Process) -> None:
        process.kill()  # a clean end takes seconds, and its files go anyway


def _on_path() -> Path | None:
    found = first("rabbitmq-server")
    return None if found is None or str(found).startswith("/usr/sbin") else found
