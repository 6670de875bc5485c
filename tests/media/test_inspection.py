from __future__ import annotations

import io
import pickle
import threading
import time
import warnings
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from koan_django.core import telemetry
from koan_django.media.conf import MediaOptions
from koan_django.media.exceptions import RefusedError
from koan_django.media.inspection import inspect
from tests.media import pictures

LIMITS = MediaOptions()


def look(content: bytes, limits: MediaOptions = LIMITS, **given):
    return inspect(io.BytesIO(content), limits=limits, **given)


def refusal(content: bytes, limits: MediaOptions = LIMITS, **given) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        look(content, limits, **given)
    return caught.value


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_picture_is_measured_as_it_is_shown(orientation):
    found = look(pictures.camera(orientation))
    assert (found.width, found.height) == (400, 300)
    assert found.orientation == orientation
    assert (found.mime, found.frames, found.has_gps, found.has_alpha) == ("image/jpeg", 1, True, False)


@pytest.mark.parametrize(
    ("content", "format", "frames", "alpha"),
    [
        (pictures.alpha_png(), "png", 1, True),
        (pictures.cmyk_jpeg(), "jpeg", 1, False),
        (pictures.sixteen_bit_png(), "png", 1, False),
        (pictures.rgb48_png(), "png", 1, False),
        (pictures.animated_webp(3), "webp", 3, False),
        (pictures.animated_gif(3), "gif", 3, False),
        (pictures.palette_gif(), "gif", 1, True),
        (pictures.saved(pictures.quadrants(), "TIFF"), "tiff", 1, False),
        (pictures.saved(pictures.quadrants(), "AVIF"), "avif", 1, False),
    ],
)
def test_pictures_of_every_kind_are_accepted(content, format, frames, alpha):
    found = look(content)
    assert (found.format.name, found.frames, found.has_alpha) == (format, frames, alpha)


def test_the_stream_is_left_at_its_start():
    stream = io.BytesIO(pictures.camera())
    inspect(stream, limits=LIMITS)
    assert stream.tell() == 0


def test_an_empty_file_is_refused_by_its_size():
    assert refusal(b"").stage == "size"


def test_too_many_bytes_are_refused_by_their_size():
    error = refusal(pictures.camera(), MediaOptions(max_bytes=1000))
    assert error.stage == "size"
    assert "1,000" in error.reason


def test_a_declared_size_beyond_the_limit_is_refused_without_reading():
    class Unread(io.BytesIO):
        def read(self, *args):
            raise AssertionError("it was read")

    with pytest.raises(RefusedError) as caught:
        inspect(Unread(b"x"), declared_size=10**12, limits=LIMITS)
    assert caught.value.stage == "size"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"This is only a text, whatever its name says.\n" * 20, "text"),
        (b"<!DOCTYPE html><script>alert(1)</script>", "markup"),
        (b"%PDF-1.7 " + bytes(100), "PDF"),
        (b"PK\x03\x04" + bytes(100), "ZIP"),
        (b"MZ" + bytes(100), "program"),
        (bytes(range(3, 200)), "no known format"),
        (b"\x00\x00\x00\x18ftypisom" + bytes(40), "video"),
    ],
)
def test_what_is_no_picture_is_refused_by_its_first_bytes(content, says):
    error = refusal(content)
    assert error.stage == "magic"
    assert says in error.reason


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(40), "HEIC"),
        (b"8BPS" + bytes(40), "Photoshop"),
        (pictures.saved(pictures.quadrants(), "BMP"), "BMP"),
    ],
)
def test_a_picture_of_another_format_is_refused_by_its_format(content, says):
    error = refusal(content)
    assert error.stage == "format"
    assert says in error.reason


def test_the_allow_list_decides():
    assert refusal(pictures.palette_gif(), MediaOptions(formats=("jpeg",))).stage == "format"
    assert look(pictures.saved(pictures.quadrants(), "BMP"), MediaOptions(formats=("bmp",))).format.name == "bmp"


def decodes():
    seen = []
    return seen, telemetry.subscribe(seen.append, "media.decode")


