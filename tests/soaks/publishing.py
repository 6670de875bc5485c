"""Publishes to a good queue and to a full one while confirms fail to come, and compares what was said with what is."""

from __future__ import annotations

import os
import time
from collections import Counter
from datetime import timedelta

import django

from tests.services.proxy import Proxy
from tests.services.rabbitmq import RabbitMQ

#: Messages of a round.
COUNT = 10_000


def soak(seconds: float, seed: int) -> tuple[bool, str]:
    """Publish rounds of 10,000 messages for ``seconds``, at least one; return whether the sums hold, and in words.

    The faults follow a fixed pattern: every fourth batch of a hundred is stalled, whatever the seed.
    """
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    server, said, rounds = RabbitMQ(), Counter[str](), 0
    server.start()
    try:
        began = time.monotonic()
        while not rounds or time.monotonic() - began < seconds:
            said += _round(server)
            rounds += 1
    except AssertionError as error:
        return False, f"{dict(said)} before this: {error}; the sums DO NOT HOLD"
    finally:
        server.stop()
    return True, f"{rounds} rounds of {COUNT}, said: {dict(said)}; the sums hold"


def _round(server: RabbitMQ) -> Counter[str]:
    from koan_django.messaging.buses.amqp.names import Names
    from koan_django.messaging.buses.amqp.publisher import Publisher
    from koan_django.messaging.conf import BusOptions
    from tests.messaging.test_publisher import no_false_success
    from tests.messaging.wire import wired

    with server.vhost() as vhost, Proxy.before(vhost.url) as proxy, wired(vhost.url) as wire:
        options = BusOptions(url=proxy.url(vhost.url), confirm_timeout=timedelta(seconds=0.5))
        publisher = Publisher(options, Names("soak"))
        publisher.start()
        try:
            return no_false_success(publisher, proxy, wire, COUNT)
        finally:
            publisher.stop()
