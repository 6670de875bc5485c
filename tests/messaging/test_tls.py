"""A broker behind TLS, with a certificate authority of one's own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from koan_django.messaging import send_many
from koan_django.messaging.buses.amqp.link import Link
from koan_django.messaging.exceptions import BusUnavailableError
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, listening
from tests.services.rabbitmq import RabbitMQ
from tests.services.waiting import free_port, wait_until

#: In one process: each would start a broker.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("tls")]


class SecureRabbitMQ(RabbitMQ):
    """It listens for TLS at 127.0.0.1, which stands in its certificate; ``authority`` has signed it."""

    secure_url = ""
    authority = ""

    def _configure(self, management: int) -> None:
        super()._configure(management)
        folder, port = self._files(), free_port()
        certificates(folder)
        self.authority = str(folder / "ca.pem")
        self.secure_url = f"amqps://guest:guest@127.0.0.1:{port}/%2F"
        with (folder / "rabbitmq.conf").open("a") as file:
            file.write(f"listeners.ssl.1 = 127.0.0.1:{port}\n")
            for option, name in (("cacertfile", "ca.pem"), ("certfile", "broker.pem"), ("keyfile", "broker.key")):
                file.write(f"ssl_options.{option} = {folder / name}\n")


def certificates(folder: Path) -> None:
    """Make an authority and the broker's certificate."""
    openssl = shutil.which("openssl")
    assert openssl is not None, "openssl makes the certificates: install it"

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], check=True, capture_output=True, cwd=folder, timeout=60)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("req", "-x509", *new, "-days", "2", "-subj", "/CN=Test CA", "-keyout", "ca.key", "-out", "ca.pem")
    run("req", *new, "-subj", "/CN=broker", "-keyout", "broker.key", "-out", "broker.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    run("x509", "-req", "-in", "broker.csr", *signing, "-out", "broker.pem")


@pytest.fixture(scope="module")
def broker() -> Iterator[SecureRabbitMQ]:
    if RabbitMQ.source(shared=False) != "binaries":
        pytest.skip("a broker can be configured where its binaries are: install rabbitmq-server")
    server = SecureRabbitMQ(own=True)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def test_messages_go_through_tls_both_ways(broker: SecureRabbitMQ, use_bus: UseBus) -> None:
    """So many that reads and writes span records; what TLS has decrypted no selector announces."""
    bus = use_bus(f"{broker.secure_url}?ssl_ca_certs={broker.authority}", CONFIRM_TIMEOUT=20)
    with listening(OrderPlaced, group="billing") as calls, running():
        receipts = send_many(OrderPlaced(number) for number in range(800))
        assert {receipt.state for receipt in receipts} == {"published"}
        assert all(OrderPlaced(number).send().state == "published" for number in range(800, 820))
        wait_until(lambda: len(calls) == 820, 60, "all of them to be handled")
    assert bus.publisher._link._socket.version().startswith("TLS")


def test_a_broker_of_an_unknown_authority_is_refused(broker: SecureRabbitMQ) -> None:
    link = Link(broker.secure_url, "test")
    try:
        with pytest.raises(BusUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            link.connect()
    finally:
        link.disconnect()


def test_another_name_in_the_certificate_is_refused(broker: SecureRabbitMQ) -> None:
    """kombu turns ``localhost`` into 127.0.0.1, but the name that was asked for is what counts."""
    url = broker.secure_url.replace("127.0.0.1", "localhost") + f"?ssl_ca_certs={broker.authority}"
    link = Link(url, "test")
    try:
        with pytest.raises(BusUnavailableError, match=r"(?i)hostname mismatch|not valid for"):
            link.connect()
    finally:
        link.disconnect()
