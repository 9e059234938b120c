"""A plain tar archive read where it stands: what is in it and where, with the content as slices of its file.

The dialect is the one packages are made in, which deb(5) names: v7, ustar with prefix, GNU long names; no pax headers.
Roots come in every dialect and are read by `sources.archive`.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from livebuilder.errors import LivebuilderError
from livebuilder.tree import EMPTY, Content, Entry, Kind, normal_path

_BLOCK = 512

_TYPES = {
    b"0": Kind.FILE, b"\0": Kind.FILE, b"7": Kind.FILE, b"1": Kind.HARDLINK, b"2": Kind.SYMLINK,
    b"3": Kind.CHAR, b"4": Kind.BLOCK, b"5": Kind.DIRECTORY, b"6": Kind.FIFO,
}  # fmt: skip
_LONG = (b"L", b"K")
_V7 = (b"0", b"\0")  # v7 had no type for folders: their names end with a slash
_WITH_BODY = (b"0", b"\0", b"7", *_LONG)

# path, kind, mode, uid, gid, mtime, size, offset in the spool, target, device major, minor
Row = tuple[str, str, int, int, int, int, int, int, str, int, int]


@dataclass(frozen=True)
class TarFiles:
    """What is in the tar archive `spool`; the bytes of its files are slices of it."""

    spool: Path
    rows: tuple[Row, ...]
    source: str

    def entries(self, paths: Container[str] | None = None, *, below: str = "") -> Iterator[Entry]:
        """The files as tree entries, in the archive's order: all, or those in `paths`.

        With `below`, a folder with a slash at its end, only what lies in it, and relative to it. A hard link whose
        file is not among those becomes that file.
        """
        names: dict[str, str] = {}  # file in the archive → the name it gets here
        rows = [row for row in self.rows if (paths is None or row[0] in paths) and row[0].startswith(below)]
        for path, kind, mode, uid, gid, mtime, size, offset, target, major, minor in rows:
            name = path[len(below) :]
            if kind == "file":
                names[path] = name
            elif kind == "hardlink" and (first := names.setdefault(target, name)) != name:
                target = first
            elif kind == "hardlink":
                size, offset = next((row[6], row[7]) for row in self.rows if row[0] == target)
                kind, target = "file", ""
            content = Content(size, None, self.spool, offset) if kind == "file" else EMPTY
            if name:
                yield Entry(
                    name, Kind(kind), mode, uid, gid, mtime, content, target, (major, minor), source=self.source
                )


def read_tar(spool: Path, *, source: str) -> list[Row]:
    """Where every member of the uncompressed tar archive `spool` is; raises `LivebuilderError` when it is damaged."""
    with spool.open("rb") as stream:
        if not os.fstat(stream.fileno()).st_size:
            raise LivebuilderError(f"{source} is damaged: its {spool.name} is empty")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return list(_rows(data, archive=spool.name, source=source))


def _rows(data: mmap.mmap, *, archive: str, source: str) -> Iterator[Row]:
    offset = 0
    files: dict[str, str] = {}  # every name of a regular file → the first one
    long: dict[bytes, str] = {}  # a GNU long name ("L") or link target ("K") for the member that follows
    while True:
        header = data[offset : offset + _BLOCK]
        if len(header) < _BLOCK:
            raise LivebuilderError(f"{source} is damaged: its {archive} ends without an end mark")
        if not header.strip(b"\0"):
            return
        kind = header[156:157]
        try:
            if _number(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * 0x20:
                raise ValueError("its checksum is wrong")
            mode, uid, gid = (_number(header[at : at + 8]) for at in (100, 108, 116))
            size, mtime = _number(header[124:136]), _number(header[136:148])
            major, minor = (_number(header[at : at + 8]) for at in (329, 337)) if kind in (b"3", b"4") else (0, 0)
        except ValueError as error:
            raise LivebuilderError(f"{source} is damaged: the member at byte {offset} of {archive}: {error}") from None
        start = offset + _BLOCK
        body = size if kind in _WITH_BODY else 0
        offset = start + -(-body // _BLOCK) * _BLOCK
        if offset > len(data):
            raise LivebuilderError(f"{source} is damaged: its {archive} ends in the middle of a file")
        if kind in _LONG:
            long[kind] = os.fsdecode(data[start : start + body].split(b"\0", 1)[0])
            continue
        if kind not in _TYPES:
            raise LivebuilderError(f"{source}: {archive} has a member of type {kind!r}, which deb(5) does not know")
        name = long.get(b"L") or _name(header)
        target = long.get(b"K") or _text(header[157:257])
        long = {}
        path = normal_path(name, source=source)
        if not path:
            continue  # the root folder itself
        what = Kind.DIRECTORY if kind in _V7 and name.endswith("/") else _TYPES[kind]
        if what is Kind.FILE:
            files[path] = path
        if what is Kind.HARDLINK:
            first = files.get(normal_path(target, source=source))
            if first is None:
                raise LivebuilderError(f"{source}: {path} is a hard link to {target}, which is no file before it")
            target = files[path] = first
        elif what is not Kind.SYMLINK:
            target = ""
        size = body if what is Kind.FILE else 0
        yield path, str(what), mode & 0o7777, uid, gid, mtime, size, start, target, major, minor


def _name(header: bytes) -> str:
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    name = _text(header[:100])
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return os.fsdecode(field.split(b"\0", 1)[0])


def _number(field: bytes) -> int:
    """A number of a tar header: octal text, or big-endian binary when its first bit is set (a GNU extension)."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
        if field[0] & 0x40 or value >= 1 << 63:
            raise ValueError("it has a number out of range")
        return value
    digits = field.strip(b" \0")
    if digits and not (digits.isdigit() and digits.isascii()):
        raise ValueError("it has a number that is none")
    return int(digits, 8) if digits else 0
