"""Core in the admin: the Overview page, audit, health facts and leases. Other apps build theirs with :mod:`.kit`."""

from . import audit, overview, records  # noqa: F401  # they register themselves
