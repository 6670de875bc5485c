"""What has happened to pictures. Both are sent after the commit, and a receiver that fails fails alone."""

from __future__ import annotations

from django.dispatch import Signal

#: ``sender`` is the model; ``source`` and ``variant`` are rows of it, ``recipe`` is the recipe.
variant_ready = Signal()
#: ``sender`` is the model; ``source`` is the row, ``recipe`` the recipe, ``stage`` and ``reason`` say why, for good.
derivation_failed = Signal()
