"""A root tree from a tar archive, read where it stands: nothing is ever extracted.

A compressed archive is unpacked once into a plain one in the cache, keyed by its SHA-256; the content of every file
is a slice of that, so that a big root does not sit in memory.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import math
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

from livebuilder.cache import Cache
from livebuilder.errors import LivebuilderError
from livebuilder.sizes import GIB, MIB, render_size
from livebuilder.tree import EMPTY, HOST_XATTRS, Content, Entry, Kind, RootTree, normal_path

_CACHE_KIND = "archives"
_BLOCK_BYTES = 512
_KNOWN = "a root archive is a tar, plain or as tar.gz, tar.xz, tar.zst or tar.bz2"
# Against archives made to fill the disk: real roots shrink about fourfold, and hardly a hundredfold.
_PLAIN_LIMIT_BYTES = 8 * GIB
_PLAIN_ALWAYS_BYTES = 256 * MIB
_PLAIN_RATIO = 200
_ZSTD_WINDOW_BYTES = 128 * MIB  # zstd --long=27; the format allows much more
_SPARSE_LIMIT_BYTES = 64 * MIB

_KIND = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.CONTTYPE: Kind.FILE,
    tarfile.GNUTYPE_SPARSE: Kind.FILE,
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.LNKTYPE: Kind.HARDLINK,
    tarfile.CHRTYPE: Kind.CHAR,
    tarfile.BLKTYPE: Kind.BLOCK,
    tarfile.FIFOTYPE: Kind.FIFO,
}
_GNU_VOLUME_LABEL = b"V"
# As GNU tar, bsdtar and star write xattrs and, as text, ACLs into pax headers.
_PAX_XATTR = "SCHILY.xattr."
_PAX_ACL = "SCHILY.acl."


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _open_zstd(stream: BinaryIO) -> _Reader:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    return decompressor.stream_reader(stream, read_across_frames=True)


# The first bytes of a compressed file → how to read it.
_COMPRESSED: Mapping[bytes, Callable[[BinaryIO], _Reader]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": _open_zstd,
    b"BZh": bz2.BZ2File,
}
# (offset, magic, name) of what people give by mistake.
_OTHERS = (
    (32769, b"CD001", "an ISO image"),
    (0, b"PK\3\4", "a zip archive"),
    (0, b"hsqs", "a squashfs image"),
    (0, b"070701", "a cpio archive"),
    (0, b"!<arch>\n", "a Debian package or another ar archive"),
    (1080, b"\x53\xef", "an ext file system"),
)
_DECODER_ERRORS = (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, MemoryError)
# What tarfile lets through when header fields are nonsense.
_PARSER_ERRORS = (
    tarfile.TarError,
    ValueError,
    OverflowError,
    IndexError,
    KeyError,
    EOFError,
    RecursionError,
    MemoryError,
)


def root_tree_from_archive(path: Path, *, cache: Cache) -> RootTree:
    """Everything in the tar archive `path`, with modes, numeric owners, links, devices, times and xattrs.

    Raises `LivebuilderError`, naming the archive, when it is none, damaged or cut short, unpacks to more than 8 GiB
    or 200 times its size, or has paths that may not be in a tree. Nothing but a sound archive stays in the cache.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not a file" if path.exists() else "does not exist"
        raise LivebuilderError(f"reading a root from {path}: it {what}", hint=_KNOWN)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise LivebuilderError(f"the archive {path} cannot be read: {error.strerror}") from error
    with stream:
        start = stream.read(_BLOCK_BYTES)
        opener = next((opener for magic, opener in _COMPRESSED.items() if start.startswith(magic)), None)
        if opener is None:
            return tree_from_tar(path, archive=path)
        stream.seek(0)
        key = hashlib.file_digest(stream, "sha256").hexdigest()
        known = cache.find(_CACHE_KIND, key)
        if known is not None:
            with suppress(LivebuilderError):  # what a power cut left short is made again
                return tree_from_tar(known, archive=path)
        with cache.place(_CACHE_KIND, key) as draft:
            stream.seek(0)
            _decompress(opener(stream), draft, archive=path)
            tree = tree_from_tar(draft, archive=path)
        return with_content_in(tree, draft, cache.folder(_CACHE_KIND) / key)


def unpacked_limit(packed_bytes: int) -> int:
    """The bytes that something of `packed_bytes` may unpack to."""
    return min(_PLAIN_LIMIT_BYTES, max(_PLAIN_ALWAYS_BYTES, _PLAIN_RATIO * packed_bytes))


def _decompress(reader: _Reader, draft: Path, *, archive: Path) -> None:
    packed_bytes = archive.stat().st_size
    limit = unpacked_limit(packed_bytes)
    total = 0
    try:
        with draft.open("wb") as out:
            while piece := _next_piece(reader, archive=archive):
                total += len(piece)
                if total > limit:
                    raise LivebuilderError(
                        f"{archive} has {render_size(packed_bytes)} and unpacks to more than {render_size(limit)}",
                        hint="if it is sound, unpack it yourself and give the tar",
                    )
                out.write(piece)
    except OSError as error:
        raise LivebuilderError(
            f"unpacking {archive} into {draft.parent.parent}: {error.strerror}",
            hint="make room there, or set XDG_CACHE_HOME to a folder that has some",
        ) from error


