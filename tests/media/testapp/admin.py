from django.contrib import admin

from koan_django.media.admin import MediaAssetAdmin

from .models import Photo


@admin.register(Photo)
class PhotoAdmin(MediaAssetAdmin):
    pass
