"""Infrastructure for a Django project from the first deployment.

Six apps on a small core: ``core``, ``secrets``, ``storage``, ``messaging``, ``inbox``, ``media`` and ``scheduling``.
Importing this package imports nothing else, so it is safe inside ``settings.py``.
"""

__version__ = "0.1.0.dev0"
