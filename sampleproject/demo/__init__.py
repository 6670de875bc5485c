"""The demonstration: ``python -m sampleproject.demo``, or ``make demo``."""
