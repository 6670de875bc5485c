"""The Celery app of the peer whose tasks go through an outbox, with confirms, as its authors advise."""

import logging
import os

import structlog
from django_celery_outbox import OutboxCelery
from kombu import Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.project.settings")
QUEUE = "announced"
app = OutboxCelery("announcing")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.broker_transport_options = {"confirm_publish": True}
app.conf.task_queues = [Queue(QUEUE, routing_key=QUEUE, queue_arguments={"x-queue-type": "quorum"})]
# What it says about each batch would go to the terminal otherwise. Ours is silent too.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
