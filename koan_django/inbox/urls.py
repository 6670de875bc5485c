"""``path("koan/", include("koan_django.inbox.urls"))``: the inbox for others, over HTTP."""

from django.urls import path, re_path

from . import views

app_name = "koan_inbox"
urlpatterns = [
    path("v1/inbox/openapi.json", views.document, name="openapi"),
    path("v1/inbox/try-begin", views.try_begin, name="try-begin"),
    path("v1/inbox/mark-processed", views.mark_processed, name="mark-processed"),
    path("v1/inbox/renew", views.renew, name="renew"),
    path("v1/inbox/release", views.release, name="release"),
    # Whatever stands there, so that a key that can be none is told as a problem too.
    re_path(r"^v1/inbox/(?P<key>[\s\S]*)\Z", views.look, name="look"),
]
