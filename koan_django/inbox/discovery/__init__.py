"""Finds a service of the inbox by its name: services announce themselves on a bus, and answer who asks."""
