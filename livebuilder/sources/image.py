"""A root, and where there is one a kernel, from whatever file it comes in: told by its content, nothing is mounted.

    root_from_image(path)
        tar, plain or packed ............ archive
        squashfs ........................ squashfs
        ext2, ext3, ext4 ................ ext
        disk, with a DOS or GPT table ... partitions: a root (squashfs or ext), a kernel on ext or FAT

Each of them may be packed with gzip, xz, zstd or bzip2, and have something behind its end: OpenWrt puts metadata there,
of which `gzip -t` warns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Literal

from livebuilder.cache import Cache
from livebuilder.errors import LivebuilderError
from livebuilder.image.squashfs import is_squashfs, read_superblock
from livebuilder.sizes import KIB, render_size
from livebuilder.sources.archive import root_tree_from_archive, unpacked_limit
from livebuilder.sources.ext import ext_version, is_ext, root_tree_from_ext
from livebuilder.sources.fat import file_from_fat, is_fat
from livebuilder.sources.partitions import Partition, has_table, read_partitions
from livebuilder.sources.squashfs import root_tree_from_squashfs
from livebuilder.tree import Content, Kind, RootTree
from livebuilder.unpacking import PackingError, can_unpack, new_decompressor, packing_of, unpack_step

_CACHE_KIND = "images"
_HEAD_BYTES = 68 * KIB  # btrfs has its mark at 64 KiB
_READ_BYTES = KIB  # so little that even a bomb gives no more than some ten MiB before it is noticed
_MAGIC_BYTES = 6  # by which a packing is told
_HOLE = bytes(4 * KIB)
_KNOWN = (
    "a root is a tar (also .gz, .xz, .zst, .bz2), a squashfs or ext4 image, or a disk image with one of these in it,"
    " as OpenWrt's *-combined*.img.gz"
)
# Where OpenWrt has its kernel on the boot partition, and where others have it.
_KERNELS = ("boot/vmlinuz", "vmlinuz")
# Any of these makes a file system a root.
_INITS = ("sbin/init", "etc/preinit", "bin/sh", "init")
# (offset, magic, what it is, what to do) of what people have and livebuilder cannot read.
_OTHERS = (
    (32769, b"CD001", "an ISO image", "take the root's own image"),
    (0, b"QFI\xfb", "a qcow2 image", "qemu-img convert -O raw FILE disk.img"),
    (0, b"KDMV", "a VMDK image", "qemu-img convert -O raw FILE disk.img"),
    (64, b"\x7f\x10\xda\xbe", "a VDI image", "qemu-img convert -O raw FILE disk.img"),
    (0, b"vhdxfile", "a VHDX image", "qemu-img convert -O raw FILE disk.img"),
    (0, b"PK\3\4", "a zip archive", "unzip it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (0x202, b"HdrS", "a Linux kernel", "name it as kernel.image"),
    (0, b"070701", "a cpio archive", "unpack it and give the folder"),
    (0, b"\x85\x19", "a JFFS2 image", "give the squashfs or the tar of the same root"),
    (0, b"\x19\x85", "a JFFS2 image", "give the squashfs or the tar of the same root"),
    (0, b"UBI#", "a UBI image", "give the squashfs or the tar of the same root"),
    (0, b"\x45\x3d\xcd\x28", "a cramfs image", "give a tar of it"),
    (1024, b"\xe2\xe1\xf5\xe0", "an EROFS image", "fsck.erofs --extract=FOLDER FILE, and give the folder"),
    (1024, b"\x10\x20\xf5\xf2", "an F2FS image", "mount it, and give a tar of it"),
    (65600, b"_BHRfS_M", "a btrfs image", "mount it, and give a tar of it"),
    (0, b"XFSB", "an XFS image", "mount it, and give a tar of it"),
)


@dataclass(frozen=True)
class ImageRoot:
    """What a file gave. `kernel` is None where there is none in it; `found` says in words what the file was."""

    kind: Literal["tar", "squashfs", "ext", "disk"]
    tree: RootTree
    kernel: Content | None
    found: str


def root_from_image(path: Path, *, cache: Cache) -> ImageRoot:
    """The root in the file `path`, and the kernel where the image of a whole disk has one.

    Raises `LivebuilderError`, naming `path` and what was found in it, when that is no root, cannot be read, is
    damaged or cut short.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not a file" if path.exists() else "does not exist"
        raise LivebuilderError(f"reading a root from {path}: it {what}", hint=_KNOWN)
    try:
        with path.open("rb") as stream:
            packing = packing_of(stream.read(512))
            stream.seek(0)
            packed = can_unpack(packing) and packing != "none"
            head = _unpacked_head(stream, packing, path) if packed else stream.read(_HEAD_BYTES)
            if not _is_image(head):
                return _from_archive(path, head, cache=cache)
            image = _unpacked(stream, packing, path, cache=cache) if packed else Content.from_file(path)
    except OSError as error:
        raise LivebuilderError(f"{path} cannot be read: {error.strerror}") from error
    before = f"{packing}, in it " if packed else ""
    if is_squashfs(head) or is_ext(head):
        kind: Literal["squashfs", "ext"] = "squashfs" if is_squashfs(head) else "ext"
        return ImageRoot(kind, _tree_of(image, head, path, cache=cache), None, before + _describe(head))
    return _from_disk(image, path, before, cache=cache)


