"""Drivers: what a backend of Django's ``STORAGES`` can do beyond Django's own interface."""
