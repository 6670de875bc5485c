"""Addresses of the gallery."""

from django.urls import path

from . import views
from .models import Photo
from .views import Renditions

app_name = "gallery"
urlpatterns = [
    path("", views.wall, name="wall"),
    path("upload", views.upload, name="upload"),
    path("feed.json", views.feed, name="feed"),
    path("photos/<uuid:public_id>", views.photo, name="photo"),
    path("photos/<uuid:public_id>/trail.json", views.trail, name="trail"),
    path("renditions/<uuid:public_id>/<str:version>/<str:name>", Renditions.as_view(model=Photo), name="rendition"),
    path("kill-worker", views.kill_worker, name="kill-worker"),
]
