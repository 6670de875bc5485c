"""Whether this process has been told to end."""

from __future__ import annotations

from billiard import common


def is_told_to_end() -> bool:
    """Say whether this child of a pool has got the signal by which the pool ends it.

    billiard answers that signal by a SystemExit in the midst of the handler, and kills the child 0.1 s later. A child
    that contains it like any other goes on and takes a message of the queue that it shares with the others; killed
    there, it takes that message along, or leaves the queue locked for all of them.
    """
    # What says so in public, terminate_handler_fired(), is younger than the versions of billiard that Celery allows.
    return bool(common._should_have_exited[0])
