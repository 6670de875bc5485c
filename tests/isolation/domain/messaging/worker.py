"""A Celery worker of the project that ``alone.py`` makes: ``python -m domain.messaging.worker FOLDER``."""

import sys
from pathlib import Path

import alone
from celery import current_app

if __name__ == "__main__":
    alone.configure("messaging", alone.ROWS["messaging"], Path(sys.argv[1]))
    current_app.worker_main(["worker", "--pool", "solo", "--without-gossip", "--without-mingle"])
