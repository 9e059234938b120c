"""What a file system says about itself: its type, label and UUID, read from its superblock.

Offsets in bytes from the start of the file system (kernel: fs/ext4/ext4.h `struct ext4_super_block` at 1024,
include/linux/f2fs_fs.h `struct f2fs_super_block` at 1024, include/uapi/linux/btrfs_tree.h `struct
btrfs_super_block` at 65536)::

            magic                  UUID    label
    ext     1080   53 EF           1128    1144   16 bytes
    f2fs    1024   10 20 F5 F2     1132    1148   512 UTF-16 units, little endian
    btrfs   65600  "_BHRfS_M"      65568   65835  256 bytes, ended by NUL
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

_READ_BYTES = 65536 + 4096
_HAS_JOURNAL = 0x4  # s_feature_compat
# Features that ext3 does not know make an ext4: those of s_feature_incompat and s_feature_ro_compat
# beyond filetype, recover, meta_bg and sparse_super, large_file, btree_dir.
_EXT3_INCOMPAT = 0x2 | 0x4 | 0x10
_EXT3_RO_COMPAT = 0x1 | 0x2 | 0x4


@dataclass(frozen=True)
class Superblock:
    """A file system as it names itself; `uuid` in small letters, as blkid prints it."""

    type: str
    label: str
    uuid: str


def parse_superblock(start: bytes) -> Superblock | None:
    """The superblock in the first 68 KiB of a file system, or None when it is of no type that can be storage."""
    start = start.ljust(_READ_BYTES, b"\0")
    if start[1080:1082] == b"\x53\xef":
        return Superblock(_ext_type(start), _text(start[1144:1160]), _uuid(start[1128:1144]))
    if start[1024:1028] == b"\x10\x20\xf5\xf2":
        label = start[1148 : 1148 + 1024].decode("utf-16-le", "replace").split("\0")[0]
        return Superblock("f2fs", label, _uuid(start[1132:1148]))
    if start[65600:65608] == b"_BHRfS_M":
        return Superblock("btrfs", _text(start[65835 : 65835 + 256]), _uuid(start[65568:65584]))
    return None


def read_superblock(path: Path, *, offset: int = 0) -> Superblock | None:
    """The superblock of the file system that begins `offset` bytes into `path`."""
    with path.open("rb") as stream:
        stream.seek(offset)
        return parse_superblock(stream.read(_READ_BYTES))


def _ext_type(start: bytes) -> str:
    compat, incompat, ro_compat = struct.unpack_from("<3I", start, 1024 + 0x5C)
    if incompat & ~_EXT3_INCOMPAT or ro_compat & ~_EXT3_RO_COMPAT:
        return "ext4"
    return "ext3" if compat & _HAS_JOURNAL else "ext2"


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "replace")


def _uuid(field: bytes) -> str:
    return str(UUID(bytes=field))
