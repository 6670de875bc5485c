"""Objects in a bucket, by django-storages' backend and the boto3 client that it makes."""

from .driver import S3Driver

__all__ = ["S3Driver"]
