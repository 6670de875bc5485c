"""The Celery app of live workers."""

import faulthandler
import os
import sys

from celery import Celery
from celery.signals import worker_process_init

from koan_django.celery import install

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.integration.project.settings")
app = Celery("project")
app.config_from_object("django.conf:settings", namespace="CELERY")
install(app)
app.autodiscover_tasks(["tests.integration.project"])


def tell_where_it_stands(**_: object) -> None:
    """A test that waits in vain shows the output of its workers, and with this where a child stands that does not end.

    Not in their parent: a child that is forked while the watchdog is set waits for it without end.
    """
    faulthandler.dump_traceback_later(25, file=sys.__stderr__)


worker_process_init.connect(tell_where_it_stands)
