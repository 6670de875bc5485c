"""Soaks: real processes, real faults, and sums that must hold afterwards: ``make soak AREA=messaging SECONDS=120``.

A run is made of what its seed says: the same faults in the same order at the same times. What is running when they
strike is left to the machine. The last line says what was injected and whether the sums hold; the exit code is 1 when
they do not.
"""
