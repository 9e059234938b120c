"""Archives as pax has them, as GNU tar, bsdtar and star read them too: tar(5), POSIX.1-2001."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Collection
from typing import BinaryIO

from livebuilder.errors import LivebuilderError
from livebuilder.tree import Content, Entry, Kind, RootTree

_TAR_TYPE = {
    Kind.DIRECTORY: tarfile.DIRTYPE, Kind.FILE: tarfile.REGTYPE, Kind.SYMLINK: tarfile.SYMTYPE,
    Kind.CHAR: tarfile.CHRTYPE, Kind.BLOCK: tarfile.BLKTYPE,
    Kind.FIFO: tarfile.FIFOTYPE,
}  # fmt: skip


def write_tar(
    tree: RootTree,
    stream: BinaryIO,
    *,
    only: Collection[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """A pax archive of `tree`, or of the paths `only`: numeric owners, extended attributes as SCHILY.xattr.

    Of a file with several names the first that is written has the content. `progress` is told how many bytes of
    content were written since it was told last.
    """
    first: dict[str, str] = {}
    with tarfile.open(
        fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as tar:
        for name in tree:
            if only is not None and name.path not in only:
                continue
            entry = tree.inode_of(name)
            member = _member(entry, name.path)
            if entry.kind is Kind.FILE:
                if first.setdefault(entry.path, name.path) != name.path:
                    member.type, member.size, member.linkname = tarfile.LNKTYPE, 0, first[entry.path]
                    member.pax_headers = {}
                    tar.addfile(member)
                    continue
                tar.addfile(member, _ContentStream(entry.content))
                if progress:
                    progress(member.size)
            else:
                tar.addfile(member)


def _member(entry: Entry, path: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type = _TAR_TYPE[entry.kind]
    member.mode, member.uid, member.gid, member.mtime = entry.mode, entry.uid, entry.gid, entry.mtime
    member.devmajor, member.devminor = entry.device
    member.size, member.linkname = entry.content.size, entry.target
    if bad := [name for name in entry.xattrs if "=" in name]:
        raise LivebuilderError(f"/{entry.path} has an attribute {bad[0]!r}, which a tar archive cannot carry")
    member.pax_headers = {
        f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape") for name, value in entry.xattrs.items()
    }
    return member


class _ContentStream:
    """What tarfile reads a file's bytes from."""

    def __init__(self, content: Content) -> None:
        self._pieces = content.pieces()
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        while len(self._rest) < size and (piece := next(self._pieces, b"")):
            self._rest += piece
        given, self._rest = self._rest[:size], self._rest[size:]
        return given
