"""Prometheus metrics of everything that koan-django does (the extra ``prometheus``).

Add ``"koan_django.contrib.prometheus"`` to ``INSTALLED_APPS``. The metrics stand in the default registry of
prometheus-client; how they are exported is up to the project.
"""
