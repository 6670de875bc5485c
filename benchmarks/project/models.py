"""What the peer keeps."""

from django.db import models


class Handled(models.Model):
    """A task that was done: what its author has to remember so as not to do it twice."""

    key = models.CharField(max_length=64, unique=True)
    at = models.DateTimeField(auto_now_add=True)


class Row(models.Model):
    """What a handler writes about its message."""

    number = models.BigIntegerField()
    at = models.DateTimeField(auto_now_add=True)
