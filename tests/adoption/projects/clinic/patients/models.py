from django.db import models


class Letter(models.Model):
    text: "models.FileField" = models.FileField(
        "the letter",
        upload_to="letters/",
    )
