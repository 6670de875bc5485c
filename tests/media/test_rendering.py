from __future__ import annotations

import io
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageStat

from koan_django.core import telemetry
from koan_django.media.catalogue import catalogue
from koan_django.media.conf import MediaOptions
from koan_django.media.exceptions import RefusedError, RenderError
from koan_django.media.recipes import recipe
from koan_django.media.rendering import render_family, variant_key
from tests.media import pictures
from tests.media.pictures import BLUE, GREEN, RED, YELLOW, near, opened

LIMITS = MediaOptions(formats=("jpeg", "png", "webp", "gif", "avif", "tiff", "bmp"))


@pytest.fixture(autouse=True)
def _forget_recipes():
    before = set(catalogue)
    yield
    for made in set(catalogue) - before:
        catalogue.remove(made)


@pytest.fixture
def decodes():
    seen = []
    end = telemetry.subscribe(lambda event: event.phase == "stop" and seen.append(event), "media.decode")
    yield seen
    end()


def render(content: bytes, *recipes):
    return render_family(io.BytesIO(content), recipes, limits=LIMITS)


def one(content: bytes, made) -> Image.Image:
    return opened(render(content, made)[0].content)


def corners(image: Image.Image) -> list[object]:
    rgb = image.convert("RGB")
    right, bottom = rgb.width - 6, rgb.height - 6
    return [rgb.getpixel(at) for at in ((5, 5), (right, 5), (right, bottom), (5, bottom))]


def upright(image: Image.Image) -> bool:
    return all(near(seen, wanted) for seen, wanted in zip(corners(image), (RED, GREEN, BLUE, YELLOW), strict=True))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["jpeg", "webp", "png"])
def test_a_photo_stands_upright_however_the_camera_was_held(orientation, format):
    image = one(pictures.camera(orientation), recipe("up").orient().resize(200, 150).encode(format))
    assert image.size == (200, 150)
    assert upright(image)


@pytest.mark.parametrize("orientation", [1, 6])
def test_every_format_carries_its_orientation_and_loses_it(orientation):
    stored = Image.open(io.BytesIO(pictures.camera(orientation)))
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = orientation
    for format in ("PNG", "WEBP", "TIFF", "AVIF"):
        content = pictures.saved(stored, format, exif=exif)
        image = one(content, recipe("any").orient().resize(200).encode("png"))
        assert upright(image), format
        assert image.size == (200, 150)


def test_without_orient_the_rows_stay_as_they_are_stored():
    assert one(pictures.camera(6), recipe("lying").resize(150).encode("png")).size == (150, 200)


@pytest.mark.parametrize("format", ["jpeg", "webp", "png", "avif", "tiff", "gif"])
def test_no_metadata_is_left(format):
    content = render(pictures.camera(6), recipe("clean").orient().resize(100).encode(format))[0].content
    image = opened(content)
    tags = set(image.getexif()) - set(range(254, 340))  # a TIFF describes itself by tags of that range
    assert not tags
    assert not image.getexif().get_ifd(pictures.GPS)
    assert not set(image.info) & {"exif", "xmp", "icc_profile", "comment", "photoshop"}
    for left in (b"Exif", b"Camera works", b"at home", b"acsp", b"http://ns.adobe.com"):
        assert left not in content


@pytest.mark.parametrize("format", ["webp", "png", "avif"])
def test_transparency_stays_where_the_format_has_it(format):
    image = one(pictures.alpha_png(), recipe("clear").resize(100).encode(format)).convert("RGBA")
    assert image.getpixel((2, 2))[3] == 0
    assert near(image.getpixel((50, 50)), (0, 200, 0, 255))


def test_transparency_goes_onto_a_background_where_it_has_not():
    white = one(pictures.alpha_png(), recipe("white").resize(100).encode("jpeg"))
    assert near(white.getpixel((2, 2)), (255, 255, 255))
    blue = one(pictures.alpha_png(), recipe("blue").resize(100).background("#0000ff").encode("jpeg"))
    assert near(blue.getpixel((2, 2)), (0, 0, 255))
    assert near(blue.getpixel((50, 50)), (0, 200, 0))


def test_the_colour_of_invisible_pixels_does_not_bleed():
    image = one(pictures.alpha_png(), recipe("edge").resize(20).encode("png")).convert("RGBA")
    seen = [image.getpixel((x, 10)) for x in range(20)]
    assert all(red <= 12 for red, _, _, alpha in seen if alpha > 20)


def test_cmyk_becomes_rgb():
    image = one(pictures.cmyk_jpeg(), recipe("print").resize(200).encode("webp"))
    assert image.mode == "RGB"
    assert upright(image)


def test_sixteen_bits_are_scaled_and_not_clipped():
    image = one(pictures.sixteen_bit_png(), recipe("deep").encode("png")).convert("L")
    assert [image.getpixel((x, 30)) for x in (0, 64, 128, 255)] == [0, 64, 128, 255]


