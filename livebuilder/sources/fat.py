"""One file out of a FAT file system: the kernel of an image whose boot partition is one.

Layout (Microsoft, FAT: General Overview of On-Disk Format, 1.03): boot sector, tables of cluster numbers, the top
folder (of FAT12 and FAT16 before the first cluster, of FAT32 a chain of clusters), clusters from number 2 on. Names are
looked for as 8.3, which every file has whose name fits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import MIB
from livebuilder.tree import Content

_FILE_LIMIT_BYTES = 128 * MIB
_LABEL = 0x08  # attributes: a volume's label, or a part of a long name
_FOLDER = 0x10


class _DamagedError(ValueError):
    """What the file system says of itself cannot be."""


def is_fat(head: bytes) -> bool:
    """Whether a partition that begins with `head` (a sector of it) is FAT12, FAT16 or FAT32."""
    if len(head) < 512 or head[510:512] != b"\x55\xaa" or head[0] not in (0xEB, 0xE9):
        return False
    sector, cluster, reserved, tables = struct.unpack_from("<HBHB", head, 11)
    return sector in (512, 1024, 2048, 4096) and cluster.bit_count() == 1 and reserved > 0 and tables in (1, 2)


def file_from_fat(image: Content, path: str, *, source: str) -> Content | None:
    """What the file `path` (`boot/vmlinuz`) of the FAT at the start of `image` holds; None when it is not there.

    Raises `LivebuilderError`, naming `source`, when the file system is damaged.
    """
    try:
        return _Fat(image).find(path)
    except (_DamagedError, struct.error) as error:
        raise LivebuilderError(
            f"{source} has a damaged FAT file system in it: {error}", hint="copy or download it again"
        ) from error


@dataclass(frozen=True)
class _Found:
    folder: bool
    cluster: int
    size: int


class _Fat:
    def __init__(self, image: Content) -> None:
        self._image = image
        head = self._bytes(0, 512)
        if not is_fat(head):
            raise _DamagedError("its first sector makes no sense")
        sector, per_cluster, reserved, tables, top_entries, sectors, _, table_sectors = struct.unpack_from(
            "<HBHBHHBH", head, 11
        )
        sectors = sectors or struct.unpack_from("<I", head, 32)[0]
        self._top_cluster = 0
        if not table_sectors:
            table_sectors, self._top_cluster = struct.unpack_from("<I4xI", head, 36)
        self._cluster_bytes = sector * per_cluster
        self._table_at = reserved * sector
        self._top_at = self._table_at + tables * table_sectors * sector
        self._top_bytes = top_entries * 32
        self._data_at = self._top_at + -(-self._top_bytes // sector) * sector
        self._clusters = (sectors * sector - self._data_at) // self._cluster_bytes
        self._bits = 32 if self._top_cluster else 12 if self._clusters < 4085 else 16

    def _bytes(self, at: int, length: int) -> bytes:
        if not 0 <= at <= at + length <= self._image.size:
            raise _DamagedError(f"bytes {at} to {at + length} are beyond its end")
        return self._image.part(at, length).read()

    def find(self, path: str) -> Content | None:
        here = _Found(True, self._top_cluster, 0)
        for name in path.split("/"):
            found = self._entries(here).get(_short_name(name)) if here.folder else None
            if found is None:
                return None
            here = found
        return None if here.folder else Content.from_bytes(self._data(here.cluster, here.size))

    def _entries(self, folder: _Found) -> dict[bytes, _Found]:
        if folder.cluster or self._top_cluster:
            data = b"".join(self._chain(folder.cluster or self._top_cluster))
        else:
            data = self._bytes(self._top_at, self._top_bytes)
        found = {}
        for at in range(0, len(data) - 31, 32):
            name, attributes, high, low, size = struct.unpack_from("<11sB8xH4xHI", data, at)
            if name[0] == 0:
                break
            if name[0] != 0xE5 and not attributes & _LABEL:
                cluster = low | high << 16 if self._bits == 32 else low
                found[name] = _Found(bool(attributes & _FOLDER), cluster, size)
        return found

    def _data(self, cluster: int, size: int) -> bytes:
        if size > min(_FILE_LIMIT_BYTES, self._image.size):
            raise _DamagedError(f"a file of {size} bytes cannot be in it")
        data = b"".join(self._chain(cluster)) if size else b""
        if len(data) < size:
            raise _DamagedError("a file is cut short")
        return data[:size]

    def _chain(self, cluster: int) -> Iterator[bytes]:
        end = {12: 0xFF8, 16: 0xFFF8, 32: 0xFFFFFF8}[self._bits]
        seen = 0
        while cluster < end:
            seen += 1
            if not 2 <= cluster < self._clusters + 2 or seen > self._clusters:
                raise _DamagedError("its table of clusters makes no sense")
            yield self._bytes(self._data_at + (cluster - 2) * self._cluster_bytes, self._cluster_bytes)
            cluster = self._next(cluster)

    def _next(self, cluster: int) -> int:
        at, length, format = {12: (cluster * 3 // 2, 2, "<H"), 16: (cluster * 2, 2, "<H"), 32: (cluster * 4, 4, "<I")}[
            self._bits
        ]
        (value,) = struct.unpack(format, self._bytes(self._table_at + at, length))
        if self._bits == 12:
            return int(value >> 4 if cluster % 2 else value & 0xFFF)
        return int(value & 0xFFFFFFF)


def _short_name(name: str) -> bytes:
    stem, _, suffix = name.upper().partition(".")
    return stem.ljust(8).encode() + suffix.ljust(3).encode()
