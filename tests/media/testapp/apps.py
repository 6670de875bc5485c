from django.apps import AppConfig


class TestMediaConfig(AppConfig):
    name = "tests.media.testapp"
    label = "media_tests"
