"""What has happened on the buses, for receivers of any app."""

from __future__ import annotations

from django.dispatch import Signal

#: ``sender`` is the class of the bus, ``stage`` says how far it has come, as the facts do.
bus_state_changed = Signal()
