"""A root tree from a squashfs image, or from one that lies within a larger file; nothing is mounted.

sqfs2tar of squashfs-tools-ng turns it into a tar, which stays in the cache and is read where it stands.
"""

from __future__ import annotations

import os
import select
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from loguru import logger

from livebuilder.cache import Cache
from livebuilder.errors import LivebuilderError
from livebuilder.image.squashfs import SUPERBLOCK_BYTES, Superblock, read_superblock
from livebuilder.process import end, spawn, wait
from livebuilder.sizes import MIB, render_size
from livebuilder.sources.archive import tree_from_tar, unpacked_limit, with_content_in
from livebuilder.tree import Content, RootTree

_CACHE_KIND = "squashfs"
_SILENT_SECONDS = 120.0  # that long sqfs2tar says nothing only when it is lost


def root_tree_from_squashfs(image: Content, *, source: Path, cache: Cache) -> RootTree:
    """Everything in the squashfs at the start of `image`, whatever lies behind it; `source` is the file it came from.

    Modes, numeric owners, links, devices, times and xattrs are kept; the root folder's own are left out. Raises
    `LivebuilderError`, naming `source`, for other versions of squashfs, what is packed as sqfs2tar does not know,
    damage, and what unpacks to more than 8 GiB or 200 times its size.
    """
    superblock = read_superblock(image.part(0, SUPERBLOCK_BYTES).read(), source=str(source))
    if superblock.bytes_used > image.size:
        raise LivebuilderError(
            f"{source} is a squashfs cut short: {superblock.bytes_used} bytes, and {image.size} are there",
            hint="copy or download it again",
        )
    if superblock.inodes < 2:
        raise LivebuilderError(f"{source} is a squashfs with nothing in it")
    used = image.part(0, superblock.bytes_used)
    known = cache.find(_CACHE_KIND, used.sha256)
    if known is not None:
        with suppress(LivebuilderError):  # what a power cut left short is made again
            return tree_from_tar(known, archive=source)
    with cache.place(_CACHE_KIND, used.sha256) as draft:
        with _file_of(used, cache) as file:
            _write_tar(file, draft, superblock, source=source)
        tree = tree_from_tar(draft, archive=source)
    return with_content_in(tree, draft, cache.folder(_CACHE_KIND) / used.sha256)


@contextmanager
def _file_of(used: Content, cache: Cache) -> Iterator[Path]:
    """A file that begins with the squashfs; a copy where it lies within another, for sqfs2tar knows no offsets."""
    assert used.path is not None
    if used.offset == 0:
        yield used.path
        return
    with tempfile.NamedTemporaryFile(prefix=".part-", dir=cache.folder(_CACHE_KIND)) as stream:
        for piece in used.pieces():
            stream.write(piece)
        stream.flush()
        yield Path(stream.name)


def _write_tar(file: Path, draft: Path, superblock: Superblock, *, source: Path) -> None:
    limit = unpacked_limit(superblock.bytes_used)
    with tempfile.TemporaryFile() as complaints, draft.open("wb") as out:
        reading, writing = os.pipe()
        try:
            child = spawn(["sqfs2tar", file], stdout=writing, stderr=complaints)
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        try:
            problem = _copy(reading, out, limit=limit)
            status = wait(child, timeout_seconds=_SILENT_SECONDS) if problem is None else None
        finally:
            os.close(reading)
            end(child)
        complaints.seek(0)
        said = complaints.read().decode("utf-8", "replace").strip().splitlines()
    if problem or status != 0:
        raise _unreadable(superblock, problem or (said[-1] if said else f"status {status}"), source=source)
    for line in said:
        logger.warning("{}: {}", source, line)


def _copy(reading: int, out: BinaryIO, *, limit: int) -> str | None:
    """Copy what comes; what is wrong with it when it is too much, or stops coming."""
    total = 0
    while select.select([reading], [], [], _SILENT_SECONDS)[0]:
        piece = os.read(reading, MIB)
        if not piece:
            return None
        total += len(piece)
        if total > limit:
            return f"it unpacks to more than {render_size(limit)}"
        out.write(piece)
    return "sqfs2tar does not get to its end"


def _unreadable(superblock: Superblock, problem: str, *, source: Path) -> LivebuilderError:
    if superblock.compression == "lzma":
        return LivebuilderError(
            f"{source} is a squashfs packed with lzma, which only the kernels of OpenWrt 10.03 and 12.09 and like ones"
            f" were patched to read, and it cannot be unpacked here ({problem})",
            hint="unpack it with the unsquashfs it was made for, and give the folder or a tar of it",
        )
    return LivebuilderError(
        f"{source} is a squashfs packed with {superblock.compression}, and cannot be unpacked: {problem}",
        hint="copy or download it again, or check it with: unsquashfs -stat FILE",
    )
