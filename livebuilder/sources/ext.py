"""A root tree from an ext2, ext3 or ext4 image, or from one that lies within a larger file; nothing is mounted.

A reader of our own for what a root image has in it (kernel: Documentation/filesystems/ext4/): block maps and extents,
symlinks in the inode and out of it, device nodes, extended attributes. What it does not know it refuses by name. Files
that lie in one run of blocks are read where they stand, the others are gathered in one file in the cache.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

from loguru import logger

from livebuilder.cache import Cache
from livebuilder.errors import LivebuilderError
from livebuilder.sizes import KIB, MIB, align_up
from livebuilder.tree import EMPTY, HOST_XATTRS, Content, Entry, Kind, RootTree, hardlink, kind_of_mode

_SUPERBLOCK_AT = 1024
_MAGIC = 0xEF53
_ROOT_INODE = 2
_LOST_AND_FOUND = "lost+found"
_CACHE_KIND = "ext"
_HOLES_LIMIT_BYTES = 64 * MIB  # what sparse files may be larger than the whole image, as in a tar
_DEPTH_LIMIT = 256  # folders in folders

# s_feature_incompat. Harmless to a reader: mmp, flex_bg, csum_seed, largedir, casefold.
_FILETYPE, _RECOVER, _EXTENTS, _WIDE = 0x2, 0x4, 0x40, 0x80
_HARMLESS = 0x100 | 0x200 | 0x2000 | 0x4000 | 0x20000
_FEATURES = {
    0x1: "compression", 0x8: "journal_dev", 0x10: "meta_bg", 0x400: "ea_inode", 0x1000: "dirdata",
    0x8000: "inline_data", 0x10000: "encrypt",
}  # fmt: skip
_IN_EXTENTS = 0x80000  # i_flags
_EXTENT_MAGIC = 0xF30A
_EXTENT_DEPTH = 5
_WRITTEN_LIMIT = 32768  # an extent longer than this is that much shorter, and not written yet: zeros
_XATTR_MAGIC = 0xEA020000
_XATTR_PREFIXES = {1: "user.", 4: "trusted.", 6: "security."}
_ACLS = frozenset({2, 3})


class _DamagedError(ValueError):
    """What the file system says of itself cannot be."""


class _Run(NamedTuple):
    """`length` blocks of a file, from its block `first` on, which lie at block `start` of the image."""

    first: int
    start: int
    length: int


@dataclass(frozen=True)
class _Inode:
    number: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    links: int
    sectors: int
    flags: int
    block: bytes  # i_block: pointers, an extent tree, a device's number or a short symlink
    attributes_at: int  # the block of further attributes
    attributes: bytes  # those behind the inode's own fields

    @property
    def kind(self) -> Kind | None:
        return kind_of_mode(self.mode)


def is_ext(head: bytes) -> bool:
    """Whether a file that begins with `head` (2 KiB of it) is an ext2, ext3 or ext4."""
    if len(head) < _SUPERBLOCK_AT + 0x60:
        return False
    inodes, blocks = struct.unpack_from("<II", head, _SUPERBLOCK_AT)
    (log_block_size,) = struct.unpack_from("<I", head, _SUPERBLOCK_AT + 0x18)
    (magic,) = struct.unpack_from("<H", head, _SUPERBLOCK_AT + 0x38)
    return bool(magic == _MAGIC and log_block_size <= 6 and inodes and blocks)


def ext_version(head: bytes) -> str:
    """Which of the three it is, by its features, as the kernel and blkid see it."""
    compatible, incompatible, read_only = struct.unpack_from("<III", head, _SUPERBLOCK_AT + 0x5C)
    if incompatible & ~(_FILETYPE | _RECOVER | 0x10) or read_only & ~0x7:
        return "ext4"
    return "ext3" if compatible & 0x4 else "ext2"


def root_tree_from_ext(image: Content, *, source: Path, cache: Cache) -> RootTree:
    """Everything in the ext file system at the start of `image`; `source` is the file it came from.

    Modes, numeric owners, hard links, symlinks, devices, times, and attributes of the kinds user, trusted and security;
    without an empty lost+found, and with a warning without sockets and ACLs. Raises `LivebuilderError`, naming
    `source`, when it is damaged, was not unmounted, or has features that are not known here.
    """
    assert image.path is not None
    with image.path.open("rb") as stream:
        try:
            return _Walk(_Reader(stream, image, source)).tree(cache)
        except (_DamagedError, struct.error) as error:
            raise LivebuilderError(
                f"{source} has a damaged ext file system in it: {error}",
                hint="copy or download it again, or mend a copy with: e2fsck -f IMAGE",
            ) from error


class _Reader:
    """The file system by its blocks and inodes."""

    def __init__(self, stream: BinaryIO, image: Content, source: Path) -> None:
        self._stream, self.image, self.source = stream, image, source
        head = self.bytes_at(0, 2 * KIB)
        if not is_ext(head):
            raise LivebuilderError(f"{source} has no ext file system in it")
        sb = head[_SUPERBLOCK_AT:]
        self._inodes, self._inodes_per_group = struct.unpack_from("<I36xI", sb)
        first_block, log_block_size = struct.unpack_from("<II", sb, 0x14)
        revision, inode_size, features = struct.unpack_from("<I8xH6xI", sb, 0x4C)
        if not revision:
            inode_size, features = 128, 0
        self._refuse(features)
        self._wide, self.has_types = bool(features & _WIDE), bool(features & _FILETYPE)
        self.block_size, self._inode_size = KIB << log_block_size, inode_size
        self._descriptor_size = struct.unpack_from("<H", sb, 0xFE)[0] if self._wide else 32
        if not self._inodes_per_group or not 128 <= inode_size <= self.block_size or self._descriptor_size < 32:
            raise _DamagedError("its superblock makes no sense")
        self._descriptors_at = (first_block + 1) * self.block_size
        self._used_blocks = 0

    def _refuse(self, features: int) -> None:
        if features & _RECOVER:
            raise LivebuilderError(
                f"{self.source} has an ext file system that was not unmounted: its journal must be replayed first",
                hint="on a copy of the file system: e2fsck -f IMAGE",
            )
        if unknown := features & ~(_FILETYPE | _EXTENTS | _WIDE | _HARMLESS):
            bits = [1 << bit for bit in range(32) if unknown >> bit & 1]
            names = ", ".join(_FEATURES.get(bit, hex(bit)) for bit in bits)
            raise LivebuilderError(
                f"{self.source} has an ext file system with features that cannot be read here: {names}",
                hint="mount it, and give a tar of what is in it",
            )

    def bytes_at(self, at: int, length: int) -> bytes:
        if not 0 <= at <= at + length <= self.image.size:
            raise _DamagedError(f"bytes {at} to {at + length} are beyond its end")
        data = os.pread(self._stream.fileno(), length, self.image.offset + at)
        if len(data) < length:
            raise LivebuilderError(f"{self.source} got shorter while it was being read")
        return data

    def block(self, number: int) -> bytes:
        return self.bytes_at(number * self.block_size, self.block_size)

    def inode(self, number: int) -> _Inode:
        if not 0 < number <= self._inodes:
            raise _DamagedError(f"there is no inode {number}")
        group, index = divmod(number - 1, self._inodes_per_group)
        descriptor = self.bytes_at(self._descriptors_at + group * self._descriptor_size, self._descriptor_size)
        (table,) = struct.unpack_from("<I", descriptor, 8)
        if len(descriptor) >= 64:
            table |= struct.unpack_from("<I", descriptor, 0x28)[0] << 32
        data = self.bytes_at(table * self.block_size + index * self._inode_size, self._inode_size)
        mode, uid, size, mtime, gid, links, sectors, flags = struct.unpack_from("<HHI8xi4xHHII", data)
        block, attributes_at, size_high = struct.unpack_from("<60s4xII", data, 0x28)
        sectors_high, attributes_high, uid_high, gid_high = struct.unpack_from("<4H", data, 0x74)
        if stat.S_ISREG(mode):
            size |= size_high << 32
        extra = struct.unpack_from("<H", data, 0x80)[0] if len(data) > 128 else 0
        if extra >= 12:  # i_mtime_extra: two more bits of seconds
            mtime += (struct.unpack_from("<I", data, 0x88)[0] & 3) << 32
        return _Inode(
            number, mode, uid | uid_high << 16, gid | gid_high << 16, size, mtime, links, sectors | sectors_high << 32,
            flags, block, attributes_at | attributes_high << 32, data[128 + extra :],
        )  # fmt: skip

    def runs(self, inode: _Inode) -> list[_Run]:
        """Where the blocks of a file are, in their order; what is not named is a hole, and reads as zeros."""
        wanted = align_up(inode.size, self.block_size) // self.block_size
        in_extents = inode.flags & _IN_EXTENTS
        merged: list[_Run] = []
        for run in self._extents(inode.block, _EXTENT_DEPTH) if in_extents else self._mapped(inode.block, wanted):
            self._count(run.length)
            if run.start < 1 or (run.start + run.length) * self.block_size > self.image.size:
                raise _DamagedError(f"a block of inode {inode.number} lies beyond its end")
            last = merged[-1] if merged else _Run(0, 0, 0)
            if run.first < last.first + last.length:
                raise _DamagedError(f"the blocks of inode {inode.number} overlap")
            if merged and (run.first, run.start) == (last.first + last.length, last.start + last.length):
                merged[-1] = _Run(last.first, last.start, last.length + run.length)
            else:
                merged.append(run)
        return [_Run(r.first, r.start, min(r.length, wanted - r.first)) for r in merged if r.first < wanted]

    def _count(self, blocks: int) -> None:
        self._used_blocks += blocks
        if self._used_blocks * self.block_size > self.image.size:
            raise _DamagedError("its files have more blocks than there are")

    def _extents(self, node: bytes, depth_limit: int) -> Iterator[_Run]:
        magic, count, _, depth = struct.unpack_from("<4H", node)
        if magic != _EXTENT_MAGIC or depth > depth_limit or 12 * (count + 1) > len(node):
            raise _DamagedError("an extent tree makes no sense")
        for at in range(12, 12 * (count + 1), 12):
            if depth:
                low, high = struct.unpack_from("<IH", node, at + 4)
                self._count(1)
                yield from self._extents(self.block(low | high << 32), depth - 1)
            else:
                first, length, high, low = struct.unpack_from("<IHHI", node, at)
                if 0 < length <= _WRITTEN_LIMIT:
                    yield _Run(first, low | high << 32, length)

    def _mapped(self, pointers: bytes, wanted: int) -> Iterator[_Run]:
        """The twelve direct blocks, then those by way of one, two and three blocks of pointers."""
        numbers = struct.unpack("<15I", pointers)
        yield from (_Run(first, start, 1) for first, start in enumerate(numbers[:12]) if start and first < wanted)
        first = 12
        for steps, start in enumerate(numbers[12:], start=1):
            if first >= wanted:
                return
            yield from self._pointed(start, steps, first, wanted)
            first += (self.block_size // 4) ** steps

    def _pointed(self, block: int, steps: int, first: int, wanted: int) -> Iterator[_Run]:
        if not block:
            return
        self._count(1)
        per_pointer = (self.block_size // 4) ** (steps - 1)
        for number, start in enumerate(struct.unpack(f"<{self.block_size // 4}I", self.block(block))):
            at = first + number * per_pointer
            if at >= wanted:
                return
            if steps > 1:
                yield from self._pointed(start, steps - 1, at, wanted)
            elif start:
                yield _Run(at, start, 1)

    def data(self, inode: _Inode) -> bytes:
        """All of a folder's or a symlink's bytes."""
        if inode.size > self.image.size:
            raise _DamagedError(f"inode {inode.number} is larger than the image")
        found = bytearray(align_up(inode.size, self.block_size))
        for run in self.runs(inode):
            data = self.bytes_at(run.start * self.block_size, run.length * self.block_size)
            found[run.first * self.block_size : (run.first + run.length) * self.block_size] = data
        return bytes(found[: inode.size])

    def folder(self, inode: _Inode) -> Iterator[tuple[bytes, int]]:
        """The names in a folder and their inodes, those for itself and its parent left out."""
        data = self.data(inode)
        for start in range(0, len(data), self.block_size):
            at, end = start, min(start + self.block_size, len(data))
            while at < end:
                number, length, name_length = struct.unpack_from("<IHH", data, at)
                if self.has_types:
                    name_length &= 0xFF
                if self.block_size == 64 * KIB and length in (0, 0xFFFF):
                    length = 64 * KIB
                if length < 8 + name_length or at + length > end:
                    raise _DamagedError(f"the folder of inode {inode.number} makes no sense")
                name = data[at + 8 : at + 8 + name_length]
                if number and name not in (b".", b".."):
                    yield name, number
                at += length

    def attributes(self, inode: _Inode) -> Iterator[tuple[int, bytes, bytes]]:
        """Extended attributes: what kind, name, value."""
        if inode.attributes[:4] == struct.pack("<I", _XATTR_MAGIC):
            yield from _attributes(inode.attributes[4:], 0)
        if inode.attributes_at:
            block = self.block(inode.attributes_at)
            if block[:4] != struct.pack("<I", _XATTR_MAGIC):
                raise _DamagedError(f"the attributes of inode {inode.number} make no sense")
            yield from _attributes(block, 32)


def _attributes(data: bytes, at: int) -> Iterator[tuple[int, bytes, bytes]]:
    while data[at : at + 4] not in (bytes(4), b""):
        length, kind, value_at, elsewhere, value_length = struct.unpack_from("<BBHII", data, at)
        name = data[at + 16 : at + 16 + length]
        if elsewhere or len(name) < length or value_at + value_length > len(data):
            raise _DamagedError("an extended attribute makes no sense")
        yield kind, name, data[value_at : value_at + value_length]
        at += align_up(16 + length, 4)


class _Walk:
    """All that is found from the top folder on."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._source = str(reader.source)
        self._entries: dict[str, Entry] = {}
        self._pieces: dict[str, Sequence[_Run]] = {}  # of the files that are not in one run
        self._first_names: dict[int, str] = {}
        self._folders: set[int] = set()
        self._holes = 0
        self._left_out: list[str] = []

    def tree(self, cache: Cache) -> RootTree:
        self._folder(_ROOT_INODE, "", 0)
        if not any(path.startswith(f"{_LOST_AND_FOUND}/") for path in self._entries):
            self._entries.pop(_LOST_AND_FOUND, None)
        if not self._entries:
            raise LivebuilderError(f"{self._source} has an ext file system with nothing in it")
        if self._left_out:
            logger.warning("{}: left out, for a root cannot have them: {}", self._source, ", ".join(self._left_out))
        self._gather(cache)
        return RootTree(self._entries.values())

    def _folder(self, number: int, path: str, depth: int) -> None:
        inode = self._reader.inode(number)
        if inode.kind is not Kind.DIRECTORY or number in self._folders or depth > _DEPTH_LIMIT:
            raise _DamagedError(f"/{path} is no folder, or one that has a name already")
        self._folders.add(number)
        for name, below in self._reader.folder(inode):
            if not name or b"/" in name or b"\0" in name:
                raise _DamagedError(f"/{path} has an impossible name in it")
            self._add(f"{path}/{os.fsdecode(name)}" if path else os.fsdecode(name), below, depth)

    def _add(self, path: str, number: int, depth: int) -> None:
        if path in self._entries:
            raise _DamagedError(f"/{path} is there twice")
        if number in self._first_names:
            self._entries[path] = hardlink(path, self._first_names[number], source=self._source)
            return
        inode = self._reader.inode(number)
        kind = inode.kind
        if kind is None:
            if not stat.S_ISSOCK(inode.mode):
                raise _DamagedError(f"/{path} is of no kind that there is")
            self._left_out.append(f"the socket /{path}")
            return
        if kind is Kind.FILE:
            self._first_names[number] = path
        self._entries[path] = Entry(
            path, kind, stat.S_IMODE(inode.mode), inode.uid, inode.gid, inode.mtime,
            content=self._content(path, inode) if kind is Kind.FILE else EMPTY,
            target=self._target(inode) if kind is Kind.SYMLINK else "",
            device=_device(inode) if kind in (Kind.CHAR, Kind.BLOCK) else (0, 0),
            xattrs=self._xattrs(path, inode), source=self._source,
        )  # fmt: skip
        if kind is Kind.DIRECTORY:
            self._folder(number, path, depth + 1)

    def _content(self, path: str, inode: _Inode) -> Content:
        """Where it stands in the image; of a file in pieces only the size, and where these are in `_pieces`."""
        if not inode.size:
            return EMPTY
        reader = self._reader
        if inode.size > reader.image.size + _HOLES_LIMIT_BYTES:
            raise _DamagedError(f"/{path} would have {inode.size} bytes")
        runs, blocks = reader.runs(inode), align_up(inode.size, reader.block_size) // reader.block_size
        if len(runs) == 1 and runs[0].first == 0 and runs[0].length == blocks:
            return reader.image.part(runs[0].start * reader.block_size, inode.size)
        self._holes += blocks - sum(run.length for run in runs)
        if self._holes * reader.block_size > _HOLES_LIMIT_BYTES:
            raise LivebuilderError(
                f"{self._source}: /{path} and other sparse files have more than {_HOLES_LIMIT_BYTES} bytes of holes",
                hint="mount it, and give a tar of what is needed",
            )
        self._pieces[path] = runs
        return Content(inode.size, None, reader.image.path)

    def _target(self, inode: _Inode) -> str:
        attribute_sectors = self._reader.block_size // 512 if inode.attributes_at else 0
        if inode.size < 60 and not inode.flags & _IN_EXTENTS and inode.sectors == attribute_sectors:
            return os.fsdecode(inode.block[: inode.size])
        return os.fsdecode(self._reader.data(inode))

    def _xattrs(self, path: str, inode: _Inode) -> dict[str, bytes]:
        found = {}
        for kind, name, value in self._reader.attributes(inode):
            if kind in _XATTR_PREFIXES:
                found[_XATTR_PREFIXES[kind] + os.fsdecode(name)] = value
            else:
                self._left_out.append(f"{'the ACL' if kind in _ACLS else 'an attribute'} of /{path}")
        return {name: value for name, value in found.items() if name not in HOST_XATTRS}

    def _gather(self, cache: Cache) -> None:
        """Put the files in pieces together in a file in the cache, one after the other."""
        if not self._pieces:
            return
        size = sum(self._entries[path].content.size for path in self._pieces)
        key = f"{self._reader.image.sha256}-{size}"
        known = cache.find(_CACHE_KIND, key)
        if known is None or known.stat().st_size != size:
            with cache.place(_CACHE_KIND, key) as draft, draft.open("wb") as out:
                for path, runs in self._pieces.items():
                    self._write(out, runs, self._entries[path].content.size)
        offset = 0
        for path in self._pieces:
            entry = self._entries[path]
            content = Content(entry.content.size, None, cache.folder(_CACHE_KIND) / key, offset)
            self._entries[path] = replace(entry, content=content)
            offset += content.size

    def _write(self, out: BinaryIO, runs: Sequence[_Run], size: int) -> None:
        start, block_size = out.tell(), self._reader.block_size
        for run in runs:
            out.seek(start + run.first * block_size)
            left = min(run.length * block_size, size - run.first * block_size)
            for at in range(0, left, MIB):
                out.write(self._reader.bytes_at(run.start * block_size + at, min(MIB, left - at)))
        out.truncate(start + size)
        out.seek(start + size)


def _device(inode: _Inode) -> tuple[int, int]:
    """The two ways Linux writes a device's number (include/linux/kdev_t.h)."""
    old, new = struct.unpack_from("<II", inode.block)
    if old:
        return old >> 8 & 0xFF, old & 0xFF
    return new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00
