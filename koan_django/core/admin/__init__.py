"""Core in the admin: the Overview and Trail pages, audit and the records of core.

Other apps build theirs with :mod:`.kit`.
"""

from . import audit, breakers, overview, records, trail  # noqa: F401  # they register themselves
