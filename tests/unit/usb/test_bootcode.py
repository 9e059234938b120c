from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.process import run
from livebuilder.usb.bootcode import AREA_BYTES, BOOT_CODE, LISTING, MESSAGE, has_boot_code, write_boot_code


def test_the_listing_gives_the_bytes(tmp_path: Path) -> None:
    source = "\n".join((".code16", *(line for _, line in LISTING), f'message: .asciz "{MESSAGE}\\r\\n"', ""))
    run(["as", "--32", "-o", tmp_path / "code.o", "-"], input_bytes=source.encode())
    run(["objcopy", "-O", "binary", "-j", ".text", tmp_path / "code.o", tmp_path / "code"])
    assert (tmp_path / "code").read_bytes() == BOOT_CODE


def test_it_leaves_the_table_its_place_and_the_line_fits_the_screen() -> None:
    assert len(BOOT_CODE) <= AREA_BYTES
    assert len(MESSAGE) < 80


def test_only_the_code_area_is_written(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"\xee" * 1024)
    write_boot_code(image)
    data = image.read_bytes()
    assert data[:AREA_BYTES] == BOOT_CODE.ljust(AREA_BYTES, b"\0")
    assert data[AREA_BYTES:] == b"\xee" * (1024 - AREA_BYTES)


@pytest.mark.parametrize(
    ("sector", "found"),
    [
        (BOOT_CODE.ljust(510, b"\0") + b"\x55\xaa", True),
        (BOOT_CODE.ljust(512, b"\0"), False),  # without the mark no BIOS starts it
        (bytes(510) + b"\x55\xaa", False),
        (BOOT_CODE[:20].ljust(510, b"\0") + b"\x55\xaa", False),
        (b"", False),
    ],
)
def test_the_code_is_known_again(sector: bytes, found: bool) -> None:
    assert has_boot_code(sector) is found
