"""Ours and the peers on the same work, in one run: ``make bench``, ``make bench AREA=messaging``.

``harness.py`` measures, ``report.py`` shows and keeps, ``areas/`` holds the cases. Nothing here is part of the package.
"""
