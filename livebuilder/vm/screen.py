"""A guest's screen: QEMU's PPM picture as PNG, and the text in the VGA's memory."""

from __future__ import annotations

import re
import struct
import zlib

from livebuilder.errors import LivebuilderError

TEXT_ADDRESS = 0xB8000  # colour text modes, 32 KiB: more than one screenful, because Linux scrolls by moving the origin
TEXT_BYTES = 32 * 1024
TEXT_COLUMNS = 80

_PPM = re.compile(rb"P6\s(\d+)\s(\d+)\s255\s")


def png_from_ppm(ppm: bytes) -> bytes:
    """The same picture as PNG (PNG specification, RGB of 8 bits, no filter).

    Written here because not every QEMU was built with PNG. Raises `LivebuilderError` when `ppm` is no whole
    binary PPM of 8 bits a colour.
    """
    match = _PPM.match(ppm)
    if match is None:
        raise LivebuilderError("QEMU's picture of the screen is not a PPM file")
    width, height = int(match[1]), int(match[2])
    pixels = memoryview(ppm)[match.end() :]
    row_bytes = 3 * width
    if not width or not height or len(pixels) < row_bytes * height:
        raise LivebuilderError("QEMU's picture of the screen is not complete")
    rows = b"".join(b"\0" + pixels[row : row + row_bytes] for row in range(0, row_bytes * height, row_bytes))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def text_from_vga(memory: bytes) -> str:
    """The lines in a VGA's text memory (a character and an attribute each), without the empty ones."""
    characters = memory[0::2].decode("cp437")
    rows = (characters[place : place + TEXT_COLUMNS] for place in range(0, len(characters), TEXT_COLUMNS))
    lines = (row.replace("\0", " ").rstrip() for row in rows)
    return "\n".join(line for line in lines if line)
