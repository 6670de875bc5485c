from django.db import models


class Paper(models.Model):
    title = models.CharField(max_length=80)
    scan = models.FileField(upload_to="scans/", blank=True)
    cover = models.ImageField(upload_to="covers/", blank=True)
