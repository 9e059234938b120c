"""Sizes in bytes, as people write them and as disks round them."""

from __future__ import annotations

import re

from livebuilder.errors import LivebuilderError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_UNITS = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": 1024 * GIB}
_SIZE = re.compile(r"(\d{1,18})\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """The bytes in `text`: a whole number and an optional unit of 1024 (`64M`, `512 KiB`, `700MB`).

    Raises `LivebuilderError` for anything else.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise LivebuilderError(f"{text!r} is not a size", hint="write a whole number and K, M or G, as in 64M")
    return int(match[1]) * _UNITS[match[2].upper()]


def render_size(size_bytes: int) -> str:
    """`size_bytes` for a reader: `512 B`, `3.4 MiB`."""
    if abs(size_bytes) < KIB:
        return f"{size_bytes} B"
    for unit, name in ((KIB, "KiB"), (MIB, "MiB"), (GIB, "GiB")):
        if abs(size_bytes) < 1024 * unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes / (1024 * GIB):.1f} TiB"


def align_up(value: int, alignment: int) -> int:
    """The smallest multiple of `alignment` that is at least `value`."""
    return -(-value // alignment) * alignment
