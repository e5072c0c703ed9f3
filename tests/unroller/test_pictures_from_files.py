"""Picture files as cameras, phones and careless programs write them, and files that are none."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as Pillow

from unroller import Problem
from unroller.faults import ImageError
from unroller.images import MAX_PIXELS, decode_image, encode_png, open_image

RED, BLUE = (255, 0, 0), (0, 0, 255)


def halves(width=40, height=20):
    """Left half red, right half blue: shows whether a picture is upright and of the right colours."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = RED, BLUE
    return pixels


def saved(picture, form="PNG", **options):
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def a_png_header(width, height):
    """A PNG that declares its size and has no pixels."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def near(pixel, colour, tolerance=40):
    return np.abs(np.asarray(pixel, int) - colour).max() <= tolerance


# -------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", r"the file is empty \(0 bytes\)"),
        (b"GIF? no, just words", "not an image that can be read"),
        (b"\x00" * 1000, "not an image that can be read"),
        (a_png_header(30_000, 30_000), "pixels"),
        (a_png_header(2**31 - 1, 2**31 - 1), "pixels"),
        (a_png_header(100, 100), "damaged or truncated"),
        (saved(Pillow.fromarray(halves()))[:60], "damaged or truncated"),
        (saved(Pillow.fromarray(halves(400, 400)), "JPEG")[:2000], "damaged or truncated"),
        (saved(Pillow.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "no agreed range"),
    ],
    ids=[
        *["0 bytes", "words", "zeros", "30,000 x 30,000", "2^31 x 2^31"],
        *["no pixels", "truncated PNG", "truncated JPEG", "floating point"],
    ],
)
def test_a_file_that_is_no_usable_picture_is_refused_with_its_name_and_the_reason(tmp_path, data, says):
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=says) as raised:
        Problem.depth(path)
    assert "photo.png" in str(raised.value)


def test_a_picture_just_over_the_limit_of_megapixels_is_refused_before_it_is_decoded(monkeypatch):
    side = int(MAX_PIXELS**0.5)

    def never(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(Pillow.Image, "load", never)
    with pytest.raises(ImageError, match="over the limit of 64 megapixels"):
        decode_image(a_png_header(side + 1, side + 1))


def test_a_path_that_is_no_file_is_refused(tmp_path):
    for path, says in [
        (tmp_path / "missing.png", "no such file"),
        (tmp_path, "a folder, not a picture"),
        ("/dev/zero", "a device or a pipe"),
        ("a\0b.png", "cannot be read"),
        ("x" * 5000, "cannot be read"),
    ]:
        with pytest.raises(ImageError, match=says):
            open_image(path)


@pytest.mark.parametrize("form", ["EPS", "ICO", "TGA"])
def test_formats_that_programs_other_than_pillow_or_nobody_should_read_are_refused(form, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("Ghostscript was called"))
    with pytest.raises(ImageError, match="not an image that can be read"):
        decode_image(saved(Pillow.fromarray(halves()), form))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_the_formats_that_cameras_and_programs_write_are_read(form):
    assert near(decode_image(saved(Pillow.fromarray(halves()), form)).pixels[10, 5], RED)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="a device or a pipe"):
        open_image(tmp_path / "pipe")


# ---------------------------------------------------------------------------- what is made upright RGB


def test_a_png_is_read_as_it_is():
    np.testing.assert_array_equal(decode_image(encode_png(halves())).pixels, halves())


@pytest.mark.parametrize(("form", "options"), [("JPEG", {"quality": 95}), ("TIFF", {})])
def test_cmyk_becomes_rgb(form, options):
    image = decode_image(saved(Pillow.fromarray(halves()).convert("CMYK"), form, **options))
    assert near(image.pixels[10, 5], RED) and near(image.pixels[10, 35], BLUE)


def test_sixteen_bits_are_scaled_to_eight_not_cut_off():
    grey = np.tile(np.linspace(0, 65535, 40).astype(np.uint16), (20, 1))
    image = decode_image(saved(Pillow.fromarray(grey)))
    np.testing.assert_allclose(image.pixels[0, :, 0], np.linspace(0, 255, 40), atol=1)
    assert image.pixels.shape == (20, 40, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white(mode):
    rgba = np.dstack([np.zeros((20, 40, 3), np.uint8), np.full((20, 40), 255, np.uint8)])
    rgba[:, 20:, 3] = 0
    picture = Pillow.fromarray(rgba).convert(mode)
    options = {"transparency": 0} if mode == "P" else {}
    image = decode_image(saved(picture, **options))
    assert image.pixels.shape == (20, 40, 3)
    assert tuple(image.pixels[10, 35]) == (255, 255, 255)
    if mode != "P":
        assert tuple(image.pixels[10, 5]) == (0, 0, 0)


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr", "HSV", "LAB"])
def test_every_other_mode_becomes_rgb(mode):
    picture = Pillow.fromarray(halves()).convert(mode) if mode != "LAB" else Pillow.new("LAB", (40, 20))
    form = {"YCbCr": "JPEG", "LAB": "TIFF"}.get(mode, "PNG")
    if mode == "HSV":
        image = Problem.depth(picture).images[0]  # no file format of Pillow's keeps HSV
    else:
        image = decode_image(saved(picture, form))
    assert image.pixels.shape == (20, 40, 3) and image.pixels.dtype == np.uint8


UPRIGHT = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_photo_that_exif_says_is_rotated_is_turned_upright(orientation):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    image = decode_image(saved(Pillow.fromarray(pixels), exif=exif))
    np.testing.assert_array_equal(image.pixels, UPRIGHT[orientation](pixels))


def test_the_focal_length_of_exif_comes_with_the_picture():
    exif = Pillow.Exif()
    exif.get_ifd(0x8769)[0xA405] = 43  # mm, in terms of 35 mm film, whose diagonal is 43.27 mm
    image = decode_image(saved(Pillow.fromarray(halves(400, 300)), "JPEG", exif=exif))
    assert image.focal_px == pytest.approx(500, rel=0.01)  # the picture's diagonal
    camera = Problem.depth(image).camera(0)
    assert camera.source == "exif" and (camera.cx, camera.cy) == (200, 150)


@pytest.mark.parametrize("focal", [0, 65535])
def test_a_focal_length_in_exif_that_no_lens_has_is_ignored(focal):
    exif = Pillow.Exif()
    exif.get_ifd(0x8769)[0xA405] = focal
    image = decode_image(saved(Pillow.fromarray(halves()), "JPEG", exif=exif))
    assert image.focal_px is None and Problem.depth(image).camera(0) is None


def test_damaged_exif_does_not_lose_the_picture():
    image = decode_image(saved(Pillow.fromarray(halves()), "JPEG", exif=b"Exif\x00\x00II*\x00garbage"))
    assert image.size == (40, 20)


def test_a_pillow_picture_is_treated_as_the_file_would_be(tmp_path):
    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.fromarray(halves()).save(tmp_path / "rotated.jpg", exif=exif, quality=95)
    grey = np.tile(np.linspace(0, 65535, 40).astype(np.uint16), (20, 1))
    Pillow.fromarray(grey).save(tmp_path / "deep.png")
    for name in ("rotated.jpg", "deep.png"):
        with Pillow.open(tmp_path / name) as opened:
            given, read = Problem.depth(opened).images[0], open_image(tmp_path / name)
        np.testing.assert_array_equal(given.pixels, read.pixels)
    (tmp_path / "cut.jpg").write_bytes(saved(Pillow.fromarray(halves(400, 400)), "JPEG")[:2000])
    with Pillow.open(tmp_path / "cut.jpg") as cut, pytest.raises(ImageError, match="truncated"):
        Problem.depth(cut)
