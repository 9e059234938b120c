"""The root tree: what every source gives and every archive is written from.

Parents, order, conflicts, owners, modes, device nodes, hard links and times are settled here once. A tree is
plain data: nothing in this module touches a file system, except that a `Content` may point at bytes on disk.

Paths are relative, `/`-separated, without `.` or `..`; names that are not UTF-8 carry surrogate escapes
(PEP 383), so that every name a file system or an archive can hold survives the trip.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import MIB

# Linux: NAME_MAX of every file system a root may stand on, PATH_MAX without its NUL, MAXSYMLINKS.
_NAME_LIMIT = 255
_TARGET_LIMIT = 4095
_SYMLINK_HOPS = 40
# What a host's own policy says of its files means nothing on another machine: sources leave it out.
HOST_XATTRS = frozenset({"security.selinux"})


class TreeError(LivebuilderError):
    """A path that cannot be, or that two sources want differently."""


class Kind(StrEnum):
    """What a path is. `HARDLINK` is a further name of a regular file of the same tree."""

    DIRECTORY = "directory"
    FILE = "file"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"
    CHAR = "char"
    BLOCK = "block"
    FIFO = "fifo"


# The bits of st_mode that say what a file is (inode(7)): the same in every archive and file system. HARDLINK has none.
TYPE_BITS: Mapping[Kind, int] = {
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.FILE: stat.S_IFREG,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.CHAR: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
}
_KIND_OF_BITS = {bits: kind for kind, bits in TYPE_BITS.items()}


def kind_of_mode(mode: int) -> Kind | None:
    """What a file with this st_mode is; None for a socket, or for bits that mean nothing."""
    return _KIND_OF_BITS.get(stat.S_IFMT(mode))


@dataclass(frozen=True)
class Content:
    """The bytes of a regular file: held in memory, or `size` bytes at `offset` of the file `path`."""

    size: int
    data: bytes | None = None
    path: Path | None = None
    offset: int = 0

    @classmethod
    def from_bytes(cls, data: bytes) -> Content:
        """Content held in memory."""
        return cls(len(data), data)

    @classmethod
    def from_file(cls, path: Path, *, offset: int = 0, size: int | None = None) -> Content:
        """Content read from `path` when it is needed: all of it, or `size` bytes from `offset`."""
        return cls(path.stat().st_size - offset if size is None else size, None, path, offset)

    def part(self, offset: int, size: int) -> Content:
        """What is at `offset`, `size` bytes or as many as there are."""
        offset = min(offset, self.size)
        size = max(0, min(size, self.size - offset))
        if self.data is not None:
            return Content.from_bytes(self.data[offset : offset + size])
        return Content(size, None, self.path, self.offset + offset)

    def pieces(self, *, piece_bytes: int = MIB) -> Iterator[bytes]:
        """The bytes in order, at most `piece_bytes` of them in memory at a time.

        Raises `LivebuilderError` when the file is gone or got shorter since it was looked at.
        """
        if self.data is not None:
            yield from (self.data[at : at + piece_bytes] for at in range(0, self.size, piece_bytes))
            return
        assert self.path is not None
        try:
            with self.path.open("rb", buffering=0) as stream:
                stream.seek(self.offset)
                left = self.size
                while left:
                    piece = stream.read(min(left, piece_bytes))
                    if not piece:
                        raise LivebuilderError(
                            f"{self.path} got shorter while it was being read", hint="run the same command again"
                        )
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise LivebuilderError(f"{self.path} cannot be read: {error.strerror}") from error

    def read(self) -> bytes:
        """All the bytes; raises as `pieces()` does."""
        return self.data if self.data is not None else b"".join(self.pieces())

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the bytes, in hex."""
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()

    def same_as(self, other: Content) -> bool:
        """Whether both hold the same bytes."""
        return self is other or (self.size == other.size and self.sha256 == other.sha256)


