"""Which blocks of an ext file system are in use, by its bitmaps.

Kernel: Documentation/filesystems/ext4/{super,group_descr,bitmaps}.rst. All numbers are little endian.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import KIB
from livebuilder.usb.filesystem import DamagedError
from livebuilder.usb.ranges import Range, merged

Reader = Callable[[int, int], bytes]
"""Gives the bytes at (offset, length)."""

_RECOVER, _META_BG = 0x4, 0x10  # s_feature_incompat
_ENCRYPT = 0x10000
_64BIT = 0x80
_GDT_CSUM, _BIGALLOC, _METADATA_CSUM = 0x10, 0x200, 0x400  # s_feature_ro_compat
_INODE_UNINIT, _BLOCK_UNINIT = 0x1, 0x2  # bg_flags
_BITS = re.compile("1+")


def used_ranges(read: Reader, *, size_bytes: int, path: str) -> list[Range] | None:
    """The bytes that an ext file system of at most `size_bytes` uses, by its bitmaps.

    None for meta_bg and bigalloc, whose bitmaps are laid out otherwise: all of it may be in use. Raises
    `LivebuilderError` when the superblock makes no sense.
    """
    start = read(1024, 1024)
    inodes, blocks = struct.unpack_from("<2I", start)
    (first_block, log_size) = struct.unpack_from("<2I", start, 0x14)
    (per_group, _, inodes_per_group) = struct.unpack_from("<3I", start, 0x20)
    (revision,) = struct.unpack_from("<I", start, 0x4C)
    (inode_bytes,) = struct.unpack_from("<H", start, 0x58) if revision else (128,)
    incompat, ro_compat = struct.unpack_from("<2I", start, 0x60)
    wide = bool(incompat & _64BIT)
    (descriptor_bytes,) = struct.unpack_from("<H", start, 0xFE) if wide else (32,)
    if wide:
        blocks |= struct.unpack_from("<I", start, 0x150)[0] << 32
    block = KIB << min(log_size, 7)
    sound = (
        log_size <= 6 and 0 < per_group <= 8 * block and 0 < inodes_per_group <= 8 * block and first_block <= 1
        and first_block < blocks <= size_bytes // block and inode_bytes in (128 << n for n in range(10))
        and descriptor_bytes in (32 << n for n in range(6)) and inodes
    )  # fmt: skip
    if not sound:
        raise DamagedError(
            f"the superblock of {path} makes no sense: the file system is damaged or larger than its partition"
        )
    if incompat & _ENCRYPT:
        raise LivebuilderError(f"{path} has encrypted folders on it, which cannot be read here")
    if incompat & _META_BG or ro_compat & _BIGALLOC:
        return None
    lazy = bool(ro_compat & (_GDT_CSUM | _METADATA_CSUM))  # else bg_flags means nothing
    groups = -(-(blocks - first_block) // per_group)
    table_blocks = -(-groups * descriptor_bytes // block)
    inode_blocks = -(-inodes_per_group * inode_bytes // block)
    descriptors = read((first_block + 1) * block, table_blocks * block)
    found: list[Range] = [(0, first_block + 1 + table_blocks)]
    for group in range(groups):
        at = group * descriptor_bytes
        block_bitmap, inode_bitmap, inode_table = struct.unpack_from("<3I", descriptors, at)
        (flags,) = struct.unpack_from("<H", descriptors, at + 0x12)
        if wide and descriptor_bytes >= 64:
            high = struct.unpack_from("<3I", descriptors, at + 0x20)
            block_bitmap, inode_bitmap, inode_table = (
                low | up << 32 for low, up in zip((block_bitmap, inode_bitmap, inode_table), high, strict=True)
            )
        if max(block_bitmap + 1, inode_bitmap + 1, inode_table + inode_blocks) > blocks:
            raise DamagedError(f"the group descriptors of {path} are damaged")
        found += [(block_bitmap, block_bitmap + 1), (inode_bitmap, inode_bitmap + 1)]
        if not (lazy and flags & _INODE_UNINIT):
            found.append((inode_table, inode_table + inode_blocks))
        first = first_block + group * per_group
        if lazy and flags & _BLOCK_UNINIT:
            found.append((first, min(blocks, first + 1 + table_blocks)))  # where a backup may be
            continue
        count = min(per_group, blocks - first)
        bitmap = int.from_bytes(read(block_bitmap * block, block), "little")
        text = f"{bitmap & ((1 << count) - 1):0{count}b}"[::-1]
        found += [(first + match.start(), first + match.end()) for match in _BITS.finditer(text)]
    return merged((low * block, min(high, blocks) * block) for low, high in found)


def needs_recovery(read: Reader) -> bool:
    """Whether the journal of an ext file system has something to be replayed."""
    (incompat,) = struct.unpack("<I", read(1024 + 0x60, 4))
    return bool(incompat & _RECOVER)
