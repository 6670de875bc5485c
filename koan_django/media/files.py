"""``MediaField``: a stored file that is inspected before it is stored, whatever way it comes in.

A form, the admin, a serializer, ``create``, ``bulk_create`` and ``upload`` all save through the field's value, so the
checks stand there and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.utils import timezone

from koan_django.storage import StoredFileField
from koan_django.storage.binding import Binding
from koan_django.storage.content import Content
from koan_django.storage.fieldfile import StoredFieldFile

from .conf import options
from .exceptions import RefusedError
from .inspection import inspect
from .naming import named
from .spooling import seekable

if TYPE_CHECKING:
    from os import PathLike

    from django.db.models import Model

    from .inspection import Inspection


class MediaFieldFile(StoredFieldFile):
    """The value of a :class:`MediaField`."""

    field: MediaField

    def save(self, name: str, content: Any, save: bool = True) -> None:
        """Inspect ``content``, then store it; raises :class:`RefusedError` before anything is written."""
        with seekable(content) as stream:
            found = inspect(stream)
            self.field.measured(self.instance, found)
            # The media type is that of the content: what the sender says is only a claim.
            super().save(name, Content(stream, name, found.mime), save)

    save.alters_data = True  # type: ignore[attr-defined]  # Django's templates ask for it


class MediaField(StoredFileField):
    """A stored file that must be a picture. It fills four more columns of the model.

    They hold the shown width and height in pixels, the name of the format, and when the bytes were stored.
    """

    attr_class = MediaFieldFile
    takes_direct_uploads = False
    measures = ("width", "height", "format", "stored_at")

    @property
    def companions(self) -> tuple[str, ...]:
        """The names of the columns that this field fills."""
        return (*super().companions, *self.measures)

    def measured(self, instance: Model, found: Inspection) -> None:
        """Fill the columns of ``instance`` with what was found."""
        for name, value in zip(self.measures, self.measurements(found), strict=True):
            setattr(instance, name, value)

    @staticmethod
    def measurements(found: Inspection) -> tuple[object, ...]:
        """Return the values of ``measures``."""
        return (found.width, found.height, found.format.name, timezone.now())

    def binding_of(self, model: type[Model]) -> Binding:
        """Return where new files go; a model that names no profile has that of ``KOAN["MEDIA"]``."""
        return super().binding_of(model).over(Binding(options().profile or ""))

    def generate_filename(self, instance: Model, filename: str | PathLike[str]) -> str:
        """Return a fresh key whose extension says what the content is, not what the sender called it."""
        return super().generate_filename(instance, named(str(filename), getattr(instance, "format", "")))

    def validate(self, value: Any, model_instance: Model | None) -> None:
        """Refuse in a form what saving would refuse."""
        super().validate(value, model_instance)
        if not value or value.is_stored:
            return
        try:
            with seekable(value.file) as stream:
                inspect(stream)
        except RefusedError as error:
            raise ValidationError(
                "%(reason)s", code=f"refused_{error.stage}", params={"reason": error.reason}
            ) from error
