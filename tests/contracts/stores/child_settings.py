"""The settings of the tests for a process of their own, with the stores that the test is using."""

import os

from tests.messaging.child_settings import *  # noqa: F403
from tests.settings import KOAN

if os.environ["KOAN_CHILD_REDIS"]:
    from tests.contracts.stores.stores import redis_cache, redis_stores

    CACHES = redis_cache(os.environ["KOAN_CHILD_REDIS"])
    KOAN["CORE"] = redis_stores(os.environ["KOAN_CHILD_PREFIX"])
