"""Partitions in order: who handles which, and what waits behind what."""
