"""Addresses of the sample project."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    # Browsers ask for it on the pages of the admin too.
    path("favicon.ico", RedirectView.as_view(url="/static/gallery/icon.svg")),
    path("admin/", admin.site.urls),
    path("media/", include("koan_django.media.urls")),
    path("", include("koan_django.core.urls")),
    path("", include("sampleproject.gallery.urls")),
]
