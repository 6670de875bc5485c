from __future__ import annotations

from django.db import models

from koan_django.media import MediaAsset


class Photo(MediaAsset):
    """A picture with columns of its own."""

    title = models.CharField(max_length=100, blank=True)
    slug = models.SlugField(unique=True, null=True)
    album = models.CharField(max_length=50)

    class Meta(MediaAsset.Meta):
        ordering = ("pk",)

    class Storage:
        profile = "hot"
        container = "photos"
