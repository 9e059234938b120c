"""The members of an ar archive (ar(5), deb(5)): a magic line, then each member with a header of 60 bytes before it.

    0   name   16   padded with blanks, perhaps with "/" at its end
    16  mtime  12   decimal, as are uid (6) and gid (6); mode (8) is octal
    48  size   10   decimal
    58  magic   2   "`\\n"

Every header starts at an even offset.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, NamedTuple

from livebuilder.errors import LivebuilderError

MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60


class Member(NamedTuple):
    """One member; its bytes are `size` at `offset` of the archive."""

    name: str
    offset: int
    size: int


def members(archive: IO[bytes], *, source: str) -> Iterator[Member]:
    """The members in their order, read from the start of `archive`, which may be moved about meanwhile.

    Raises `LivebuilderError` naming `source` when it is no ar archive, or has a member without a sound header. Whether
    the bytes of a member are all there is for its reader to find.
    """
    archive.seek(0)
    if archive.read(len(MAGIC)) != MAGIC:
        raise LivebuilderError(f"{source} is no ar archive")
    offset = len(MAGIC)
    while True:
        archive.seek(offset)
        header = archive.read(_HEADER_BYTES)
        if not header:
            return
        digits = header[48:58].rstrip(b" ")
        if len(header) != _HEADER_BYTES or header[58:] != b"`\n" or not digits.isdigit():
            raise LivebuilderError(f"{source} is damaged: a member of its ar archive has no header")
        size = int(digits)
        yield Member(header[:16].decode("latin-1").rstrip(" ").removesuffix("/"), offset + _HEADER_BYTES, size)
        offset += _HEADER_BYTES + size + size % 2
