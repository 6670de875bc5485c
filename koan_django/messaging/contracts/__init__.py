"""What the messages of a project promise to those who send and handle them, for people, tools and CI."""

from .asyncapi import document
from .comparing import Change, changes
from .schemas import schema_of
from .snapshots import Snapshot, SnapshotError

__all__ = ["Change", "Snapshot", "SnapshotError", "changes", "document", "schema_of"]
