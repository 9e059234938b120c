"""Reading PNG files, filters and all, so that pictures of two writers can be compared pixel by pixel."""

from __future__ import annotations

import struct
import zlib


def png_pixels(png: bytes) -> tuple[int, int, bytes]:
    """Width, height and RGB bytes of a PNG of 8 bits a colour without alpha; checks every chunk's sum on the way."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    chunks: dict[bytes, bytes] = {}
    place = 8
    while place < len(png):
        (length,) = struct.unpack_from(">I", png, place)
        name, data = png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        assert struct.unpack_from(">I", png, place + 8 + length) == (zlib.crc32(name + data),), name
        chunks[name] = chunks.get(name, b"") + data
        place += 12 + length
    width, height, *kind = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert kind == [8, 2, 0, 0, 0], kind
    assert name == b"IEND"
    return width, height, _unfiltered(zlib.decompress(chunks[b"IDAT"]), 3 * width, height)


def _unfiltered(data: bytes, row_bytes: int, height: int) -> bytes:
    assert len(data) == (row_bytes + 1) * height
    above = bytearray(row_bytes)
    pixels = bytearray()
    for start in range(0, len(data), row_bytes + 1):
        row = bytearray(data[start + 1 : start + 1 + row_bytes])
        for place in range(row_bytes):
            left = row[place - 3] if place >= 3 else 0
            corner = above[place - 3] if place >= 3 else 0
            guess = (0, left, above[place], (left + above[place]) // 2, _paeth(left, above[place], corner))[data[start]]
            row[place] = (row[place] + guess) & 0xFF
        pixels += row
        above = row
    return bytes(pixels)


def _paeth(left: int, up: int, corner: int) -> int:
    return min((left, up, corner), key=lambda value: abs(left + up - corner - value))
