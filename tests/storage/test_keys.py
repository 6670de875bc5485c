"""Keys are safe whatever the user calls the file, and the user's name is kept."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koan_django.storage import keys
from koan_django.storage.exceptions import InvalidKeyError

SHAPE = re.compile(r"box/\d{4}/\d{2}/[0-9a-f]{32}(-[a-z0-9_-]{1,48})?(\.[a-z0-9_-]{1,10})?")


@given(st.text(st.characters(), max_size=400))
def test_any_name_gives_a_safe_key_and_a_name_that_can_be_kept(name: str) -> None:
    key = keys.fresh("box", name)
    assert SHAPE.fullmatch(key)
    assert keys.problem(key) == ""
    shown = keys.display(name)
    assert 0 < len(shown) <= 255
    assert "\0" not in shown
    assert "/" not in shown
    assert shown.encode().decode() == shown


@pytest.mark.parametrize(
    ("name", "kept", "ending"),
    [
        ("IMG 0001 (1).JPG", "IMG 0001 (1).JPG", "-img-0001-1.jpg"),
        ("Größe [ß] & Co.pdf", "Größe [ß] & Co.pdf", "-groe-co.pdf"),
        ("caf\u00e9.txt", "caf\u00e9.txt", "-cafe.txt"),
        ("cafe\u0301.txt", "cafe\u0301.txt", "-cafe.txt"),
        ("C:\\fakepath\\photo.png", "photo.png", "-photo.png"),
        ("../../etc/passwd", "passwd", "-passwd"),
        ("-rf.sh", "-rf.sh", "-rf.sh"),
        ("archive.tar.gz", "archive.tar.gz", "-archivetar.gz"),
        ("no extension", "no extension", "-no-extension"),
        (".htaccess", ".htaccess", "-htaccess"),
        ("nul\0l.txt", "null.txt", "-null.txt"),
        ("..", "unnamed", "-unnamed"),
        ("", "unnamed", "-unnamed"),
        ("a.thisisnoextension", "a.thisisnoextension", "-a"),
    ],
)
def test_names_and_what_the_key_makes_of_them(name: str, kept: str, ending: str) -> None:
    assert keys.display(name) == kept
    assert keys.fresh("box", name).endswith(ending)


@pytest.mark.parametrize("name", ["📷🎉.png", "日本語.png"])
def test_a_name_without_latin_letters_leaves_only_the_id(name: str) -> None:
    assert keys.display(name) == name
    assert re.fullmatch(r"box/\d{4}/\d{2}/[0-9a-f]{32}\.png", keys.fresh("box", name))


def test_a_name_that_is_too_long_keeps_its_extension() -> None:
    name = "ü" * 300 + ".jpeg"
    assert keys.display(name) == "ü" * 250 + ".jpeg"
    assert len(keys.fresh("box", name)) < 255


def test_keys_never_repeat() -> None:
    assert len({keys.fresh("box", "same.txt") for _ in range(1000)}) == 1000


def test_a_key_beside_another_is_in_its_folder() -> None:
    assert keys.beside("a/b/c-old.txt", "New.txt").startswith("a/b/")
    assert "/" not in keys.beside("old.txt", "New.txt")


def test_the_error_says_what_is_wrong_and_what_to_do() -> None:
    with pytest.raises(InvalidKeyError, match=r"'\.\./x' is no key: it holds the part '\.\.'\. Keep what a user typed"):
        keys.check("../x")
