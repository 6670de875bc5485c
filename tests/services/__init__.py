"""Private servers for the tests.

Each server runs as a child of the test run, on a free port of the loopback interface, with its files in a temporary
folder, and is ended by its own pid. Nothing is started before a test asks for it by a fixture (see ``fixtures.py``).

A server is looked for in the environment (``KOAN_TEST_RABBITMQ_URL``, ``KOAN_TEST_RABBITMQ_MANAGEMENT_URL``,
``KOAN_TEST_POSTGRES_URL``, ``KOAN_TEST_MARIADB_URL``, ``KOAN_TEST_REDIS_URL``, ``KOAN_TEST_S3_URL``,
``KOAN_TEST_CHROMIUM``), then among the programs of this machine, then in containers if a Docker engine answers.
``install.py`` installs what is missing, ``policy.py`` has the variables that say whether it may.
"""

from .process import Process
from .waiting import free_port, wait_until

__all__ = ["Process", "free_port", "wait_until"]
