"""The root as a squashfs: what its superblock says, and one made of a tree, padded as OpenWrt wants it.

Superblock (kernel: fs/squashfs/squashfs_fs.h; versions 1 to 3 keep the version at the same place), little-endian:

    0  s_magic  4  "hsqs"           20  compression  u16  1 gzip 2 lzma 3 lzo 4 xz 5 lz4 6 zstd
    4  inodes  u32                  28  s_major, s_minor  u16, u16
    8  mkfs_time  u32               40  bytes_used  u64
    12 block_size  u32
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from livebuilder.cache import Cache
from livebuilder.console import step
from livebuilder.errors import LivebuilderError
from livebuilder.process import run
from livebuilder.sizes import KIB, align_up
from livebuilder.tar import write_tar
from livebuilder.tree import Content, Entry, Kind, RootTree

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
    _, inodes, made, block_size, _, number, *_, bytes_used = _FIELDS.unpack_from(data)
    if number not in _COMPRESSIONS:
        raise LivebuilderError(f"{source} is a squashfs packed in a way nobody knows (number {number})")
    if block_size & (block_size - 1) or not 4096 <= block_size <= 1 << 20 or bytes_used < SUPERBLOCK_BYTES:
        raise LivebuilderError(
            f"{source} is a damaged squashfs: blocks of {block_size} bytes, {bytes_used} bytes in all"
        )
    return Superblock(inodes, made, block_size, _COMPRESSIONS[number], bytes_used)


# Making one.

IMAGE_PATH = "payload/root.squashfs"  # in the initramfs
_CACHE_KIND = "roots"
_PAGE_BYTES = 4 * KIB
# OpenWrt's mount_root looks for room for an overlay at the next multiple of 64 KiB (fstools, libfstools/rootdisk.c,
# ROOTDEV_OVERLAY_ALIGN). It must be able to read a first page there (common.c, block_file_identify), else it leaves the
# root read-only from 22.03 on; and there must not be room for a file system, else it makes one of 100 KiB.
_TAIL_ALIGNMENT = 64 * KIB
_TAIL_BYTES = 4 * KIB
# What Linux keeps unpacked of a squashfs, in blocks: a cache of three fragments, a page that is being read, and the
# dictionary of xz (fs/squashfs/super.c, xz_wrapper.c). The rest, metadata among it, takes less than this.
_BLOCKS_UNPACKED = 5
_METADATA_BYTES = 128 * KIB


@dataclass(frozen=True)
class SquashfsRoot:
    """A root image that is finished, padding and all; sizes in bytes.

    `entries` is how many inodes it has without the top folder. `data_bytes` is what the files would take in a tmpfs,
    where they go when the kernel turns out to have no overlay. `needed_bytes` of memory have to be there before it is
    mounted, for its drivers and what they keep unpacked; the image itself is in memory by then.
    """

    content: Content
    block_size: int
    bytes_used: int
    entries: int
    data_bytes: int
    needed_bytes: int

    @property
    def size_bytes(self) -> int:
        """The image with its padding."""
        return self.content.size

    @property
    def inodes(self) -> int:
        """What the file system has: one more than the entries."""
        return self.entries + 1


def padded_size(bytes_used: int) -> int:
    """How large the image of a squashfs has to be so that OpenWrt puts an overlay in memory over it."""
    return align_up(bytes_used, _TAIL_ALIGNMENT) + _TAIL_BYTES


def make_squashfs(
    tree: RootTree, *, block_size: int, epoch: int, drivers: Iterable[Entry], cache: Cache
) -> SquashfsRoot:
    """`tree` as a squashfs packed with xz, kept in the cache by what is in it.

    `epoch` is the latest time any path keeps (seconds since 1970), `drivers` are the modules that Linux loads for it.
    Raises `LivebuilderError` when tar2sqfs is not installed or fails.
    """
    clamped = RootTree(replace(entry, mtime=max(0, min(entry.mtime, epoch))) for entry in tree)
    with tempfile.TemporaryFile(dir=cache.folder(_CACHE_KIND)) as plain:
        write_tar(clamped, plain)
        recipe = f"{_tool_version()} {block_size} {epoch} "
        plain.seek(0)
        key = hashlib.sha256(recipe.encode() + hashlib.file_digest(plain, "sha256").digest()).hexdigest()
        known = _sound(cache.find(_CACHE_KIND, key))
        if known is None:
            plain.seek(0)
            with cache.place(_CACHE_KIND, key) as draft:
                command = tar2sqfs_command(draft, block_size=block_size, epoch=epoch)
                with step("Packing the root as squashfs"):
                    run(command, input_file=plain, env={"SOURCE_DATE_EPOCH": str(epoch)})
                with draft.open("r+b") as stream:
                    stream.truncate(padded_size(_superblock(draft).bytes_used))
                    os.fsync(stream.fileno())  # it is as long as it will be now, whatever has reached the disk
            known = cache.folder(_CACHE_KIND) / key
    files = [entry.content.size for entry in tree if entry.kind is Kind.FILE]
    modules = sum(align_up(entry.content.size, _PAGE_BYTES) for entry in drivers)
    return SquashfsRoot(
        Content.from_file(known),
        block_size,
        _superblock(known).bytes_used,
        entries=sum(entry.kind is not Kind.HARDLINK for entry in tree),
        data_bytes=sum(align_up(size, _PAGE_BYTES) for size in files),
        needed_bytes=modules + _BLOCKS_UNPACKED * block_size + _METADATA_BYTES,
    )


def tar2sqfs_command(image: Path, *, block_size: int, epoch: int) -> list[str]:
    """How tar2sqfs is called, to read a tar and write `image`: the same bytes for the same tar, on any machine.

    It checks with CRC32, which is all that Linux knows, and leaves xz a dictionary as large as a block.
    """
    jobs = str(os.cpu_count() or 1)
    return [
        "tar2sqfs", "--quiet", "--no-skip", "--force", "--compressor", "xz", "--num-jobs", jobs,
        "--block-size", str(block_size), "--defaults", f"uid=0,gid=0,mode=0755,mtime={epoch}", os.fspath(image),
    ]  # fmt: skip


def _tool_version() -> str:
    return run(["tar2sqfs", "--version"]).stdout.partition("\n")[0]


def _superblock(path: Path) -> Superblock:
    return read_superblock(Content.from_file(path).part(0, SUPERBLOCK_BYTES).read(), source=str(path))


def _sound(path: Path | None) -> Path | None:
    """`path`, unless a power cut left it short."""
    if path is None:
        return None
    try:
        return path if path.stat().st_size == padded_size(_superblock(path).bytes_used) else None
    except LivebuilderError:
        return None