@pytest.mark.parametrize(
    "make",  # in the test: it takes a second, which each process that only collects the tests would take too
    [
        pictures.bomb,
        pictures.gif_bomb,
        lambda: pictures.saved(Image.new("1", (12_000, 12_000)), "TIFF", compression="group4"),
        pictures.webp_bomb,
    ],
    ids=["png", "gif", "tiff", "webp"],
)
def test_a_decompression_bomb_is_refused_by_its_pixels_and_is_never_decoded(make, monkeypatch):
    from PIL import ImageFile

    content = make()

    def load(self):
        raise AssertionError("it was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    error = refusal(content)
    assert error.stage == "pixels"
    assert "100,000,000" in error.reason


def test_a_bomb_is_refused_at_once():
    began = time.perf_counter()
    assert refusal(pictures.bomb(2**31 - 1, 2**31 - 1)).stage == "pixels"
    assert time.perf_counter() - began < 1


def test_frames_multiply_the_pixels():
    limits = MediaOptions(max_pixels=120 * 80 * 3)
    assert look(pictures.animated_gif(3), limits).frames == 3
    assert refusal(pictures.animated_gif(4), limits).stage == "pixels"
    assert refusal(pictures.animated_webp(4), limits).stage == "pixels"


def test_a_file_of_a_million_frames_is_not_walked_to_its_end():
    content = pictures.gif_of_many_frames(1_000_000)
    began = time.perf_counter()
    error = refusal(content)
    assert error.stage == "pixels"
    assert "600 frames" in error.reason
    assert time.perf_counter() - began < 1


def test_pages_of_a_tiff_are_counted_up_to_the_limit():
    page = Image.new("1", (8, 8))
    content = pictures.saved(page, "TIFF", save_all=True, append_images=[page] * 30)
    assert look(content).frames == 31
    assert refusal(content, MediaOptions(max_frames=30)).stage == "pixels"


def test_pillows_own_limit_plays_no_part():
    """A picture between its limit and ours is accepted, with warnings as errors and without touching the limit."""
    before = Image.MAX_IMAGE_PIXELS
    content = pictures.saved(Image.new("1", (9_500, 9_500)), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert look(content).width == 9_500
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_header_that_cannot_be_read_is_refused_as_damage():
    assert refusal(pictures.camera()[:100]).stage == "decode"
    assert refusal(pictures.alpha_png()[:20]).stage == "decode"
    assert refusal(pictures.animated_webp()[:40]).stage == "decode"


def test_unreadable_metadata_refuses_nothing():
    content = pictures.camera()
    at = content.index(b"Exif\0\0") + 6
    broken = content[:at] + b"XX" + content[at + 2 :]
    assert look(broken).orientation == 1


def test_a_picture_that_is_also_an_archive_is_taken_for_the_picture():
    attached = io.BytesIO(pictures.camera())
    with zipfile.ZipFile(attached, "a") as archive:
        archive.writestr("payload.html", "<script>alert(1)</script>")
    assert look(attached.getvalue()).mime == "image/jpeg"


def test_inspecting_in_many_threads_leaves_the_process_as_it_was():
    """Filters of warnings belong to the process: whoever changes them for a moment changes them for everybody."""
    before, failures = list(warnings.filters), []
    content = pictures.saved(Image.new("1", (9_500, 9_500)), "PNG")

    def work():
        try:
            for _ in range(5):
                look(content)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert list(warnings.filters) == before


def test_a_refusal_survives_pickling_and_says_so():
    error = refusal(b"")
    again = pickle.loads(pickle.dumps(error))
    assert (again.stage, again.reason, str(again)) == ("size", error.reason, str(error))
    assert again.transient is False


_SAMPLES = [
    pictures.camera(6),
    pictures.alpha_png(),
    pictures.animated_webp(),
    pictures.animated_gif(),
    pictures.saved(pictures.quadrants(), "TIFF"),
]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(_SAMPLES), st.integers(0, 2000), st.binary(min_size=1, max_size=40))
def test_whatever_the_header_holds_the_answer_is_a_finding_or_a_refusal(content, at, patch):
    at %= len(content)
    damaged = content[:at] + patch + content[at + len(patch) :]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow remarks about odd tags
        try:
            look(damaged)
        except RefusedError as error:
            assert error.reason
