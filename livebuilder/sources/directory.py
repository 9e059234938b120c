"""A root tree from a folder of the host, read without following any link and without being root."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from loguru import logger

from livebuilder.errors import LivebuilderError
from livebuilder.tree import EMPTY, HOST_XATTRS, Content, Entry, Kind, RootTree, hardlink, kind_of_mode

_SHOWN = 10


def root_tree_from_directory(path: Path, *, owner: tuple[int, int] | None = None) -> RootTree:
    """Everything below the folder `path`: modes, numeric owners, hard links, symlinks, devices, fifos, times, xattrs.

    `owner` (uid, gid) is given to every entry instead of the owner found. Regular files are read when their content
    is needed. Sockets are left out with a warning. Raises `LivebuilderError` when `path` is no folder, and one
    naming what this user may not read.
    """
    if not path.is_dir():
        raise LivebuilderError(
            f"reading a root from {path}: it is not a folder" if path.exists() else f"the folder {path} does not exist"
        )
    tree = RootTree()
    first_name: dict[tuple[int, int], str] = {}  # (device, inode) → the first path of a file with several names
    sockets: list[str] = []
    unreadable: list[str] = []
    try:
        for name, file, status in _walk(path, unreadable):
            kind = kind_of_mode(status.st_mode)
            if kind is None:
                sockets.append(f"/{name}")
            elif kind is Kind.FILE and not os.access(file, os.R_OK):
                unreadable.append(f"/{name}")
            elif kind is Kind.FILE and status.st_nlink > 1 and (status.st_dev, status.st_ino) in first_name:
                tree.add(hardlink(name, first_name[status.st_dev, status.st_ino], source=str(path)))
            else:
                first_name[status.st_dev, status.st_ino] = name
                tree.add(_entry(name, file, kind, status, owner=owner, source=str(path)))
    except FileNotFoundError as error:
        raise LivebuilderError(
            f"{error.filename} went away while {path} was being read", hint="run the same command again"
        ) from error
    if unreadable:
        raise LivebuilderError(
            f"{len(unreadable)} paths in {path} may not be read by this user: {_listing(unreadable)}",
            hint=f"as root: tar -cf root.tar -C {shlex.quote(str(path))} .   # and give root.tar as the archive",
        )
    if sockets:
        logger.warning("sockets cannot be in a root and are left out of {}: {}", path, _listing(sockets))
    return tree


def _walk(root: Path, unreadable: list[str]) -> Iterator[tuple[str, str, os.stat_result]]:
    """(path below the root, path on the host, status) of everything below, every folder before what is in it."""
    waiting = [("", os.fspath(root))]
    while waiting:
        prefix, folder = waiting.pop()
        try:
            with os.scandir(folder) as listing:
                found = sorted((item.name, item.path, item.stat(follow_symlinks=False)) for item in listing)
        except PermissionError:
            unreadable.append("/" + prefix.rstrip("/"))
            continue
        for name, file, status in found:
            yield prefix + name, file, status
            if stat.S_ISDIR(status.st_mode):
                waiting.append((f"{prefix}{name}/", file))


def _entry(
    name: str, file: str, kind: Kind, status: os.stat_result, *, owner: tuple[int, int] | None, source: str
) -> Entry:
    uid, gid = owner or (status.st_uid, status.st_gid)
    return Entry(
        name, kind, stat.S_IMODE(status.st_mode), uid, gid, status.st_mtime_ns // 10**9,
        content=Content.from_file(Path(file), size=status.st_size) if kind is Kind.FILE else EMPTY,
        # Path.readlink() would tidy what the link says.
        target=os.readlink(file) if kind is Kind.SYMLINK else "",  # noqa: PTH115
        device=(os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in (Kind.CHAR, Kind.BLOCK) else (0, 0),
        xattrs=_xattrs(file), source=source,
    )  # fmt: skip


def _xattrs(file: str) -> dict[str, bytes]:
    try:
        names = [name for name in os.listxattr(file, follow_symlinks=False) if name not in HOST_XATTRS]
        return {name: os.getxattr(file, name, follow_symlinks=False) for name in names}
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.ENODATA):
            return {}
        raise


def _listing(paths: list[str]) -> str:
    shown = sorted(paths)[:_SHOWN]
    return ", ".join(shown) + (f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else "")
