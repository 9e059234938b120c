"""How large an ext2 image has to be so that a tree fits and the space asked for is left.

The image is made on the other machine by `busybox mke2fs -F -b BLOCK -i BYTES_PER_INODE -m 0 DEVICE KBYTES`, filled by
Linux's ext4 driver. Both are worked out here, after busybox 1.35, util-linux/mkfs_ext2.c, and Linux, fs/ext4/: groups
of 8 × BLOCK blocks, each with its bitmaps and inode table, and with a copy of the superblock and the group
descriptors in groups 0, 1 and the powers of 3, 5 and 7; folders of more than a block are hashed trees.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import GIB, KIB, MIB, align_up, render_size
from livebuilder.tree import Kind, RootTree

_BLOCK_SIZES = (KIB, 2 * KIB, 4 * KIB)
_DESCRIPTOR_BYTES = 32
_DIRECT_BLOCKS = 12
_USED_INODES = 11  # ten that ext2 keeps for itself, and lost+found
_SHORT_TARGET_BYTES = 59  # a symlink's target up to this length sits in the inode, in place of the block pointers
_LINK_LIMIT = 32_000  # EXT2_LINK_MAX
_DOTS_BYTES = 24  # the entries "." and ".."
_LOST_AND_FOUND = "lost+found"
_LIMIT_BYTES = 16 * GIB
_FREE_BYTES_PER_INODE = 8 * KIB
_LEAST_FREE_INODES = 64
_LEAST_BLOCKS = 60  # mke2fs refuses less
_STEP_BACK_BLOCKS = 64
# Groups with a copy of the superblock and the descriptors (the feature sparse_super).
_COPY_GROUPS = frozenset({0, 1} | {base**power for base in (3, 5, 7) for power in range(1, 21)})


@dataclass(frozen=True)
class Ext2Plan:
    """What mke2fs is told (`block_size`, `bytes_per_inode`, `size_bytes`), and what comes of it.

    `blocks` and `inodes` are the file system's totals. `entries` is how many inodes the unpacked tree takes: one per
    path, except the further names of a file, and lost+found, which mke2fs has made already. `data_bytes` is what its
    files and folders take, without what is to stay free.
    """

    block_size: int
    blocks: int
    inodes: int
    bytes_per_inode: int
    size_bytes: int
    entries: int
    data_bytes: int


@dataclass(frozen=True)
class Layout:
    """A file system as mke2fs leaves it: totals, and what is free before anything is unpacked."""

    blocks: int
    inodes: int
    free_blocks: int
    free_inodes: int


def plan_ext2(tree: RootTree, *, free_bytes: int) -> Ext2Plan:
    """An image that holds `tree` and has `free_bytes`, and an inode for every 8 KiB of them, left.

    Its blocks are the largest that make it at most an eighth larger than the smallest image there is: blocks of 4 KiB
    are filled a third sooner than those of 1 KiB. More than was asked is free where mke2fs can do no less (it makes at
    most one inode per block, and at least 50 blocks for data in the last group) and where folders turn out better
    packed than the worst case. Raises `LivebuilderError` for what ext2 cannot hold.
    """
    folders = _folders(tree)
    _check(tree)
    able = [size for size in _BLOCK_SIZES[:-1] if _suits(tree, folders, block_size=size)] + [_BLOCK_SIZES[-1]]
    plans = [_plan(tree, folders, block_size=size, free_bytes=free_bytes) for size in able]
    limit = min(plan.size_bytes for plan in plans) * 9 // 8
    return next(plan for plan in reversed(plans) if plan.size_bytes <= limit)


def _plan(tree: RootTree, folders: dict[str, list[int]], *, block_size: int, free_bytes: int) -> Ext2Plan:
    """The smallest image with blocks of `block_size`."""
    entries = sum(entry.kind is not Kind.HARDLINK and entry.path != _LOST_AND_FOUND for entry in tree)
    inodes = entries + max(_LEAST_FREE_INODES, free_bytes // _FREE_BYTES_PER_INODE)
    tree_blocks = _data_blocks(tree, folders, block_size=block_size)
    data_blocks = tree_blocks + align_up(free_bytes, block_size) // block_size
    blocks = max(data_blocks, inodes + _USED_INODES)
    while blocks * block_size <= _LIMIT_BYTES:
        bytes_per_inode = blocks * block_size // (inodes + _USED_INODES)
        made = layout(blocks * block_size, block_size=block_size, bytes_per_inode=bytes_per_inode)
        lacking = max(data_blocks - made.free_blocks, inodes - made.free_inodes)
        if lacking <= 0:
            size_bytes = blocks * block_size
            data_bytes = tree_blocks * block_size
            return Ext2Plan(block_size, made.blocks, made.inodes, bytes_per_inode, size_bytes, entries, data_bytes)
        # A group more, no longer given up, frees some fifty blocks at once: step over no size that would do.
        blocks += max(1, lacking - _STEP_BACK_BLOCKS)
    raise LivebuilderError(
        f"the root would need an image of more than {render_size(_LIMIT_BYTES)}", hint="leave less space free"
    )


def layout(size_bytes: int, *, block_size: int, bytes_per_inode: int) -> Layout:
    """What busybox's mke2fs makes of `size_bytes`, without the share it reserves for root (`-m 0`).

    All zero when that is too little for it.
    """
    inode_size = 128 if size_bytes < 512 * MIB else 256
    first_block = 1 if block_size == KIB else 0
    group_blocks = 8 * block_size
    asked_blocks = blocks = size_bytes // block_size
    while blocks >= _LEAST_BLOCKS:
        groups = _ceil(blocks - first_block, group_blocks)
        copy_blocks = 1 + _ceil(groups, block_size // _DESCRIPTOR_BYTES)
        group_inodes = _ceil(max(asked_blocks * block_size // bytes_per_inode, _USED_INODES + 1), groups)
        group_inodes = min(max(group_inodes, 16), group_blocks)
        group_inodes = align_up(group_inodes * inode_size, block_size) // inode_size & ~7
        meta_blocks = 2 + _ceil(group_inodes * inode_size, block_size)
        rest = (blocks - first_block) % group_blocks
        if rest and rest < meta_blocks + copy_blocks * (groups - 1 in _COPY_GROUPS) + 50:
            blocks -= rest  # too small a last group is given up
            continue
        copies = sum(group < groups for group in _COPY_GROUPS)
        used = first_block + groups * meta_blocks + copies * copy_blocks + 1 + _lost_and_found_blocks(block_size)
        inodes = groups * group_inodes
        return Layout(blocks, inodes, blocks - used, inodes - _USED_INODES)
    return Layout(0, 0, 0, 0)


def _lost_and_found_blocks(block_size: int) -> int:
    return min(_DIRECT_BLOCKS, 16 * KIB // block_size)


def _folders(tree: RootTree) -> dict[str, list[int]]:
    """The sizes in bytes of the directory entries in every folder, the top one ("") among them."""
    folders = {"": [_name_bytes(_LOST_AND_FOUND)], _LOST_AND_FOUND: []}
    for entry in tree:
        if entry.path == _LOST_AND_FOUND:
            continue
        folders[entry.parent].append(_name_bytes(entry.name))
        if entry.kind is Kind.DIRECTORY:
            folders[entry.path] = []
    return folders


def _name_bytes(name: str) -> int:
    return align_up(8 + len(os.fsencode(name)), 4)


def _check(tree: RootTree) -> None:
    names = Counter(entry.target for entry in tree if entry.kind is Kind.HARDLINK)
    subfolders = Counter(entry.parent for entry in tree if entry.kind is Kind.DIRECTORY)
    for path, count in (names + subfolders).items():
        if count > _LINK_LIMIT - 2:
            raise LivebuilderError(f"/{path} has {count} further names or folders in it; ext2 holds {_LINK_LIMIT - 2}")
    top = tree.get(_LOST_AND_FOUND)
    if top is not None and top.kind is not Kind.DIRECTORY:
        raise LivebuilderError(f"/{_LOST_AND_FOUND} is a {top.kind}; on ext2 it is a folder that mke2fs makes")


def _suits(tree: RootTree, folders: dict[str, list[int]], *, block_size: int) -> bool:
    """Whether every symlink fits into a block, as it must, and every folder's index has enough of them."""
    longest = max((len(os.fsencode(e.target)) for e in tree if e.kind is Kind.SYMLINK), default=0)
    nodes = max(_index_nodes(_folder_leaves(names, block_size), block_size) for names in folders.values())
    return longest < block_size and nodes <= _index_pointers(block_size)


