"""The dramatiq actors of the peer."""

import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from .marks import mark

dramatiq.set_broker(RabbitmqBroker(url=os.environ["BENCH_AMQP_URL"]))


@dramatiq.actor(queue_name="actors")
def empty(number: int, text: str) -> None:
    mark(number)
