from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koan_django.media.catalogue import catalogue
from koan_django.media.exceptions import RecipeConflictError, RecipeNotFoundError
from koan_django.media.recipes import recipe
from koan_django.media.transforms import Background, Orient, Resize


@pytest.fixture(autouse=True)
def _forget_recipes():
    before = set(catalogue)
    yield
    for made in set(catalogue) - before:
        catalogue.remove(made)


def test_a_draft_registers_nothing_and_its_end_does():
    draft = recipe("only-a-draft").resize(10, 10)
    with pytest.raises(RecipeNotFoundError):
        catalogue.get("only-a-draft")
    finished = draft.encode("webp")
    assert catalogue.get("only-a-draft") is finished


def test_branches_of_one_draft_are_independent():
    draft = recipe("branch", version=1).orient()
    small, large = draft.resize(10), recipe("branch-large").orient().resize(100)
    assert small.encode("png").find(Resize) == Resize(10)
    assert large.encode("png").find(Resize) == Resize(100)
    assert draft.operations == (Orient(),)


def test_the_highest_version_is_the_default():
    first = recipe("versions", version=1).encode("webp")
    third = recipe("versions", version=3).encode("webp")
    assert catalogue.get("versions") is third
    assert catalogue.get("versions", 1) is first
    with pytest.raises(RecipeNotFoundError, match="versions@2"):
        catalogue.get("versions", 2)


def test_the_same_definition_again_returns_the_first_object():
    first = recipe("again").resize(10, 20).encode("webp")
    assert recipe("again").resize(10, 20, fit="inside").encode("webp", quality=82) is first


def test_another_definition_is_a_conflict_that_names_both_places():
    recipe("conflict").resize(10).encode("webp")
    with pytest.raises(RecipeConflictError) as caught:
        recipe("conflict").resize(11).encode("webp")
    assert str(caught.value).count("test_recipes:") == 2


def test_a_misspelt_name_gets_a_suggestion():
    recipe("thumbnail-tiny").encode("webp")
    with pytest.raises(RecipeNotFoundError, match="did you mean 'thumbnail-tiny'"):
        catalogue.get("thumbnail-tinny")


def test_the_canonical_form_holds_what_differs_from_the_defaults_and_not_the_name():
    finished = recipe("canon", version=2).resize(320, 240, fit="cover").orient().encode("webp", quality=82)
    assert json.loads(finished.canonical) == [
        2,
        [
            ["orient", 1, {}],
            ["resize", 1, {"fit": "cover", "height": 240, "width": 320}],
            ["encode", 1, {"format": "webp"}],
        ],
    ]
    assert finished.fingerprint == hashlib.sha256(finished.canonical.encode()).hexdigest()
    assert recipe("renamed", version=2).orient().resize(320, 240, fit="cover").encode("webp").fingerprint == (
        finished.fingerprint
    )


def test_the_order_of_the_verbs_changes_nothing():
    one = recipe("order-one").orient().background("#FFFFFF").resize(10).encode("jpeg")
    other = recipe("order-two").resize(10).background("#ffffff").orient().encode("jpeg")
    assert one.fingerprint == other.fingerprint


def test_a_raised_revision_gives_another_fingerprint(monkeypatch):
    before = recipe("revision").orient().encode("webp").fingerprint
    monkeypatch.setattr(Orient, "revision", 2)
    assert catalogue.get("revision").fingerprint != before


def test_the_fingerprint_is_the_same_in_another_process():
    code = (
        "from koan_django.media.recipes import recipe;"
        "print(recipe('other').orient().resize(64, 48, fit='cover').encode('jpeg', quality=70).fingerprint)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    mine = recipe("mine").orient().resize(64, 48, fit="cover").encode("jpeg", quality=70)
    assert run.stdout.strip() == mine.fingerprint


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: recipe("Upper"), "no name"),
        (lambda: recipe("a/b"), "no name"),
        (lambda: recipe(""), "no name"),
        (lambda: recipe("zero", version=0), "version"),
        (lambda: recipe("x").resize(), "width or a height"),
        (lambda: recipe("x").resize(0, 10), "between 1"),
        (lambda: recipe("x").resize(10, 10, fit="covr"), "did you mean 'cover'"),
        (lambda: recipe("x").resize(10).resize(20), "twice"),
        (lambda: recipe("x").background("red"), "#rrggbb"),
        (lambda: recipe("x").encode("wepb"), "did you mean 'webp'"),
        (lambda: recipe("x").encode("webp", quality=101), "between 1"),
        (lambda: recipe("x").encode("png", quality=90), "takes no quality"),
        (lambda: recipe("x").encode("jpeg", animated=True), "cannot be animated"),
    ],
)
def test_nonsense_is_refused_where_it_is_written(build, text):
    with pytest.raises(ValueError, match=text):
        build()


@pytest.mark.parametrize("quality", [82.0, True, "82"])
def test_a_quality_that_is_no_whole_number_is_refused(quality):
    with pytest.raises(TypeError, match="whole number"):
        recipe("x").encode("webp", quality=quality)


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_a_background_is_read_back(red, green, blue, alpha):
    assert Background(f"#{red:02x}{green:02x}{blue:02x}{alpha:02x}").rgba == (red, green, blue, alpha)
    assert Background(f"#{red:02x}{green:02x}{blue:02x}").rgba == (red, green, blue, 255)