def _data_blocks(tree: RootTree, folders: dict[str, list[int]], *, block_size: int) -> int:
    """The blocks that unpacking takes, at most, beyond the two folders mke2fs has made."""
    sizes = [_ceil(entry.content.size, block_size) for entry in tree if entry.kind is Kind.FILE]
    sizes += [1 for e in tree if e.kind is Kind.SYMLINK and len(os.fsencode(e.target)) > _SHORT_TARGET_BYTES]
    for path, names in folders.items():
        leaves = _folder_leaves(names, block_size)
        blocks = 1 if leaves == 1 else 1 + leaves + _index_nodes(leaves, block_size)
        sizes.append(max(blocks, _lost_and_found_blocks(block_size)) if path == _LOST_AND_FOUND else blocks)
    total = sum(blocks + _pointer_blocks(blocks, block_size) for blocks in sizes)
    return total - 1 - _lost_and_found_blocks(block_size)


def _folder_leaves(names: list[int], block_size: int) -> int:
    """The blocks of directory entries: one, or, as full leaves are split, leaves that are half full at worst."""
    if _DOTS_BYTES + sum(names) <= block_size:
        return 1
    return min(len(names), _ceil(sum(names), (block_size - max(names)) // 2))


def _index_pointers(block_size: int) -> int:
    return (block_size - 32) // 8


def _index_nodes(leaves: int, block_size: int) -> int:
    """The blocks of a folder's index below its root; they are split in halves, too."""
    pointers = _index_pointers(block_size)
    return 0 if leaves <= pointers else _ceil(leaves, pointers // 2)


def _pointer_blocks(blocks: int, block_size: int) -> int:
    """The indirect blocks of a file of so many blocks: those of one, two and three steps."""
    pointers = block_size // 4
    left = blocks - _DIRECT_BLOCKS
    total = 0
    for steps in (1, 2, 3):
        if left <= 0:
            break
        here = min(left, pointers**steps)
        total += sum(_ceil(here, pointers**step) for step in range(1, steps + 1))
        left -= here
    return total


def _ceil(value: int, unit: int) -> int:
    return -(-value // unit)
