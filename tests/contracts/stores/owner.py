"""A process that takes the lease, is stopped, and wakes up too late: see test_paused_owner.py.

It says ``holding``, waits for a line, and writes under its token without asking anybody.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta

import django

django.setup()

from koan_django.core.exceptions import LeaseLostError  # noqa: E402
from koan_django.core.leases import acquire  # noqa: E402
from koan_django.core.models import Lease  # noqa: E402

name, go = sys.argv[1], sys.argv[2]
lease = acquire(name, timedelta(seconds=1))
assert lease is not None
with lease.keep() as heartbeat:
    print(f"holding {lease.token}", flush=True)
    while not os.path.exists(go):
        time.sleep(0.01)
    resource = Lease.objects.filter(name=f"{name}-resource", lease_token__lte=lease.token)
    print(f"written {resource.update(lease_token=lease.token)}", flush=True)
    try:
        lease.check()
        print("still mine", flush=True)
    except LeaseLostError as error:
        print(f"lost: {error}", flush=True)
