"""Runs a command with servers: ``python -m tests.services run postgres rabbitmq -- pytest -m database``.

The command finds them in its environment: ``KOAN_TEST_POSTGRES_URL`` or ``KOAN_TEST_MARIADB_URL``, and that as
``KOAN_TEST_DATABASE_URL`` (the default database of the tests), ``KOAN_TEST_RABBITMQ_URL`` and
``KOAN_TEST_RABBITMQ_MANAGEMENT_URL``, ``KOAN_TEST_REDIS_URL``, ``KOAN_TEST_S3_URL``. Its exit code is ours.

``share`` in place of ``run`` is for a test run that is spread over processes: they share the servers, the default
database stays what it is, and with ``SERVICES=none`` the command runs all the same.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from contextlib import ExitStack

from .catalogue import SERVERS
from .policy import PolicyError, unwanted
from .server import ServerError


def main(arguments: list[str]) -> int:
    """Start the servers, run the command, end the servers."""
    asked = _parse(arguments)
    command, shared = asked.command, asked.action == "share"
    try:
        if unwanted():
            if shared:
                return _run(command, dict(os.environ))
            print(f"SERVICES=none: not run: {' '.join(command)}", file=sys.stderr)
            return 0
        with ExitStack() as stack:
            environment = dict(os.environ)
            for name in asked.server:
                server = SERVERS[name]()
                server.start()
                stack.callback(server.stop)
                environment |= server.exports()
            if shared:
                environment.pop("KOAN_TEST_DATABASE_URL", None)
            return _run(command, environment)
    except (PolicyError, ServerError) as error:
        print(error, file=sys.stderr)
        return 1


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Run ``command``; Ctrl-C and SIGTERM are the command's to obey, and the servers outlive it."""
    with subprocess.Popen(command, env=environment) as process:
        signal.signal(signal.SIGINT, lambda number, frame: None)
        signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
        code = process.wait()
    return code if code >= 0 else 128 - code


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.services", description=__doc__)
    parser.add_argument("action", choices=["run", "share"])
    parser.add_argument("server", nargs="+", choices=list(SERVERS))
    ours, separator, command = _split(arguments)
    known = parser.parse_args(ours)
    if not separator or not command:
        parser.error("the command comes after --")
    known.command = command
    return known


def _split(arguments: list[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in arguments:
        return arguments, False, []
    at = arguments.index("--")
    return arguments[:at], True, arguments[at + 1 :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
