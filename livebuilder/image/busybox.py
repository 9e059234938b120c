"""Which applets a busybox has, read from the binary: it may be one that this machine cannot run."""

from __future__ import annotations

import re

from livebuilder.errors import LivebuilderError

# include/applets.h makes one string of all names, sorted and each ended by NUL, and the compiler adds one NUL more.
# `[` and `[[` sort before every letter.
_TABLE_START = b"[\0[[\0"
_NAME = re.compile(rb"\[{1,2}|[a-z0-9][a-z0-9_.+-]*")


def applets_of(binary: bytes) -> frozenset[str]:
    """The names of the applets in a busybox binary; raises `LivebuilderError` when there is no table of them."""
    best: list[bytes] = []
    at = binary.find(_TABLE_START)
    while at >= 0:
        names = _table_at(binary, at)
        best = max(best, names, key=len)
        at = binary.find(_TABLE_START, at + 1)
    if len(best) <= 2:
        raise LivebuilderError(
            "this is not a busybox: no table of applets is in it", hint="give a busybox that is not packed by UPX"
        )
    return frozenset(name.decode("ascii") for name in best)


def _table_at(binary: bytes, start: int) -> list[bytes]:
    """The names from `start` on, up to the empty one, or the first that is none or breaks the order."""
    names: list[bytes] = []
    while True:
        end = binary.find(b"\0", start, start + 64)
        name = binary[start:end] if end >= 0 else b""
        if not _NAME.fullmatch(name) or (names and name <= names[-1]):
            return names
        names.append(name)
        start = end + 1
