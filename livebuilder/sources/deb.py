"""Read a Debian package without dpkg: its files, as slices of an uncompressed copy kept in the cache.

A package (deb(5)) is an ar archive. Each member has a header of 60 bytes and starts at an even offset:

    0   name   16   "debian-binary", "control.tar.xz", "data.tar.xz", padded with blanks, perhaps "/" at the end
    16  mtime  12   decimal, as are uid (6) and gid (6); mode (8) is octal
    48  size   10   decimal
    58  magic   2   "`\\n"

`data.tar` is in the tar dialect that deb(5) names: v7, ustar with prefix, GNU long names; no pax headers.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from livebuilder.cache import Cache
from livebuilder.errors import LivebuilderError
from livebuilder.tree import EMPTY, Content, Entry, Kind, normal_path
from livebuilder.unpacking import PackingError, new_decompressor, unpack_step

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60
_BLOCK = 512  # of a tar archive
_CHUNK = 1024 * 1024
_INDEX_FORMAT = 1
_KIND = "deb-data"

_TYPES = {
    b"0": Kind.FILE, b"\0": Kind.FILE, b"7": Kind.FILE, b"1": Kind.HARDLINK, b"2": Kind.SYMLINK,
    b"3": Kind.CHAR, b"4": Kind.BLOCK, b"5": Kind.DIRECTORY, b"6": Kind.FIFO,
}  # fmt: skip
_LONG = (b"L", b"K")
_V7 = (b"0", b"\0")  # v7 had no type for folders: their names end with a slash
_WITH_BODY = (b"0", b"\0", b"7", *_LONG)

# path, kind, mode, uid, gid, mtime, size, offset in the spool, target, device major, minor
Row = tuple[str, str, int, int, int, int, int, int, str, int, int]


# How a member data.tar may be packed (deb(5)), by what its name ends with.
_PACKINGS = {"": None, ".gz": "gzip", ".xz": "xz", ".lzma": "lzma", ".bz2": "bzip2", ".zst": "zstd"}


@dataclass(frozen=True)
class UnpackedDeb:
    """The files of one package; their bytes are slices of `spool`, the package's uncompressed data.tar."""

    spool: Path
    rows: tuple[Row, ...]
    source: str

    def entries(self, paths: Container[str] | None = None, *, below: str = "") -> Iterator[Entry]:
        """The files as tree entries, in the package's order: all, or those in `paths`.

        With `below`, a folder with a slash at its end, only what lies in it, and relative to it. A hard link whose
        file is not among those becomes that file.
        """
        names: dict[str, str] = {}  # file in the package → the name it gets here
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


def unpack_deb(deb: Path, *, sha256: str, cache: Cache, source: str) -> UnpackedDeb:
    """The files of the package `deb`, unpacked to the cache the first time this `sha256` is asked for.

    The caller has verified that `deb` has that hash; `deb` is not opened when the cache has it unpacked.
    Raises `LivebuilderError` naming `source` when it is damaged or no Debian package.
    """
    found = find_unpacked(sha256, cache=cache, source=source)
    if found is None:
        _discard(cache.root / _KIND / sha256)
        with cache.place(_KIND, sha256) as draft:
            draft.mkdir()
            with deb.open("rb") as stream, (draft / "data.tar").open("wb") as spool:
                _write_spool(stream, spool, source=source)
            rows = read_tar(draft / "data.tar", source=source)
            size = (draft / "data.tar").stat().st_size
            index = {"format": _INDEX_FORMAT, "spool_bytes": size, "rows": rows}
            (draft / "index.json").write_text(json.dumps(index, separators=(",", ":")))
        found = find_unpacked(sha256, cache=cache, source=source)
        if found is None:
            raise LivebuilderError(f"{source} was unpacked to {cache.root}, but the copy there is damaged")
    return found


def find_unpacked(sha256: str, *, cache: Cache, source: str) -> UnpackedDeb | None:
    """The unpacked package of this hash, or None when the cache has none that is whole."""
    folder = cache.find(_KIND, sha256)
    if folder is None:
        return None
    spool = folder / "data.tar"
    try:
        index = json.loads((folder / "index.json").read_bytes())
        if index["format"] != _INDEX_FORMAT or index["spool_bytes"] != spool.stat().st_size:
            return None
        return UnpackedDeb(spool, tuple(index["rows"]), source)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # damaged: unpacked again


