"""``MediaAsset``: a stored picture, and what was made of it, in one table."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from asgiref.sync import sync_to_async
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from koan_django.storage import StoredFile

from . import addresses, deriving, lineage, receivers, requesting  # noqa: F401  # receivers connect themselves
from .files import MediaField
from .managers import MediaAssetManager

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

    from .querysets import DerivationQuerySet

A = TypeVar("A", bound="MediaAsset")

#: How long a caller of :meth:`MediaAsset.derive` waits for somebody else who renders the same.
PATIENCE = timedelta(seconds=60)


class MediaAsset(StoredFile):
    """Abstract: a picture that was inspected before it was stored, with its lineage.

    An original has no ``source``. A variant is a row of the same model: ``relationship`` is the name of its recipe, and
    ``derivation_key`` says from which bytes, by which recipe and by which engine it came. Give the model
    ``class Meta(MediaAsset.Meta)``, or it loses the constraint that keeps a variant unique.
    """

    file = MediaField(
        _("file"),
        size_field="size",
        sha256_field="sha256",
        content_type_field="content_type",
        name_field="original_name",
        profile_field="profile",
    )
    # It takes the place of the one below, also in the order of saving: first.
    file.creation_counter = StoredFile._meta.get_field("file").creation_counter

    source = models.ForeignKey(
        "self",
        verbose_name=_("source"),
        on_delete=models.CASCADE,
        related_name="derivatives",
        null=True,
        blank=True,
        editable=False,
    )
    relationship = models.CharField(_("relationship"), max_length=64, blank=True, editable=False, db_index=True)
    derivation_key = models.CharField(_("derivation key"), max_length=64, null=True, editable=False)
    width = models.PositiveIntegerField(_("width"), null=True, editable=False, help_text=_("In pixels, as shown."))
    height = models.PositiveIntegerField(_("height"), null=True, editable=False, help_text=_("In pixels, as shown."))
    format = models.CharField(_("format"), max_length=16, blank=True, editable=False)
    stored_at = models.DateTimeField(_("stored at"), default=timezone.now, editable=False)

    objects: ClassVar[MediaAssetManager[Self]] = MediaAssetManager()

    class Meta:
        abstract = True
        constraints = (
            models.UniqueConstraint(fields=("source", "derivation_key"), name="%(app_label)s_%(class)s_variant"),
        )

    @classmethod
    def check(cls, **kwargs: Any) -> list[CheckMessage]:
        from .checks import check_asset

        return [*super().check(**kwargs), *check_asset(cls)]

    def ensure_derivation(self, name: str) -> Self | None:
        """Return the variant of the recipe ``name``, or have it rendered elsewhere and return ``None``.

        ``None`` also means that it has failed for good: :meth:`derivations` says why. Without a worker it is rendered
        here, after the commit. Raises ``RecipeNotFoundError``.
        """
        return requesting.ensure(self, name)

    def derive(self, *names: str, wait: timedelta = PATIENCE) -> dict[str, Self]:
        """Return the variants of the recipes ``names``; what is missing is rendered here, from one decoding.

        For a handler outside a transaction. What somebody else is rendering is waited for, at most ``wait``; then
        ``DerivationBusyError`` is raised. Raises ``RefusedError`` for a picture that cannot be decoded, and
        ``DerivationFailedError`` for a recipe that has failed for good.
        """
        return deriving.derive(self, names, wait=wait)

    def derivations(self) -> DerivationQuerySet:
        """Return the records of what was asked for: state, attempts, error, times."""
        return requesting.records(self)

    @property
    def variants(self) -> dict[str, Self]:
        """The variants by recipe name, the current one of each. Uses ``prefetch_related("derivatives")``."""
        return lineage.variants(self)

    def ancestors(self) -> list[Self]:
        """Return what this was made from, nearest first, in one query."""
        return lineage.ancestors(self)

    def descendants(self) -> models.QuerySet[Self]:
        """Return everything that was made from this, in one query."""
        return lineage.descendants(self)

    def inherited(self) -> dict[str, Any]:
        """Return the values that a new variant of this takes over.

        These are the columns that the model itself adds, except unique ones: a variant belongs to whom its source
        belongs. Override it where a column means something else on a variant.
        """
        return lineage.inherited(self)

    @property
    def address(self) -> str:
        """Where the delivery view serves these bytes: it changes with them, so it may be cached for ever."""
        return addresses.of_asset(self)

    def variant_address(self, name: str) -> str:
        """Return where the delivery view serves the variant of the recipe ``name``, whether it exists or not.

        Asks neither the database nor the storage.
        """
        return addresses.of_variant(self, name)

    async def aensure_derivation(self, name: str) -> Self | None:
        """Async twin of :meth:`ensure_derivation`."""
        return await sync_to_async(self.ensure_derivation)(name)

    async def aderive(self, *names: str, wait: timedelta = PATIENCE) -> dict[str, Self]:
        """Async twin of :meth:`derive`."""
        return await sync_to_async(self.derive)(*names, wait=wait)

    async def aancestors(self) -> list[Self]:
        """Async twin of :meth:`ancestors`."""
        return await sync_to_async(self.ancestors)()
