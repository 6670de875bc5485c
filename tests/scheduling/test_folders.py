"""Celery's filesystem transport, as ``install(app)`` leaves it."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from kombu import Connection

from koan_django.celery import folders
from tests.services import wait_until

WRITER = """
import sys
from kombu import Connection
from koan_django.celery import folders
folders.use()
queue, folder, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Connection("filesystem://", transport_options={
    "data_folder_in": folder, "data_folder_out": folder, "control_folder": folder + "/control"}) as connection:
    box = connection.SimpleQueue(queue)
    for number in range(count):
        box.put({"number": number, "body": "x" * 20_000})
"""


@pytest.fixture
def connection(tmp_path):
    folders.use()
    options = {
        "data_folder_in": str(tmp_path),
        "data_folder_out": str(tmp_path),
        "control_folder": str(tmp_path / "control"),
        "polling_interval": 0.001,
    }
    with Connection("filesystem://", transport_options=options) as made:
        yield made


def test_filesystem_means_our_transport(connection):
    assert isinstance(connection.transport, folders.Transport)


def test_who_reads_while_messages_are_written_reads_whole_messages(connection, tmp_path):
    channel, count = connection.channel(), 2000
    connection.SimpleQueue("box")
    with subprocess.Popen([sys.executable, "-c", WRITER, "box", str(tmp_path), str(count)]) as writer:
        seen, deadline = [], time.monotonic() + 60
        while len(seen) < count and time.monotonic() < deadline:
            try:
                seen.append(channel._get("box")["body"])
            except Exception as error:
                if type(error).__name__ != "Empty":
                    raise
        assert writer.wait(20) == 0
    assert len(seen) == count
    wait_until(lambda: not list(tmp_path.glob("*.part")), what="no rest")
