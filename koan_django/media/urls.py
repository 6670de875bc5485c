"""``path("media/", include("koan_django.media.urls"))``: for staff, unless the project writes a view of its own."""

from django.urls import path

from .views import MediaView, VariantView

app_name = "koan_media"
urlpatterns = [
    path("<str:label>/<uuid:public_id>/<str:version>/<str:name>", MediaView.as_view(), name="asset"),
    path("<str:label>/<uuid:public_id>/<slug:recipe>/<str:version>/<str:name>", VariantView.as_view(), name="variant"),
]
