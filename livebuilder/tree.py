"""The root tree: what every source gives and every archive is written from.

Parents, order, conflicts, owners, modes, device nodes, hard links and times are settled here once. A tree is
plain data: nothing in this module touches a file system, except that a `Content` may point at bytes on disk.

Paths are relative, `/`-separated, without `.` or `..`; names that are not UTF-8 carry surrogate escapes
(PEP 383), so that every name a file system or an archive can hold survives the trip.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from livebuilder.errors import LivebuilderError


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

    def read(self) -> bytes:
        """All the bytes; raises `LivebuilderError` when the file got shorter since it was looked at."""
        if self.data is not None:
            return self.data
        assert self.path is not None
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            data = stream.read(self.size)
        if len(data) != self.size:
            raise LivebuilderError(f"{self.path} changed while it was being read", hint="run the same command again")
        return data

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the bytes, in hex."""
        return hashlib.sha256(self.read()).hexdigest()

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
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
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
    """`path` without leading `./`; raises `TreeError` for what may not be in a tree: absolute, `..`, NUL."""
    where = f" in {source}" if source else ""
    if path.startswith("/"):
        raise TreeError(f"{path!r}{where} is an absolute path")
    if "\0" in path:
        raise TreeError(f"{path!r}{where} has a NUL character in it")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise TreeError(f"{path!r}{where} climbs out of the tree with '..'")
    return "/".join(parts)


class RootTree:
    """Paths and what they are; kept such that every entry's parent is a folder of the same tree."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: dict[str, Entry] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """Add one entry; missing parents become folders of mode 0755.

        The same path twice is fine when both say the same (folders: the same mode and owner), else `TreeError`
        names both sources. A given folder settles what an implied one left open.
        """
        path = normal_path(entry.path, source=entry.source)
        if not path:
            return  # the root folder itself: its mode is the file system's own affair
        entry = entry if path == entry.path else replace(entry, path=path)
        old = self._entries.get(path)
        if old is not None and not _is_implied(old):
            if _conflict(old, entry):
                raise TreeError(
                    f"/{path} is given twice with different content: by {old.source or 'one source'}"
                    f" ({_describe(old)}) and by {entry.source or 'another'} ({_describe(entry)})"
                )
            return
        if old is not None and entry.kind is not Kind.DIRECTORY:
            raise TreeError(
                f"/{path} of {entry.source or 'one source'} is a {entry.kind}, but other paths lie below it"
            )
        self._add_parents(entry)
        self._entries[path] = entry

    def _add_parents(self, entry: Entry) -> None:
        missing = []
        parent = entry.parent
        while parent:
            above = self._entries.get(parent)
            if above is not None:
                if above.kind is not Kind.DIRECTORY:
                    raise TreeError(
                        f"/{entry.path} of {entry.source or 'one source'} lies below /{parent},"
                        f" which is a {above.kind} of {above.source or 'another'}"
                    )
                break
            missing.append(parent)
            parent = posixpath.dirname(parent)
        for path in reversed(missing):
            self._entries[path] = Entry(path, Kind.DIRECTORY, 0o755, source=_IMPLIED)

    def overlay(self, other: RootTree) -> None:
        """Lay `other` over this tree: its files win, its folders keep what is already inside."""
        for entry in other:
            old = self._entries.get(entry.path)
            if old is not None and (old.kind, entry.kind) != (Kind.DIRECTORY, Kind.DIRECTORY):
                self.remove(entry.path)
            elif old is not None and not _is_implied(entry):
                self._entries[entry.path] = entry
            self.add(entry)

    def remove(self, path: str) -> None:
        """Take a path out, with all that lies below it; a file with other names passes on to the next name."""
        gone = [p for p in self._entries if p == path or p.startswith(path + "/")]
        removed = {p: self._entries.pop(p) for p in gone}
        orphans: dict[str, list[str]] = {}
        for entry in self._entries.values():
            if entry.kind is Kind.HARDLINK and entry.target in removed:
                orphans.setdefault(entry.target, []).append(entry.path)
        for target, names in orphans.items():
            first, *rest = sorted(names)
            self._entries[first] = replace(removed[target], path=first)
            for name in rest:
                self._entries[name] = replace(self._entries[name], target=first)

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
        """Entries in archive order: sorted, every folder before what is in it."""
        return iter(sorted(self._entries.values(), key=lambda entry: entry.path.split("/")))

    def resolve(self, path: str) -> Entry | None:
        """The entry that `path` leads to inside this tree, symlinks followed everywhere; None if it leads nowhere."""
        todo = [part for part in path.split("/") if part not in ("", ".")]
        here: list[str] = []
        for _ in range(len(todo) + 40 * 16):
            if not todo:
                return self._entries.get("/".join(here))
            part = todo.pop(0)
            if part == "..":
                here = here[:-1]
                continue
            entry = self._entries.get("/".join([*here, part]))
            if entry is None:
                return None
            if entry.kind is Kind.SYMLINK:
                todo = [p for p in entry.target.split("/") if p not in ("", ".")] + todo
                if entry.target.startswith("/"):
                    here = []
            else:
                here.append(part)
        return None  # a loop of links

    def content_of(self, entry: Entry) -> Content:
        """The bytes of a regular file or of one of its further names."""
        return self._entries[entry.target].content if entry.kind is Kind.HARDLINK else entry.content

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
                        f"/{entry.path} of {entry.source} is a hard link to /{entry.target}, which is no file"
                    )


_IMPLIED = "(implied parent)"


def _is_implied(entry: Entry) -> bool:
    return entry.source is _IMPLIED


def _conflict(old: Entry, new: Entry) -> bool:
    if _is_implied(new):
        return old.kind is not Kind.DIRECTORY
    same = (old.kind, old.mode, old.uid, old.gid, old.target, old.device, dict(old.xattrs)) == (
        new.kind, new.mode, new.uid, new.gid, new.target, new.device, dict(new.xattrs)
    )  # fmt: skip
    return not (same and old.content.same_as(new.content))


def _describe(entry: Entry) -> str:
    what = {Kind.SYMLINK: f" to {entry.target}", Kind.FILE: f" of {entry.content.size} bytes"}.get(entry.kind, "")
    return f"{entry.kind}{what}, mode {entry.mode:04o}, owner {entry.uid}:{entry.gid}"
