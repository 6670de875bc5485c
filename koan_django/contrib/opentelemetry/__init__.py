"""OpenTelemetry spans of everything that koan-django does (the extra ``opentelemetry``).

Add ``"koan_django.contrib.opentelemetry"`` to ``INSTALLED_APPS``. Which provider and exporter the spans go to is up to
the project; without an SDK they cost next to nothing.
"""