def _is_image(head: bytes) -> bool:
    if _is_tar(head):
        return False
    if is_squashfs(head) or is_ext(head):
        return True
    return _other(head) is None and not is_fat(head) and has_table(head)


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _other(head: bytes) -> tuple[str, str] | None:
    """What a file is that livebuilder does not read, and what to do with it."""
    found = ((name, hint) for offset, magic, name, hint in _OTHERS if head[offset : offset + len(magic)] == magic)
    return next(found, None)


def _from_archive(path: Path, head: bytes, *, cache: Cache) -> ImageRoot:
    other = None if _is_tar(head) else _other(head)
    if other is not None:
        raise LivebuilderError(f"{path} is {other[0]}, which livebuilder does not read", hint=f"{other[1]}; {_KNOWN}")
    if is_fat(head):
        raise LivebuilderError(f"{path} is a FAT image, which no root can be on", hint=_KNOWN)
    try:
        return ImageRoot("tar", root_tree_from_archive(path, cache=cache), None, "tar")
    except LivebuilderError as error:
        if not _is_tar(head):
            error.hint = _KNOWN
        raise


def _tree_of(image: Content, head: bytes, path: Path, *, cache: Cache) -> RootTree:
    if is_squashfs(head):
        return root_tree_from_squashfs(image, source=path, cache=cache)
    return root_tree_from_ext(image, source=path, cache=cache)


def _describe(head: bytes) -> str:
    """What a file system, or nothing known, is in a word or two."""
    if is_squashfs(head):
        try:
            superblock = read_superblock(head, source="it")
        except LivebuilderError as error:
            return error.message.removeprefix("it is a ").partition(";")[0]
        return f"squashfs ({superblock.compression}, {render_size(superblock.bytes_used)})"
    if is_ext(head):
        return ext_version(head)
    if is_fat(head):
        return "FAT"
    other = _other(head)
    return other[0] if other else "unknown"


# A whole disk.


@dataclass(frozen=True)
class _Volume:
    partition: Partition
    image: Content
    head: bytes

    def __str__(self) -> str:
        name = f" {self.partition.name!r}" if self.partition.name else ""
        what = "extended, not looked into" if self.partition.is_extended else _describe(self.head)
        return f"partition {self.partition.number}{name} of {render_size(self.partition.size)}: {what}"


