"""What the records say when an attempt came to nothing, and what that means for whoever asks again."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, get_args

from django.db import DatabaseError, transaction

from koan_django.core.classification import is_transient
from koan_django.core.redaction import redact_text

from .conf import options
from .exceptions import DerivationFailedError, MediaError, RefusedError, Stage
from .signals import derivation_failed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .assets import MediaAsset
    from .claiming import Claim
    from .models import Derivation

logger = logging.getLogger(__name__)


def conclude(asset: MediaAsset, claims: Sequence[Claim], error: BaseException) -> None:
    """Write down why ``claims`` came to nothing: for good, or until the next attempt."""
    for claimed in claims:
        try:
            if is_final(error):
                _fail(asset, claimed, error)
            else:
                claimed.rows.postponed(_reason(error), options().retry.jittered(claimed.attempts + 1))
        except DatabaseError:
            logger.warning("The end of %s could not be written; its lease ends by itself", claimed, exc_info=True)


def is_final(error: BaseException) -> bool:
    """Whether no other attempt can succeed. The end of the process says nothing about the picture."""
    return isinstance(error, Exception) and not is_transient(error)


def recorded(record: Derivation) -> MediaError:
    """Return the error that a failed ``record`` stands for."""
    if record.stage in get_args(Stage):
        return RefusedError(record.stage, record.reason)  # type: ignore[arg-type]  # it is one of them
    return DerivationFailedError(
        f"{record} has failed", why=record.reason, fix="Remove the cause, then render it again in the admin."
    )


def _fail(asset: MediaAsset, claimed: Claim, error: BaseException) -> None:
    stage, reason = getattr(error, "stage", ""), _reason(error)
    with transaction.atomic(using=claimed.held.using):
        if claimed.rows.failed(reason, stage=stage):
            told = partial(
                derivation_failed.send_robust,
                sender=type(asset),
                source=asset,
                recipe=claimed.recipe,
                stage=stage,
                reason=reason,
            )
            transaction.on_commit(told, using=claimed.held.using, robust=True)


def _reason(error: BaseException) -> str:
    if isinstance(error, RefusedError):
        return error.reason
    text = str(error) if isinstance(error, MediaError) else f"{type(error).__name__}: {error}"
    return redact_text(text)[:2000]
