"""Models of a project that stores files."""

from __future__ import annotations

from django.db import models

from koan_django.storage import StoredFile, StoredFileField


class Invoice(StoredFile):
    number = models.CharField(max_length=32, unique=True)

    class Storage:
        profile = "hot"
        container = "invoices"


class ArchivedInvoice(StoredFile):
    number = models.CharField(max_length=32, unique=True)

    class Storage:
        profile = "cold"
        container = "archive/invoices"


class DraftInvoice(Invoice):
    """A proxy."""

    class Meta:
        proxy = True


class Scan(Invoice):
    """A child with a table of its own."""

    pages = models.IntegerField(default=1)


class Customer(models.Model):
    name = models.CharField(max_length=50)
    avatar = StoredFileField(profile="hot", container="avatars", blank=True)


class Document(StoredFile):
    """Names neither profile nor container."""

    customer = models.ForeignKey(Customer, models.CASCADE, related_name="documents", null=True, blank=True)
    title = models.CharField(max_length=50, blank=True)


class Plain(models.Model):
    """A model of a project that knows only Django's own field."""

    file = models.FileField(upload_to="plain/", storage=None)


class Snapshot(models.Model):
    """A model of such a project, on the default storage, whatever that is."""

    picture = models.ImageField(upload_to="pictures/", width_field="width", height_field="height", blank=True)
    width = models.IntegerField(null=True)
    height = models.IntegerField(null=True)
    notes = models.FileField(upload_to="notes/", blank=True)
