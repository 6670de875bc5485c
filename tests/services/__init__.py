"""Private servers for the tests.

Each server runs as a child of the test run, on a free port of the loopback interface, with its files in a temporary
folder, and is ended by its own pid. Nothing is started before a test asks for it.
"""

from .process import Process
from .waiting import free_port, wait_until

__all__ = ["Process", "free_port", "wait_until"]