def test_sixteen_bits_a_channel():
    image = one(pictures.rgb48_png(), recipe("deep-colour").encode("png"))
    assert near(image.convert("RGB").getpixel((10, 10)), (255, 128, 16), 2)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LAB", "YCbCr"])
def test_every_mode_of_a_tiff_is_rendered(mode):
    image = pictures.quadrants(80, 60).convert("LA" if mode == "LA" else "L" if mode in ("I;16", "I", "F") else "RGB")
    if mode == "I;16":
        image = image.convert("I").point(lambda value: value * 256 + 0).convert("I;16")
    elif mode == "LAB":
        profile = ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("LAB"), outputMode="LAB")
    elif mode != "LA":
        image = image.convert(mode)
    found = one(pictures.saved(image, "TIFF"), recipe("mode").resize(40).encode("webp"))
    assert found.size == (40, 30)
    spread = ImageStat.Stat(found.convert("L")).extrema[0]
    assert spread[1] - spread[0] > 40, "the picture is flat"


def test_a_profile_is_converted_and_dropped():
    """The same numbers mean another colour under another profile."""
    lab_like = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ"))
    wrong_space = pictures.saved(pictures.quadrants(), "PNG", icc_profile=lab_like.tobytes())
    assert upright(one(wrong_space, recipe("space").encode("png")))
    garbage = pictures.saved(pictures.quadrants(), "PNG", icc_profile=b"no profile at all")
    assert upright(one(garbage, recipe("garbage").encode("png")))
    nameless = bytearray(pictures.srgb())
    assert nameless[16:20] == b"RGB "  # ICC.1:2022, 7.2: the header of a profile
    nameless[16] = 0x80
    unreadable = pictures.saved(pictures.quadrants(), "PNG", icc_profile=bytes(nameless))
    assert upright(one(unreadable, recipe("nameless").encode("png")))
    same = pictures.saved(pictures.quadrants(), "PNG", icc_profile=pictures.srgb())
    assert upright(one(same, recipe("same").encode("png")))


def test_another_profile_changes_the_numbers():
    swapped = bytearray(pictures.srgb())
    red, green = swapped.index(b"rXYZ"), swapped.index(b"gXYZ")
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
    content = pictures.saved(Image.new("RGB", (20, 20), (255, 0, 0)), "PNG", icc_profile=bytes(swapped))
    assert near(one(content, recipe("swap").encode("png")).convert("RGB").getpixel((9, 9)), (0, 255, 0), 40)


def test_stills_of_an_animation_show_its_first_frame():
    for content in (pictures.animated_webp(), pictures.animated_gif()):
        image = one(content, recipe("still").resize(60).encode("webp"))
        assert getattr(image, "n_frames", 1) == 1
        assert near(image.convert("RGB").getpixel((20, 20)), RED)


@pytest.mark.parametrize("format", ["webp", "gif", "png", "avif"])
def test_an_animation_is_kept_where_the_recipe_says_so(format):
    image = one(pictures.animated_webp(3), recipe("moving").resize(60).encode(format, animated=True))
    assert image.n_frames == 3
    assert image.size == (60, 40)
    for index, colour in enumerate((RED, GREEN, BLUE)):
        image.seek(index)
        assert near(image.convert("RGB").getpixel((20, 20)), colour, 20)
        assert image.info["duration"] == pytest.approx(80)


def test_an_animated_recipe_of_a_still_is_a_still():
    assert one(pictures.camera(), recipe("single").resize(60).encode("webp", animated=True)).size == (60, 45)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "BMP"])
def test_keep_format_keeps_it(format):
    content = pictures.saved(pictures.quadrants(), format)
    assert one(content, recipe("keep").resize(100).keep_format()).format == format


def test_padding_is_transparent_or_the_background():
    padded = recipe("pad").resize(100, 100, fit="contain")
    clear = one(pictures.camera(), padded.encode("png"))
    assert clear.size == (100, 100)
    assert clear.convert("RGBA").getpixel((50, 2))[3] == 0
    on_black = recipe("pad-black").resize(100, 100, fit="contain")
    black = one(pictures.camera(), on_black.background("#000000").encode("jpeg", quality=90))
    assert near(black.getpixel((50, 2)), (0, 0, 0))


def test_nothing_is_made_larger_unless_asked():
    small = pictures.saved(pictures.quadrants(40, 30), "PNG")
    assert one(small, recipe("same-size").resize(400, 300, fit="cover").encode("png")).size == (40, 30)
    grown = recipe("grown").resize(400, 300, fit="cover", upscale=True).encode("png")
    assert one(small, grown).size == (400, 300)


def test_a_family_is_decoded_once(decodes):
    family = [
        recipe(f"size-{edge}").orient().resize(edge, edge, fit="cover").encode("webp") for edge in (64, 320, 1280)
    ]
    made = render(pictures.camera(6, 1600, 1200), *family)
    assert [rendition.width for rendition in made] == [64, 320, 1200]
    assert len(decodes) == 1


