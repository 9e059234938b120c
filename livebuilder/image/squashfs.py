"""The root as a squashfs: what its superblock says, and one made of a tree, padded as OpenWrt wants it.

Superblock (kernel: fs/squashfs/squashfs_fs.h; versions 1 to 3 keep the version at the same place), little-endian:

    0  s_magic  4  "hsqs"           20  compression  u16  1 gzip 2 lzma 3 lzo 4 xz 5 lz4 6 zstd
    4  inodes  u32                  28  s_major, s_minor  u16, u16
    8  mkfs_time  u32               40  bytes_used  u64
    12 block_size  u32
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from livebuilder.errors import LivebuilderError

SUPERBLOCK_BYTES = 96
MAGIC = b"hsqs"
# The first four bytes of everything that calls itself squashfs, and what it is.
_KINDS = {
    MAGIC: "squashfs",
    b"sqsh": "big-endian squashfs",
    b"shsq": "squashfs of a kernel patched for lzma",
    b"qshs": "big-endian squashfs of a kernel patched for lzma",
    b"hsqt": "squashfs of a kernel patched by DD-WRT",
    b"tqsh": "big-endian squashfs of a kernel patched by DD-WRT",
}
_COMPRESSIONS = {1: "gzip", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}
_FIELDS = struct.Struct("<4sIIIIHHHHHHQQ")
_VERSION = struct.Struct("<HH")
_VERSION_AT = 28


@dataclass(frozen=True)
class Superblock:
    """A squashfs 4.0; sizes in bytes. `bytes_used` is its length without what it is padded with."""

    inodes: int
    made: int
    block_size: int
    compression: str
    bytes_used: int


def is_squashfs(data: bytes) -> bool:
    """Whether a file that begins with `data` is a squashfs of any kind, one that can be read or not."""
    return data[:4] in _KINDS


def read_superblock(data: bytes, *, source: str) -> Superblock:
    """The superblock at the start of `data`; raises `LivebuilderError`, naming `source` and what it is instead."""
    kind = _KINDS.get(data[:4])
    if kind is None or len(data) < SUPERBLOCK_BYTES:
        raise LivebuilderError(f"{source} is not a squashfs" if kind is None else f"{source} is a {kind} cut short")
    little = data[:4] in (MAGIC, b"shsq", b"hsqt")
    major, minor = struct.unpack_from("<HH" if little else ">HH", data, _VERSION_AT)
    if data[:4] != MAGIC or major != 4:
        old = ", from before Linux 2.6.29 and OpenWrt 10.03" if data[:4] == MAGIC and major < 4 else ""
        raise LivebuilderError(
            f"{source} is a {kind} {major}.{minor}{old}; what can be read is squashfs 4.0, little-endian",
            hint="unpack it with the unsquashfs it was made for, and give the folder or a tar of it",
        )
    _, inodes, made, block_size, _, number, _, _, _, _, minor, _, bytes_used = _FIELDS.unpack_from(data)
    if number not in _COMPRESSIONS:
        raise LivebuilderError(f"{source} is a squashfs packed in a way nobody knows (number {number})")
    if block_size & (block_size - 1) or not 4096 <= block_size <= 1 << 20 or bytes_used < SUPERBLOCK_BYTES:
        raise LivebuilderError(
            f"{source} is a damaged squashfs: blocks of {block_size} bytes, {bytes_used} bytes in all"
        )
    return Superblock(inodes, made, block_size, _COMPRESSIONS[number], bytes_used)