def _next_piece(reader: _Reader, *, archive: Path) -> bytes:
    try:
        return reader.read(MIB)
    except _DECODER_ERRORS as error:
        raise LivebuilderError(f"unpacking {archive}: it is damaged or cut short ({error})") from error


def with_content_in(tree: RootTree, old: Path, new: Path) -> RootTree:
    """`tree` with the content that was in the file `old` looked for in `new`, where it was moved."""
    return RootTree(
        replace(entry, content=replace(entry.content, path=new)) if entry.content.path == old else entry
        for entry in tree
    )


def tree_from_tar(plain: Path, *, archive: Path) -> RootTree:
    """The tree of the uncompressed tar `plain`, which came from `archive`; raises as `root_tree_from_archive` does."""
    tree = RootTree()
    with plain.open("rb") as stream:
        for entry in _entries(stream, plain, archive=archive):
            tree.add(_linked(entry, tree) if entry.kind is Kind.HARDLINK else entry)
    if not len(tree):
        raise _no_tar(archive, plain)
    return tree


def _linked(entry: Entry, tree: RootTree) -> Entry:
    """A hard link as the tree has it: to the first name of a file; of anything else it is a copy."""
    target = tree.get(entry.target)
    if target is None or target.kind is Kind.DIRECTORY:
        raise LivebuilderError(
            f"/{entry.path} of {entry.source} is a hard link to /{entry.target}, which is no file before it",
            hint="make the archive of the whole root at once",
        )
    if target.kind is Kind.FILE:
        return replace(entry, target=target.path)
    return replace(target, path=entry.path)


def _entries(stream: BinaryIO, plain: Path, *, archive: Path) -> Iterator[Entry]:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    end = 0
    try:
        tar = tarfile.TarFile(fileobj=stream, mode="r", encoding="utf-8", errors="surrogateescape")
        while (member := tar.next()) is not None:
            if member.size < 0 or tar.offset <= end:
                raise tarfile.HeaderError(f"impossible size {member.size}")
            end = tar.offset
            if end > size:
                raise LivebuilderError(f"{archive} is cut short: it ends in the middle of {member.name}")
            if member.type != _GNU_VOLUME_LABEL:
                yield _entry(member, tar, plain, source=str(archive))
        # tarfile takes a damaged header for the end; a sound end is a block of zeros.
        stream.seek(tar.offset)
        if stream.read(_BLOCK_BYTES) != bytes(_BLOCK_BYTES):
            raise tarfile.HeaderError("neither a header nor the end")
    except _PARSER_ERRORS as error:
        if end == 0:
            raise _no_tar(archive, plain) from error
        raise LivebuilderError(f"{archive} is damaged or cut short, at byte {end} of the tar ({error})") from error


def _entry(member: tarfile.TarInfo, tar: tarfile.TarFile, plain: Path, *, source: str) -> Entry:
    path = normal_path(member.name, source=source)
    kind = _KIND.get(member.type)
    if kind is None:
        raise LivebuilderError(f"/{path} of {source} is of a kind ({member.type!r}) that is no part of a root")
    return Entry(
        path, kind, member.mode & 0o7777, member.uid, member.gid, math.floor(member.mtime),
        content=_content(member, tar, plain, source=source) if kind is Kind.FILE else EMPTY,
        target=_target(member, kind, source=source),
        device=(member.devmajor, member.devminor) if kind in (Kind.CHAR, Kind.BLOCK) else (0, 0),
        xattrs=_xattrs(member), source=source,
    )  # fmt: skip


def _target(member: tarfile.TarInfo, kind: Kind, *, source: str) -> str:
    if kind is Kind.HARDLINK:
        return normal_path(member.linkname, source=source)
    return member.linkname if kind is Kind.SYMLINK else ""


def _content(member: tarfile.TarInfo, tar: tarfile.TarFile, plain: Path, *, source: str) -> Content:
    if not member.issparse():
        return Content.from_file(plain, offset=member.offset_data, size=member.size)
    if member.size > _SPARSE_LIMIT_BYTES:
        raise LivebuilderError(
            f"/{member.name} of {source} is a sparse file of {render_size(member.size)}",
            hint="leave it out, or make the archive without tar --sparse",
        )
    filled = tar.extractfile(member)
    assert filled is not None
    return Content.from_bytes(filled.read())


def _xattrs(member: tarfile.TarInfo) -> dict[str, bytes]:
    found = {}
    for keyword, value in member.pax_headers.items():
        name = keyword if keyword.startswith(_PAX_ACL) else keyword.removeprefix(_PAX_XATTR)
        if (name != keyword or keyword.startswith(_PAX_ACL)) and name not in HOST_XATTRS:
            found[name] = value.encode("utf-8", "surrogateescape")
    return found


def _no_tar(archive: Path, plain: Path) -> LivebuilderError:
    with plain.open("rb") as stream:
        for offset, magic, name in _OTHERS:
            stream.seek(offset)
            if stream.read(len(magic)) == magic:
                return LivebuilderError(f"{archive} is {name}, not a tar archive", hint=_KNOWN)
    what = "is empty" if archive.stat().st_size == 0 else "holds no tar archive with files in it"
    return LivebuilderError(f"{archive} {what}", hint=_KNOWN)
