from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("media/", include("koan_django.media.urls")),
    path("koan/", include("koan_django.inbox.urls")),
    path("", include("koan_django.core.urls")),
]
