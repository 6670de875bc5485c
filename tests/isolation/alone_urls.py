"""The addresses of an app that stands alone."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("admin/", admin.site.urls), path("", include("koan_django.core.urls"))]