def test_a_jpeg_is_decoded_no_larger_than_needed():
    from koan_django.media.inspection import inspect
    from koan_django.media.renderers.decoding import decode

    stream = io.BytesIO(pictures.camera(1, 3200, 2400))
    found = inspect(stream, limits=LIMITS)
    assert decode(stream, found, 0.04).image.size == (400, 300)
    assert decode(stream, found, 1.0).image.size == (3200, 2400)


def test_a_smaller_decoding_looks_like_the_whole_one():
    from PIL import ImageChops

    content = pictures.saved(pictures.noise(1600, 1200).resize((400, 300)).resize((1600, 1200)), "JPEG", quality=95)
    small = recipe("small").resize(100, 75).encode("png")
    alone = one(content, small)
    with_large = opened(render(content, small, recipe("large").encode("png"))[0].content)
    difference = ImageStat.Stat(ImageChops.difference(alone.convert("L"), with_large.convert("L")))
    assert difference.rms[0] < 3


@pytest.mark.parametrize("format", ["jpeg", "webp", "png", "avif", "gif"])
def test_the_same_source_gives_the_same_bytes(format):
    made = recipe("twice").orient().resize(300).encode(format)
    source = pictures.saved(pictures.noise(), "JPEG")
    assert render(source, made)[0].content == render(source, made)[0].content


def flipped(content: bytes, at: int, length: int) -> bytes:
    return content[:at] + bytes(byte ^ 0xA5 for byte in content[at : at + length]) + content[at + length :]


NOISE = {format: pictures.saved(pictures.noise(), format) for format in ("JPEG", "PNG", "WEBP", "GIF", "TIFF")}
NOISE["progressive"] = pictures.saved(pictures.noise(), "JPEG", progressive=True)
SMALL = recipe("damaged-source").resize(50).encode("webp")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "progressive"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.97])
def test_a_file_that_is_cut_short_is_refused(format, kept):
    content = NOISE[format]
    with pytest.raises(RefusedError) as caught:
        render(content[: int(len(content) * kept)], SMALL)
    assert caught.value.stage == "decode"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "progressive"])
def test_a_file_that_is_corrupt_is_refused(format):
    content = NOISE[format]
    with pytest.raises(RefusedError) as caught:
        render(flipped(content, len(content) // 2, 4000), SMALL)
    assert caught.value.stage == "decode"


def test_the_last_bytes_of_a_jpeg_are_missed():
    with pytest.raises(RefusedError, match="end marker"):
        render(NOISE["JPEG"][:-2], SMALL)


def test_what_follows_a_picture_is_not_carried_over():
    content = pictures.camera() + b"<script>alert(1)</script>"
    assert b"script" not in render(content, SMALL)[0].content


def test_restart_markers_are_no_damage():
    content = pictures.saved(pictures.noise(), "JPEG", restart_marker_blocks=7)
    assert b"\xff\xd3" in content
    assert one(content, SMALL).width == 50


def test_a_bomb_never_reaches_the_decoder(decodes):
    with pytest.raises(RefusedError) as caught:
        render(pictures.bomb(), SMALL)
    assert caught.value.stage == "pixels"
    assert not decodes


def test_a_recipe_beyond_the_quality_limit_is_not_rendered():
    with pytest.raises(RenderError, match="MAX_QUALITY"):
        render(pictures.camera(), recipe("fine").encode("jpeg", quality=99))


def test_nothing_is_longer_than_the_limit():
    limits = MediaOptions(max_edge=100)
    made = render_family(io.BytesIO(pictures.camera()), [recipe("edge").encode("png")], limits=limits)
    assert (made[0].width, made[0].height) == (100, 75)


def test_the_key_of_a_variant_depends_on_source_recipe_and_engine(monkeypatch):
    from koan_django.media.formats import FORMATS
    from koan_django.media.renderers.pillow import PillowRenderer

    small, large = recipe("key-small").resize(1).encode("webp"), recipe("key-large").resize(2).encode("webp")
    jpeg = FORMATS["jpeg"]
    keys = [variant_key("a" * 64, small, jpeg), variant_key("b" * 64, small, jpeg), variant_key("a" * 64, large, jpeg)]
    monkeypatch.setattr(PillowRenderer, "revision", "pillow/2")
    keys.append(variant_key("a" * 64, small, jpeg))
    assert len(set(keys)) == 4
    assert all(len(key) == 64 for key in keys)


_FUZZED = [*NOISE.values(), pictures.camera(6, 64, 48), pictures.palette_gif(), pictures.alpha_png()]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(_FUZZED), st.integers(0, 10**7), st.binary(min_size=1, max_size=200))
def test_damage_is_rendered_or_refused_and_nothing_else(content, at, patch):
    at %= len(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            render(content[:at] + patch + content[at + len(patch) :], SMALL)
        except RefusedError as error:
            assert error.reason
