"""The members of a newc archive as they stand in it, read without the code that is tested."""

from collections.abc import Iterator
from typing import NamedTuple


class NewcMember(NamedTuple):
    """The fields of a header that the tests look at; `size` in bytes."""

    name: str
    inode: int
    mode: int
    nlink: int
    mtime: int
    size: int


def members_of(archive: bytes) -> Iterator[NewcMember]:
    """The members up to the trailer, in their order."""
    at = 0
    while True:
        ino, mode, _uid, _gid, nlink, mtime, size, *_devices, name_size, _check = (
            int(archive[at + 6 + 8 * field : at + 14 + 8 * field], 16) for field in range(13)
        )
        name = archive[at + 110 : at + 110 + name_size - 1].decode("utf-8", "surrogateescape")
        if name == "TRAILER!!!":
            return
        yield NewcMember(name, ino, mode, nlink, mtime, size)
        body = (at + 110 + name_size + 3) // 4 * 4
        at = (body + size + 3) // 4 * 4
