"""Core's jobs: the audit chain grows every minute, and loses what is too old once a day."""

from __future__ import annotations

from datetime import timedelta

from .dispatch import job


@job("koan_core.seal_audit", every=timedelta(minutes=1))
def seal_audit() -> None:
    """Seal the audit events that have no seal yet."""
    from .audit.sealing import seal

    seal()


@job("koan_core.forget_audit", every=timedelta(days=1))
def forget_audit() -> None:
    """Delete the batches of audit events that are older than the retention."""
    from .audit.forgetting import forget_old

    forget_old()
