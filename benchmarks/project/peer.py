"""The Celery app of the peer: an ordinary one."""

import os

from celery import Celery
from kombu import Exchange, Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.project.settings")
app = Celery("peer")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.task_queues = [
    *(
        Queue(f"tasks.{kind}", routing_key=f"tasks.{kind}", queue_arguments={"x-queue-type": kind})
        for kind in ("classic", "quorum")
    ),
    # Its delayed delivery wants a topic exchange and a quorum queue.
    Queue("delayed", Exchange("delayed", "topic"), "delayed", queue_arguments={"x-queue-type": "quorum"}),
]
app.autodiscover_tasks(["benchmarks.project"])
