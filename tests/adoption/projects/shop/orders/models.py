from django.core.files.storage import storages
from django.db import models


def invoices():
    return storages["invoices"]


class Order(models.Model):
    number = models.CharField(max_length=20)
    ünï, proof = "✓", models.FileField(upload_to="proofs/")
    proof_of_payment = models.FileField(upload_to="proofs/", null=True)
    invoice = models.FileField(upload_to="2026/", storage=invoices)
