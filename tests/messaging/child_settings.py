"""The settings of the tests for a process of their own, on the database that the test is using."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

DATABASES["default"]["NAME"] = os.environ["KOAN_CHILD_DATABASE"]
