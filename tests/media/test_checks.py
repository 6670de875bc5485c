from __future__ import annotations

import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.test.utils import isolate_apps

from koan_django.media import MediaAsset, recipe
from koan_django.media.catalogue import catalogue
from koan_django.media.conf import MediaOptions, options
from koan_django.testing import override_koan
from tests.media.testapp.models import Photo


def found() -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for message in checks.run_checks():
        grouped.setdefault(str(message.id), []).append(f"{message.msg} {message.hint}")
    return {name: texts for name, texts in grouped.items() if name.startswith("koan_media")}


def test_the_defaults_are_fine():
    assert found() == {}


def test_every_wrong_option_is_named_at_once():
    with override_koan(MEDIA={"MAX_PIXEL": 5, "FORMATS": ["jpg"], "LEASE": "soon"}):
        texts = "\n".join(found()["koan_media.E001"])
        assert "did you mean 'MAX_PIXELS'" in texts
        assert "did you mean 'jpeg'" in texts
        assert "not a duration" in texts
        with pytest.raises(ImproperlyConfigured):
            options()


@pytest.mark.parametrize(
    "wrong", [{"max_bytes": 0}, {"max_quality": 101}, {"formats": ()}, {"max_frames": 0}, {"max_edge": -1}]
)
def test_rules_of_the_options(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)).upper()):
        MediaOptions(**wrong)


def test_a_profile_that_is_not_there():
    with override_koan(MEDIA={"PROFILE": "hott"}):
        assert "did you mean 'hot'" in found()["koan_media.E003"][0]


def test_a_recipe_beyond_the_limits_says_where_it_stands():
    with override_koan(MEDIA={"MAX_QUALITY": 90, "MAX_EDGE": 300}):
        texts = "\n".join(found()["koan_media.E005"])
    assert "'too-fine@1' (tests.media.testapp.recipes:" in texts
    assert "'web@1'" in texts
    assert "320 pixels" in texts


def test_a_recipe_that_this_pillow_cannot_write(monkeypatch):
    from PIL import features

    made = recipe("next-generation").encode("avif")
    try:
        monkeypatch.setattr(features, "check", lambda name: False)
        messages = found()
    finally:
        catalogue.remove(made)
    assert "AVIF" in messages["koan_media.W001"][0]
    assert "LittleCMS" in messages["koan_media.W002"][0]


@isolate_apps("tests.media.testapp")
def test_a_model_that_lost_its_constraint():
    class Careless(MediaAsset):
        class Meta:
            app_label = "media_tests"

    assert [message.id for message in Careless.check() if str(message.id).startswith("koan_media")] == [
        "koan_media.E004"
    ]


@isolate_apps("tests.media.testapp")
def test_a_model_that_adds_to_the_meta():
    class Careful(MediaAsset):
        order = models.IntegerField(default=0)

        class Meta(MediaAsset.Meta):
            app_label = "media_tests"
            constraints = (
                *MediaAsset.Meta.constraints,
                models.UniqueConstraint(fields=("order",), name="media_tests_careful_order"),
            )

    assert Careful.check() == []


def test_the_model_of_the_tests_is_fine():
    assert Photo.check() == []


def test_pictures_never_enter_migrations():
    path, kwargs = Photo._meta.get_field("file").deconstruct()[1::2]
    assert path == "koan_django.storage.StoredFileField"
    assert not {"storage", "profile"} & set(kwargs)