def _discard(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _write_spool(deb: IO[bytes], spool: IO[bytes], *, source: str) -> None:
    """Write data.tar, uncompressed, to `spool`."""
    extension, size = _seek_data(deb, source=source)
    packing = _PACKINGS[extension]
    decompressor = new_decompressor(packing) if packing else None
    left = size
    while left and not (decompressor and decompressor.eof):
        chunk = deb.read(min(left, _CHUNK))
        if not chunk:
            raise LivebuilderError(f"{source} is cut short: its data.tar{extension} lacks {left} of {size} bytes")
        left -= len(chunk)
        if decompressor and packing:
            try:
                chunk = unpack_step(decompressor, chunk, packing)
            except PackingError as error:
                raise LivebuilderError(f"{source} is damaged: {error.message}") from error
        spool.write(chunk)
    if decompressor and not decompressor.eof:
        raise LivebuilderError(f"{source} is damaged: its data.tar{extension} ends too early")


def _seek_data(deb: IO[bytes], *, source: str) -> tuple[str, int]:
    """Stand at the first byte of data.tar; returns how it is compressed, as a file name extension, and its size."""
    if deb.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise LivebuilderError(f"{source} is no Debian package: it does not begin as an ar archive")
    first = True
    while header := deb.read(_AR_HEADER):
        name, size = _ar_member(header, source=source)
        if first and name != "debian-binary":
            raise LivebuilderError(f"{source} is no Debian package: its first member is {name!r}")
        if first and not (version := deb.read(size)).startswith(b"2."):
            raise LivebuilderError(f"{source} is a Debian package of an unknown format, {version[:20]!r}")
        if name.startswith("data.tar"):
            extension = name.removeprefix("data.tar")
            if extension not in _PACKINGS:
                raise LivebuilderError(f"{source} is compressed in an unknown way: {name}")
            return extension, size
        deb.seek(size % 2 if first else size + size % 2, os.SEEK_CUR)
        first = False
    raise LivebuilderError(f"{source} is damaged: it has no data.tar")


def _ar_member(header: bytes, *, source: str) -> tuple[str, int]:
    digits = header[48:58].rstrip(b" ")
    if len(header) != _AR_HEADER or header[58:] != b"`\n" or not digits.isdigit():
        raise LivebuilderError(f"{source} is damaged: a member of its ar archive has no header")
    return header[:16].decode("latin-1").rstrip(" ").removesuffix("/"), int(digits)


def read_tar(spool: Path, *, source: str) -> list[Row]:
    """Where every member of the uncompressed tar archive `spool` is; raises `LivebuilderError` when it is damaged."""
    with spool.open("rb") as stream:
        if not os.fstat(stream.fileno()).st_size:
            raise LivebuilderError(f"{source} is damaged: its data.tar is empty")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return list(_rows(data, source=source))


def _rows(data: mmap.mmap, *, source: str) -> Iterator[Row]:
    offset = 0
    files: dict[str, str] = {}  # every name of a regular file → the first one
    long: dict[bytes, str] = {}  # a GNU long name ("L") or link target ("K") for the member that follows
    while True:
        header = data[offset : offset + _BLOCK]
        if len(header) < _BLOCK:
            raise LivebuilderError(f"{source} is damaged: its data.tar ends without an end mark")
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
            raise LivebuilderError(f"{source} is damaged: the member at byte {offset} of data.tar: {error}") from None
        start = offset + _BLOCK
        body = size if kind in _WITH_BODY else 0
        offset = start + -(-body // _BLOCK) * _BLOCK
        if offset > len(data):
            raise LivebuilderError(f"{source} is damaged: its data.tar ends in the middle of a file")
        if kind in _LONG:
            long[kind] = os.fsdecode(data[start : start + body].split(b"\0", 1)[0])
            continue
        if kind not in _TYPES:
            raise LivebuilderError(f"{source}: data.tar has a member of type {kind!r}, which deb(5) does not know")
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
