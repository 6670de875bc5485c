"""Core in the admin: the Overview and Trail pages, audit, health facts and leases.

Other apps build theirs with :mod:`.kit`.
"""

from . import audit, overview, records, trail  # noqa: F401  # they register themselves