EMPTY = Content.from_bytes(b"")


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a tree. `mode` is permission bits only (0o7777); `mtime` in seconds since 1970.

    `target` is what a symlink says, or the path in the same tree that a hard link is another name of.
    `source` names where the entry came from, for messages: a package, a file, an archive.
    """

    path: str
    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    content: Content = EMPTY
    target: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict, hash=False)
    source: str = ""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path)

    @property
    def parent(self) -> str:
        """The path of the folder it is in; empty at the top."""
        return posixpath.dirname(self.path)


def directory(path: str, *, mode: int = 0o755, source: str = "") -> Entry:
    """A folder."""
    return Entry(path, Kind.DIRECTORY, mode, source=source)


def file(path: str, data: bytes | str | Content, *, mode: int = 0o644, source: str = "") -> Entry:
    """A regular file of these bytes (text is written as UTF-8)."""
    if isinstance(data, str):
        data = data.encode()
    content = data if isinstance(data, Content) else Content.from_bytes(data)
    return Entry(path, Kind.FILE, mode, content=content, source=source)


def symlink(path: str, target: str, *, source: str = "") -> Entry:
    """A symbolic link; Linux gives every one the mode 0777."""
    return Entry(path, Kind.SYMLINK, 0o777, target=target, source=source)


def hardlink(path: str, target: str, *, source: str = "") -> Entry:
    """Another name of the regular file `target` of the same tree."""
    return Entry(path, Kind.HARDLINK, 0o644, target=target, source=source)


def device(
    path: str,
    *,
    char: tuple[int, int] | None = None,
    block: tuple[int, int] | None = None,
    mode: int = 0o600,
    source: str = "",
) -> Entry:
    """A device node: `char` or `block` is its (major, minor)."""
    if (char is None) == (block is None):
        raise ValueError("a device is either char or block")
    kind = Kind.CHAR if char else Kind.BLOCK
    return Entry(path, kind, mode, device=char or block or (0, 0), source=source)


def normal_path(path: str, *, source: str = "") -> str:
    """`path` without `.` parts and doubled slashes; empty for the root folder itself.

    Raises `TreeError` for what may not be in a tree: an absolute path, `..`, NUL, a part of more than 255 bytes.
    """
    where = f" in {source}" if source else ""
    if path.startswith("/"):
        raise TreeError(f"{path!r}{where} is an absolute path")
    if "\0" in path:
        raise TreeError(f"{path!r}{where} has a NUL character in it")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for part in parts:
        if part == "..":
            raise TreeError(f"{path!r}{where} climbs out of the tree with '..'")
        # Four bytes are the most one character takes.
        if len(part) > _NAME_LIMIT // 4 and len(os.fsencode(part)) > _NAME_LIMIT:
            raise TreeError(
                f"{part[:40]!r}…{where} is a name of more than {_NAME_LIMIT} bytes, which Linux cannot hold"
            )
    return "/".join(parts)


class RootTree:
    """Paths and what they are; kept such that every entry's parent is a folder of the same tree."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: dict[str, Entry] = {}
        self._links: dict[str, set[str]] = {}  # a file's path → the paths of its further names
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """Add one entry; missing parents become folders of mode 0755.

        The same path twice is fine when both say the same (times apart), else `TreeError` names both sources. A
        given folder settles what an implied one left open. The root folder itself is left out: its mode is the
        file system's own affair.
        """
        entry = _normal(entry)
        if not entry.path:
            return
        old = self._entries.get(entry.path)
        if old is None:
            self._add_parents(entry)
        elif not is_implied(old):
            if _conflict(old, entry):
                raise TreeError(
                    f"/{entry.path} is given twice with different content: by {_source(old)} ({_describe(old)})"
                    f" and by {_source(entry)} ({_describe(entry)})"
                )
            return
        elif entry.kind is not Kind.DIRECTORY:
            raise TreeError(
                f"/{entry.path} of {_source(entry)} is a {entry.kind}, but paths of {_giver(self, old)} lie below it"
            )
        self._put(entry)

    def _put(self, entry: Entry) -> None:
        self._entries[entry.path] = entry
        if entry.kind is Kind.HARDLINK:
            self._links.setdefault(entry.target, set()).add(entry.path)

    def _add_parents(self, entry: Entry) -> None:
        missing = []
        parent = entry.parent
        while parent and (above := self._entries.get(parent)) is None:
            missing.append(parent)
            parent = posixpath.dirname(parent)
        if parent and above is not None and above.kind is not Kind.DIRECTORY:
            raise TreeError(
                f"/{entry.path} of {_source(entry)} lies below /{parent}, which is a {above.kind} of {_source(above)}"
            )
        for path in reversed(missing):
            self._entries[path] = Entry(path, Kind.DIRECTORY, 0o755, source=_IMPLIED)

    def overlay(self, other: RootTree) -> None:
        """Lay `other` over this tree: its files win, its folders keep what is already inside and win in mode and owner.

        Raises `TreeError`, and changes nothing, where one has a folder and the other has not: a folder laid over the
        symlink /lib → usr/lib would hide the libraries, and a file would take a whole folder away.
        """
        for entry in other:
            old = self._entries.get(entry.path)
            if old is not None and (old.kind is Kind.DIRECTORY) != (entry.kind is Kind.DIRECTORY):
                raise TreeError(
                    f"/{entry.path} of {_giver(self, old)} ({_describe(old)}) cannot be replaced"
                    f" by that of {_giver(other, entry)} ({_describe(entry)})"
                )
        # All of ours go first: a name of ours must not be taken for the target of a hard link of theirs.
        for entry in other:
            if entry.kind is not Kind.DIRECTORY:
                self.remove(entry.path)
        for entry in other:
            if entry.path in self._entries and not is_implied(entry):
                self._entries[entry.path] = entry
            else:
                self.add(entry)

    def placed_in(self, base: RootTree) -> RootTree:
        """This tree with its paths as they lead in `base`: where /lib is a link to usr/lib, below that."""
        places = {"": ""}
        for entry in self:
            if entry.kind is Kind.DIRECTORY:
                path = posixpath.join(places[entry.parent], entry.name)
                there = base.resolve(path)
                places[entry.path] = there.path if there and there.kind is Kind.DIRECTORY else path
        result = RootTree()
        for entry in self:
            path = posixpath.join(places[entry.parent], entry.name)
            if entry.kind is Kind.DIRECTORY and path != places[entry.path]:
                continue  # a link there, to a folder that stays as it is
            target = entry.target
            if entry.kind is Kind.HARDLINK:
                target = posixpath.join(places[posixpath.dirname(target)], posixpath.basename(target))
            result.add(replace(entry, path=path, target=target))
        return result

    def remove(self, path: str) -> None:
        """Take a path out, with all that lies below it; a file with other names passes on to the next name."""
        path = path.strip("/")
        top = self._entries.get(path)
        if top is None:
            return
        below = [p for p in self._entries if p.startswith(path + "/")] if top.kind is Kind.DIRECTORY else []
        removed = [self._entries.pop(p) for p in (path, *below)]
        for entry in removed:
            if entry.kind is Kind.HARDLINK:
                self._links[entry.target].discard(entry.path)
        for entry in removed:
            names = sorted(self._links.pop(entry.path, ()))
            if names:
                self._put(replace(entry, path=names[0]))
            for name in names[1:]:
                self._put(replace(self._entries[name], target=names[0]))

    def get(self, path: str) -> Entry | None:
        """The entry at `path`, symlinks not followed."""
        return self._entries.get(path.strip("/"))

    def __getitem__(self, path: str) -> Entry:
        return self._entries[path.strip("/")]

    def __contains__(self, path: str) -> bool:
        return path.strip("/") in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Entries in archive order: sorted part by part, every folder before what is in it."""
        # NUL is the one character that sorts before all a name can hold.
        return iter(sorted(self._entries.values(), key=lambda entry: entry.path.replace("/", "\0")))

    def resolve(self, path: str) -> Entry | None:
        """The entry that `path` leads to inside this tree, symlinks followed everywhere; None if it leads nowhere."""
        todo = _parts(path)
        here: list[str] = []
        hops = 0
        while todo:
            part = todo.pop(0)
            if part == "..":
                here = here[:-1]
                continue
            entry = self._entries.get("/".join([*here, part]))
            if entry is None:
                return None
            if entry.kind is not Kind.SYMLINK:
                here.append(part)
                continue
            hops += 1
            if hops > _SYMLINK_HOPS:
                return None
            todo = _parts(entry.target) + todo
            if entry.target.startswith("/"):
                here = []
        return self._entries.get("/".join(here))

    def inode_of(self, entry: Entry) -> Entry:
        """The entry with mode, owner, time and content: of a hard link the file it is a name of, else itself."""
        return self._entries[entry.target] if entry.kind is Kind.HARDLINK else entry

    def content_of(self, entry: Entry) -> Content:
        """The bytes of a regular file or of one of its further names."""
        return self.inode_of(entry).content

    def size_bytes(self) -> int:
        """The bytes of all regular files, each counted once."""
        return sum(entry.content.size for entry in self._entries.values())

    def verify(self) -> None:
        """Raises `TreeError` when a hard link has no file to be a name of."""
        for entry in self:
            if entry.kind is Kind.HARDLINK:
                target = self._entries.get(entry.target)
                if target is None or target.kind is not Kind.FILE:
                    raise TreeError(
                        f"/{entry.path} of {_source(entry)} is a hard link to /{entry.target}, which is no file"
                    )


_IMPLIED = "(implied parent)"


def is_implied(entry: Entry) -> bool:
    """Whether no source gave this folder: it is there because something lies in it."""
    return entry.source is _IMPLIED


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _normal(entry: Entry) -> Entry:
    path = normal_path(entry.path, source=entry.source)
    target = entry.target
    if not path and entry.kind is not Kind.DIRECTORY:
        raise TreeError(f"{_source(entry)} has a {entry.kind} without a name")
    if entry.kind is Kind.HARDLINK:
        target = normal_path(target, source=entry.source)
        if target in ("", path):
            raise TreeError(f"/{path} of {_source(entry)} is a hard link to itself or to nothing")
    if entry.kind is Kind.SYMLINK and (not 0 < len(os.fsencode(target)) <= _TARGET_LIMIT or "\0" in target):
        raise TreeError(f"/{path} of {_source(entry)} is a symlink to {target[:40]!r}, which Linux cannot hold")
    return entry if (path, target) == (entry.path, entry.target) else replace(entry, path=path, target=target)


def _source(entry: Entry) -> str:
    return entry.source or "one source"


def _giver(tree: RootTree, entry: Entry) -> str:
    """The source of `entry`, or, where it is implied, of the first entry below it."""
    below = (e for e in tree if e.path.startswith(entry.path + "/") and not is_implied(e))
    return _source(next(below, entry) if is_implied(entry) else entry)


def _conflict(old: Entry, new: Entry) -> bool:
    if is_implied(new):
        return old.kind is not Kind.DIRECTORY
    same = (old.kind, old.mode, old.uid, old.gid, old.target, old.device, dict(old.xattrs)) == (
        new.kind, new.mode, new.uid, new.gid, new.target, new.device, dict(new.xattrs)
    )  # fmt: skip
    return not (same and old.content.same_as(new.content))


def _describe(entry: Entry) -> str:
    what = {Kind.SYMLINK: f" to {entry.target}", Kind.FILE: f" of {entry.content.size} bytes"}.get(entry.kind, "")
    return f"{entry.kind}{what}, mode {entry.mode:04o}, owner {entry.uid}:{entry.gid}"
