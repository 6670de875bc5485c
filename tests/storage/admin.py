"""The admin of a project that stores files."""

from __future__ import annotations

from django.contrib import admin

from koan_django.storage.admin import StoredFileAdmin
from tests.storage.models import Customer, Document


@admin.register(Document)
class DocumentAdmin(StoredFileAdmin[Document]):
    fields = ("file", "title", "customer", *StoredFileAdmin.readonly_fields)


admin.site.register(Customer)
