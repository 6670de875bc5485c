"""``path("", include("koan_django.core.urls"))``."""

from django.urls import path

from . import views

app_name = "koan_core"
urlpatterns = [
    path("health", views.overall, name="health"),
    path("health/live", views.live, name="live"),
    path("health/ready", views.ready, name="ready"),
    path("koan/facts", views.facts_of_all, name="facts"),
]
