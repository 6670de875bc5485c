"""Addresses of the inbox service: ``v1/inbox/…``, ``health/…`` and ``metrics``."""

from django.urls import include, path

from . import views

urlpatterns = [
    path("metrics", views.metrics),
    path("", include("koan_django.inbox.urls")),
    path("", include("koan_django.core.urls")),
]
