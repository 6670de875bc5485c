"""What the parts of the gallery tell each other."""

from koan_django.messaging import IdempotencyKey, Message


class PhotoUploaded(Message):
    """A file arrived and is stored; nobody has looked into it yet."""

    upload_id: IdempotencyKey[int]

    class Meta:
        alias = "photo.uploaded"
        version = 1


class PhotoDerived(Message):
    """Every rendition of a photograph is there."""

    photo_id: IdempotencyKey[int]
    upload_id: int

    class Meta:
        alias = "photo.derived"
        version = 1
