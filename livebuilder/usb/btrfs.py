"""Owners in a btrfs that was just made: mkfs.btrfs copies those of a folder, and what is on a stick belongs to root.

Changed in the file itself, with no mount, no privilege and no namespace. Of the format (btrfs.readthedocs.io, On-disk
Format; numbers are little-endian) this needs the superblock at 64 KiB and the leaves of the tree of files, each
checked by the CRC-32C of all that stands behind its first 32 bytes:

    superblock   0x20 id of the file system, 0x40 "_BHRfS_M", 0x90 u32 sector size, 0x94 u32 node size,
                 0xc4 u16 kind of checksum, 0 for CRC-32C
    node         0x00 u32 checksum, 0x20 id of the file system, 0x58 u64 owner, 5 for the tree of files,
                 0x60 u32 number of items, 0x64 u8 level, 0 for a leaf
    item         from 0x65 on, of 25 bytes: key (u64 number of the inode, u8 type, u64), u32 place of its data behind
                 the header, u32 size; the data of type 1, an inode, has 0x2c u32 uid, 0x30 u32 gid
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import KIB
from livebuilder.usb.ranges import Range

_SUPERBLOCK = 64 * KIB
_MAGIC = b"_BHRfS_M"
_SUMMED_FROM = 0x20
_ITEMS = 0x65
_ITEM = struct.Struct("<QBQII")
_FILES_TREE = 5
_INODE = 1
_OWNERS = 0x2C


def give_to_root(volume: Path, data: Iterable[Range]) -> int:
    """Make 0:0 the owner of every file; returns how many inodes it found, each copy of a leaf counted.

    `data` are the ranges of `volume` that are no holes. Raises `LivebuilderError` when there
    is no btrfs in it, or one whose checksums are of another kind.
    """
    found = 0
    with volume.open("r+b") as stream:
        stream.seek(_SUPERBLOCK)
        superblock = stream.read(0x1000)
        if superblock[0x40:0x48] != _MAGIC:
            raise LivebuilderError(f"{volume} has no btrfs in it")
        sector_bytes, node_bytes = struct.unpack_from("<II", superblock, 0x90)
        (checksums,) = struct.unpack_from("<H", superblock, 0xC4)
        if checksums != 0:
            raise LivebuilderError(f"the btrfs in {volume} has checksums other than CRC-32C (kind {checksums})")
        for start, end in data:
            for place in range(start - start % sector_bytes, end, sector_bytes):
                stream.seek(place)
                node = bytearray(stream.read(node_bytes))
                if _is_leaf_of_files(node, superblock[0x20:0x30]):
                    found += _disown(node)
                    stream.seek(place)
                    stream.write(node)
    return found


def _is_leaf_of_files(node: bytearray, file_system: bytes) -> bool:
    """Whether this is a node of our file system, whole, and not what looks like one in the middle of another."""
    if len(node) < _ITEMS or node[0x20:0x30] != file_system:
        return False
    owner, _count, level = struct.unpack_from("<QIB", node, 0x58)
    (checksum,) = struct.unpack_from("<I", node)
    return (owner, level, checksum) == (_FILES_TREE, 0, crc32c(node[_SUMMED_FROM:]))


def _disown(leaf: bytearray) -> int:
    """Give all inodes of a leaf to root, and renew its checksum; returns how many there are."""
    (count,) = struct.unpack_from("<I", leaf, 0x60)
    items = (_ITEM.unpack_from(leaf, _ITEMS + number * _ITEM.size) for number in range(count))
    inodes = [_ITEMS + place for _inode, kind, _offset, place, _size in items if kind == _INODE]
    for inode in inodes:
        struct.pack_into("<II", leaf, inode + _OWNERS, 0, 0)
    struct.pack_into("<I", leaf, 0, crc32c(leaf[_SUMMED_FROM:]))
    return len(inodes)


def crc32c(data: bytes | bytearray) -> int:
    """The CRC-32C (Castagnoli) of `data`, as RFC 3720 has it."""
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)
