"""What media raises on purpose."""

from __future__ import annotations

from typing import Any, Literal

from koan_django.core.exceptions import KoanError, PermanentError, RegistrationError, TransientError

#: Where a file may be refused, in the order of the checks, cheapest first.
Stage = Literal["size", "magic", "format", "pixels", "decode"]
STAGES: tuple[Stage, ...] = ("size", "magic", "format", "pixels", "decode")


class MediaError(KoanError):
    """Base of media's errors."""


class RefusedError(MediaError, PermanentError):
    """A file is not accepted as a picture. ``stage`` says which check refused it, ``reason`` why, in plain words."""

    def __init__(self, stage: Stage, reason: str, *, fix: str = "") -> None:
        super().__init__(f"the picture is refused at the stage {stage!r}", why=reason, fix=fix)
        self.stage: Stage = stage
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return (_refused, (self.stage, self.reason, self.fix))


class RecipeConflictError(MediaError, RegistrationError):
    """Two places define one name and version differently."""


class RecipeNotFoundError(MediaError, PermanentError):
    """There is no recipe of this name or version in this process."""


class RenderError(MediaError, PermanentError):
    """A recipe cannot be rendered: no renderer knows the format, or the recipe breaks a limit."""


class SourceDamagedError(MediaError, PermanentError):
    """The stored bytes are not those that were uploaded."""


class SourceGoneError(MediaError, PermanentError):
    """The picture was deleted while it was being rendered."""


class SourceChangedError(MediaError, TransientError):
    """The picture was given another file while the old one was being rendered."""


class DerivationBusyError(MediaError, TransientError):
    """Somebody else is rendering and has not finished in the time that the caller would wait."""


class DerivationFailedError(MediaError, PermanentError):
    """A derivation has failed for good, for another reason than a refusal."""


def _refused(stage: Any, reason: str, fix: str) -> RefusedError:
    return RefusedError(stage, reason, fix=fix)
