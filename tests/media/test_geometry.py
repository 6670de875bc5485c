from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koan_django.media.geometry import place
from koan_django.media.transforms import FITS, Resize

EDGE = 4096


@pytest.mark.parametrize(
    ("fit", "source", "box", "size", "canvas", "taken"),
    [
        ("inside", (4000, 3000), (320, 320), (320, 240), (320, 240), (0, 0, 4000, 3000)),
        ("inside", (3000, 4000), (320, 320), (240, 320), (240, 320), (0, 0, 3000, 4000)),
        ("inside", (100, 50), (320, 320), (100, 50), (100, 50), (0, 0, 100, 50)),
        ("outside", (4000, 3000), (320, 320), (427, 320), (427, 320), (0, 0, 4000, 3000)),
        ("outside", (100, 50), (320, 320), (100, 50), (100, 50), (0, 0, 100, 50)),
        ("contain", (4000, 3000), (320, 320), (320, 240), (320, 320), (0, 0, 4000, 3000)),
        ("contain", (100, 50), (320, 320), (100, 50), (320, 320), (0, 0, 100, 50)),
        ("fill", (4000, 3000), (320, 320), (320, 320), (320, 320), (0, 0, 4000, 3000)),
        ("fill", (4000, 100), (320, 320), (320, 100), (320, 100), (0, 0, 4000, 100)),
        ("cover", (4000, 3000), (320, 320), (320, 320), (320, 320), (500, 0, 3500, 3000)),
        ("cover", (3000, 4000), (320, 320), (320, 320), (320, 320), (0, 500, 3000, 3500)),
        ("cover", (4000, 100), (320, 320), (100, 100), (100, 100), (1950, 0, 2050, 100)),
        ("cover", (100, 50), (320, 160), (100, 50), (100, 50), (0, 0, 100, 50)),
    ],
)
def test_fits(fit, source, box, size, canvas, taken):
    found = place(source, Resize(*box, fit=fit), EDGE)
    assert (found.size, found.canvas) == (size, canvas)
    assert found.box == pytest.approx(taken)


@pytest.mark.parametrize(
    ("fit", "size", "canvas"),
    [
        ("inside", (320, 160), (320, 160)),
        ("outside", (640, 320), (640, 320)),
        ("contain", (320, 160), (320, 320)),
        ("fill", (320, 320), (320, 320)),
        ("cover", (320, 320), (320, 320)),
    ],
)
def test_only_upscale_makes_a_small_picture_larger(fit, size, canvas):
    found = place((100, 50), Resize(320, 320, fit=fit, upscale=True), EDGE)
    assert (found.size, found.canvas) == (size, canvas)


@pytest.mark.parametrize(
    ("resize", "size"), [(Resize(width=400), (400, 300)), (Resize(height=300), (400, 300)), (None, (4000, 3000))]
)
def test_one_side_is_enough(resize, size):
    assert place((4000, 3000), resize, EDGE).size == size


def test_no_side_is_longer_than_the_limit():
    assert place((10_000, 5_000), None, 4096).size == (4096, 2048)
    assert place((10_000, 100), Resize(9000, 100, fit="outside"), 4096).size == (4096, 41)
    assert place((10_000, 10_000), Resize(8192, 4096, fit="cover"), 4096).canvas == (4096, 2048)


_side = st.integers(1, 20_000)


@given(_side, _side, _side, _side, st.sampled_from(FITS), st.booleans())
def test_every_placement_can_be_drawn(width, height, across, down, fit, upscale):
    found = place((width, height), Resize(across, down, fit=fit, upscale=upscale), EDGE)
    left, top, right, bottom = found.box
    assert 0 <= left < right <= width + 1e-6
    assert 0 <= top < bottom <= height + 1e-6
    for inner, outer in zip(found.size, found.canvas, strict=True):
        assert 1 <= inner <= outer <= EDGE
    if not upscale:
        assert found.size[0] <= width
        assert found.size[1] <= height
