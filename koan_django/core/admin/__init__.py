"""Core in the admin: the Overview page, health facts and leases. Other apps build theirs with :mod:`.kit`."""

from . import overview, records  # noqa: F401  # they register themselves
