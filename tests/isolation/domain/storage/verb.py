"""A file is stored with its hash, read in part, and gone with its row."""

import hashlib
from pathlib import Path

from domain.storage.models import Invoice


def main() -> None:
    invoice = Invoice.objects.create_text("inv-123.txt", "hello")
    assert invoice.sha256 == hashlib.sha256(b"hello").hexdigest()
    assert invoice.open_range(1, 3).read() == b"ell"
    stored = Path(invoice.file.path)
    assert stored.read_text() == "hello"
    invoice.delete()
    assert not stored.exists()
