"""The partition table of a disk image: DOS or GPT, read only.

DOS: four entries of 16 bytes at 446 of the first sector, `55 aa` at its end. GPT (UEFI specification 2.10, 5.3): a
header in the second sector, with the place, number, size and checksum of its entries. Sectors have 512 bytes.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import dataclass
from typing import Literal, NamedTuple

from livebuilder.errors import LivebuilderError
from livebuilder.tree import Content

_SECTOR = 512
_ENTRIES_AT = 446
_GPT_MAGIC = b"EFI PART"
_PROTECTIVE = 0xEE
_EXTENDED = frozenset({0x05, 0x0F, 0x85})
_ENTRIES_LIMIT = 1024


class _DosEntry(NamedTuple):
    state: int
    type: int
    start: int
    sectors: int


@dataclass(frozen=True)
class Partition:
    """One entry. `type` is in hex digits, or a GUID in capitals as sfdisk writes it; `start` and `size` in bytes."""

    number: int
    type: str
    start: int
    size: int
    name: str = ""

    @property
    def is_extended(self) -> bool:
        """Whether it is a DOS partition with further ones in it, which are not read."""
        return len(self.type) < 3 and int(self.type, 16) in _EXTENDED


def has_table(head: bytes) -> bool:
    """Whether a disk that begins with `head` (a sector of it) has a table of partitions."""
    if len(head) < _SECTOR or head[510:512] != b"\x55\xaa":
        return False
    entries = _entries(head)
    return all(entry.state in (0, 0x80) for entry in entries) and any(entry.type and entry.sectors for entry in entries)


def read_partitions(image: Content, *, source: str) -> tuple[Literal["dos", "gpt"], tuple[Partition, ...]]:
    """The kind of table and its partitions by their numbers.

    Raises `LivebuilderError`, naming `source`, when there is no table, or a GPT whose checksums are wrong.
    """
    head = image.part(0, 2 * _SECTOR).read()
    if not has_table(head):
        raise LivebuilderError(f"{source} has no partition table that is known", hint=f"sfdisk --list {source}")
    entries = _entries(head)
    if any(entry.type == _PROTECTIVE for entry in entries):
        return "gpt", _read_gpt(image, head[_SECTOR:], source=source)
    return "dos", tuple(
        Partition(number, f"{entry.type:x}", entry.start * _SECTOR, entry.sectors * _SECTOR)
        for number, entry in enumerate(entries, start=1)
        if entry.type and entry.sectors
    )


def _entries(head: bytes) -> list[_DosEntry]:
    return [_DosEntry(*struct.unpack_from("<B3xB3xII", head, _ENTRIES_AT + 16 * number)) for number in range(4)]


def _read_gpt(image: Content, header: bytes, *, source: str) -> tuple[Partition, ...]:
    problem = LivebuilderError(f"{source} has a damaged GPT", hint=f"sfdisk --verify {source}")
    if header[:8] != _GPT_MAGIC or len(header) < _SECTOR:
        raise problem
    header_size, checksum = struct.unpack_from("<II", header, 12)
    entries_at, count, entry_size, entries_checksum = struct.unpack_from("<QIII", header, 72)
    if not 92 <= header_size <= _SECTOR or not 128 <= entry_size <= _SECTOR or count > _ENTRIES_LIMIT:
        raise problem
    if zlib.crc32(header[:16] + bytes(4) + header[20:header_size]) != checksum:
        raise problem
    entries = image.part(entries_at * _SECTOR, count * entry_size).read()
    if zlib.crc32(entries) != entries_checksum:
        raise problem
    found = []
    for number in range(count):
        kind, first, last, name = struct.unpack_from("<16s16xQQ8x72s", entries, number * entry_size)
        if kind != bytes(16) and first <= last:
            text = name.decode("utf-16-le", "replace").partition("\0")[0]
            size = (last - first + 1) * _SECTOR
            found.append(Partition(number + 1, str(uuid.UUID(bytes_le=kind)).upper(), first * _SECTOR, size, text))
    return tuple(found)
