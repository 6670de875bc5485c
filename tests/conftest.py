"""Fixtures of all tests, and how hypothesis runs on machines that are busy."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.services.plugin", "tests.services.fixtures"]

# How fast examples are made says more about the machine's load than about the code.
settings.register_profile("koan", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("koan")
