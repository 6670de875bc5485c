"""The cases, an area each: ``SERVERS`` that it needs, and ``cases()``."""
