"""Addresses of the sample project."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("media/", include("koan_django.media.urls")),
    path("", include("koan_django.core.urls")),
    path("", include("sampleproject.gallery.urls")),
]
