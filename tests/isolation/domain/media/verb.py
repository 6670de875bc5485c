"""A picture is checked and stored, and its thumbnail rendered; without Celery that happens after the commit."""

import io

from django.core.files.base import ContentFile
from PIL import Image

from domain.media.models import Photo


def main() -> None:
    file = io.BytesIO()
    Image.new("RGB", (640, 480), "teal").save(file, "JPEG")
    photo = Photo.objects.upload(ContentFile(file.getvalue(), "teal.jpg"))
    photo.ensure_derivation("thumbnail")
    with photo.variants["thumbnail"].file.open() as stored, Image.open(stored) as picture:
        assert (picture.format, picture.size) == ("WEBP", (32, 24))
