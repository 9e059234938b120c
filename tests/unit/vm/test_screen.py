from __future__ import annotations

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.vm.screen import TEXT_BYTES, png_from_ppm, text_from_vga
from tests.support.pictures import png_pixels

PIXELS = bytes(range(3 * 4 * 3))
PPM = b"P6\n4 3\n255\n" + PIXELS


def test_the_png_holds_the_same_pixels() -> None:
    assert png_pixels(png_from_ppm(PPM)) == (4, 3, PIXELS)


def test_a_pixel_that_looks_like_white_space_stays_a_pixel() -> None:
    ppm = b"P6\n1 1\n255\n" + b"\n\t "
    assert png_pixels(png_from_ppm(ppm)) == (1, 1, b"\n\t ")


@pytest.mark.parametrize(
    ("ppm", "message"),
    [
        (b"", "not a PPM"),
        (b"P5\n4 3\n255\n" + PIXELS, "not a PPM"),
        (b"P6\n4 3\n65535\n" + PIXELS, "not a PPM"),
        (PPM[:-1], "not complete"),
        (b"P6\n0 3\n255\n", "not complete"),
    ],
)
def test_what_is_no_whole_picture_is_refused(ppm: bytes, message: str) -> None:
    with pytest.raises(LivebuilderError, match=message):
        png_from_ppm(ppm)


def vga(*rows: str) -> bytes:
    characters = "".join(row.ljust(80) for row in rows).encode("cp437")
    return b"".join(bytes([character, 0x07]) for character in characters).ljust(TEXT_BYTES, b"\0")


def test_the_text_of_the_screen_without_empty_lines_and_colours() -> None:
    assert text_from_vga(vga("SeaBIOS", "", "  boot: _", "█ 100 %")) == "SeaBIOS\n  boot: _\n█ 100 %"


def test_a_line_that_fills_the_row_is_not_joined_with_the_next() -> None:
    assert text_from_vga(vga("x" * 80, "y")) == "x" * 80 + "\ny"


def test_an_empty_screen() -> None:
    assert text_from_vga(bytes(TEXT_BYTES)) == ""
