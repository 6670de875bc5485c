"""App configuration of the gallery."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class GalleryConfig(AppConfig):
    name = "sampleproject.gallery"
    label = "gallery"
    verbose_name = _("Gallery")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import story  # noqa: F401  # it registers itself