def _from_disk(disk: Content, path: Path, before: str, *, cache: Cache) -> ImageRoot:
    kind, partitions = read_partitions(disk, source=str(path))
    volumes = [_volume(disk, partition) for partition in partitions]
    listed = f"{before}a disk with a {kind.upper()} table, {'; '.join(map(str, volumes)) or 'without partitions'}"
    root: RootTree | None = None
    kernel: Content | None = None
    for volume in volumes:
        tree = None
        if is_squashfs(volume.head) or is_ext(volume.head):
            tree = _tree_of(volume.image, volume.head, path, cache=cache)
            kernel = kernel or _kernel_in(tree)
        elif is_fat(volume.head) and kernel is None:
            kernel = next(
                filter(None, (file_from_fat(volume.image, name, source=str(path)) for name in _KERNELS)), None
            )
        if root is None and tree is not None and any(tree.get(name) is not None for name in _INITS):
            root = tree
    if root is None:
        raise LivebuilderError(f"{path} is {listed}: none of them holds a root", hint=_KNOWN)
    return ImageRoot("disk", root, kernel, listed)


def _volume(disk: Content, partition: Partition) -> _Volume:
    image = disk.part(partition.start, partition.size)
    return _Volume(partition, image, image.part(0, _HEAD_BYTES).read())


def _kernel_in(tree: RootTree) -> Content | None:
    for name in _KERNELS:
        entry = tree.resolve(name)
        if entry is not None and entry.kind in (Kind.FILE, Kind.HARDLINK):
            return tree.content_of(entry)
    return None


# Packed images.


def _unpacked_head(stream: BufferedReader, packing: str, path: Path) -> bytes:
    head = b""
    for piece in _plain_pieces(stream, packing, path):
        head += piece
        if len(head) >= _HEAD_BYTES:
            break
    return head[:_HEAD_BYTES]


def _unpacked(stream: BufferedReader, packing: str, path: Path, *, cache: Cache) -> Content:
    """The plain image in the cache, with holes where it has zeros."""
    stream.seek(0)
    key = hashlib.file_digest(stream, "sha256").hexdigest()
    packed_bytes = stream.seek(0, 2)
    known = cache.find(_CACHE_KIND, key)
    if known is not None and known.stat().st_size:  # a power cut can leave nothing of it
        return Content.from_file(known)
    limit, total = unpacked_limit(packed_bytes), 0
    stream.seek(0)
    with cache.place(_CACHE_KIND, key) as draft, draft.open("wb") as out:
        for piece in _plain_pieces(stream, packing, path):
            total += len(piece)
            if total > limit:
                raise LivebuilderError(
                    f"{path} has {render_size(packed_bytes)} and unpacks to more than {render_size(limit)}",
                    hint="if it is sound, unpack it yourself and give what comes out",
                )
            _write_with_holes(out, piece)
        out.truncate(total)
    return Content.from_file(cache.folder(_CACHE_KIND) / key)


def _write_with_holes(out: BinaryIO, piece: bytes) -> None:
    for at in range(0, len(piece), len(_HOLE)):
        block = piece[at : at + len(_HOLE)]
        if block == _HOLE[: len(block)]:
            out.seek(len(block), 1)
        else:
            out.write(block)


def _plain_pieces(stream: BufferedReader, packing: str, path: Path) -> Iterator[bytes]:
    """What comes out of one packed stream after the other; what is behind the last one and packed no more is left."""
    decompressor, rest = new_decompressor(packing), b""
    try:
        while data := rest or stream.read(_READ_BYTES):
            rest = b""
            yield unpack_step(decompressor, data, packing)
            if decompressor.eof:
                rest = decompressor.unused_data
                if len(rest) < _MAGIC_BYTES:
                    rest += stream.read(_READ_BYTES)
                if packing_of(rest) != packing:
                    return
                decompressor = new_decompressor(packing)
        raise PackingError("it is cut short")
    except PackingError as error:
        raise LivebuilderError(f"unpacking {path}: {error.message}", hint="copy or download it again") from error
