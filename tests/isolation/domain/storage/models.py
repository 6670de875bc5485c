from koan_django.storage import StoredFile


class Invoice(StoredFile):
    class Storage:
        container = "invoices"
