"""Read an OpenWrt package without opkg: what it says of itself, its scripts and its files.

An .ipk (OpenWrt's scripts/ipkg-build; opkg's libbb/unarchive.c) is a gzip'ed tar of

    ./debian-binary     "2.0"
    ./control.tar.gz    control, and perhaps conffiles, preinst, postinst, prerm, postrm
    ./data.tar.gz       the files, from ./

The oldest ones are ar archives of the same three, as Debian's packages are. Nothing is extracted: both inner archives
are kept uncompressed in the cache, by the package's SHA-256, and the content of every file is a slice of them.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from livebuilder import ar
from livebuilder.cache import Cache
from livebuilder.deb822 import parse_paragraphs
from livebuilder.errors import LivebuilderError
from livebuilder.sizes import GIB, MIB
from livebuilder.tarfiles import Row, TarFiles, read_tar
from livebuilder.tree import Content, Entry, Kind, RootTree, file, normal_path
from livebuilder.unpacking import PackingError, unpack_to

# What scripts/ipkg-build lets a package be called; it becomes a file name.
NAME = re.compile(r"[A-Za-z0-9_.+-]{1,200}")

_KIND = "ipk-data"
_GZIP_MAGIC = b"\x1f\x8b"
_PACKINGS = {"": None, ".gz": "gzip", ".xz": "xz", ".zst": "zstd"}
_INNER = ("control", "data")
# Against packages made to fill the disk: real ones shrink about threefold.
_LEAST_LIMIT_BYTES = 64 * MIB
_MOST_BYTES = 2 * GIB
_RATIO = 100
_MOST_CONTROL_BYTES = 4 * MIB


@dataclass(frozen=True)
class Ipk:
    """One package: the fields of its control file, what else came with that, and its files.

    `control_files` are plain names as they are in control.tar.gz (`control`, `conffiles`, `postinst`, `prerm-pkg` …),
    each a file; `conffiles` are the absolute paths of what a user may change, which a newer version keeps.
    """

    fields: Mapping[str, str]
    control_files: RootTree
    conffiles: tuple[str, ...]
    tree: RootTree
    source: str

    @property
    def name(self) -> str:
        """The package's name."""
        return self.fields["Package"]

    @property
    def version(self) -> str:
        """The package's version."""
        return self.fields["Version"]

    def script(self, name: str) -> str:
        """The text of one of the control files; empty when there is none of that name."""
        return _text(self.control_files, name)


def read_ipk(path: Path, *, cache: Cache, source: str | None = None) -> Ipk:
    """What is in the package `path`; `source` names it in messages, and is the path's name when not given.

    A package whose every file belongs to one and the same user was packed as that user: its files become 0:0. Where
    some are root's, all owners stand. Raises `LivebuilderError` naming `source` when it is no package, damaged, cut
    short or unpacks to far more than packages do.
    """
    source = source or path.name
    try:
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            known = cache.find(_KIND, sha256)
            if known is not None:
                with suppress(LivebuilderError, OSError):  # what a power cut left short is made again
                    return _read(known, source=source)
                shutil.rmtree(known, ignore_errors=True)
            with cache.place(_KIND, sha256) as draft:
                draft.mkdir()
                stream.seek(0)
                _unpack(stream, draft, source=source)
                _read(draft, source=source)
    except OSError as error:
        raise LivebuilderError(f"the package {path} cannot be read: {error.strerror}") from error
    return _read(cache.folder(_KIND) / sha256, source=source)


def _unpack(package: IO[bytes], folder: Path, *, source: str) -> None:
    """Write control.tar and data.tar, uncompressed, into `folder`."""
    size = package.seek(0, 2)
    package.seek(0)
    start = package.read(len(ar.MAGIC))
    package.seek(0)
    if start == ar.MAGIC:
        _unpack_members([(one.name, one.offset, one.size) for one in ar.members(package, source=source)],
                        package, folder, source=source)  # fmt: skip
    elif start.startswith(_GZIP_MAGIC):
        outer = folder / "package.tar"
        with outer.open("wb") as out:
            _expand(out, package, name="the package", size=size, packing="gzip", source=source)
        rows = read_tar(outer, source=source)
        with outer.open("rb") as stream:
            _unpack_members([(row[0], row[7], row[6]) for row in rows if row[1] == Kind.FILE],
                            stream, folder, source=source)  # fmt: skip
        outer.unlink()
    else:
        raise LivebuilderError(
            f"{source} is no OpenWrt package: it begins neither as a gzip'ed tar nor as an ar archive",
            hint="a server's error page may have been saved in its place; fetch it again",
        )


def _unpack_members(members: list[tuple[str, int, int]], stream: IO[bytes], folder: Path, *, source: str) -> None:
    for inner in _INNER:
        stem = f"{inner}.tar"
        found = [one for one in members if one[0].startswith(stem) and one[0].removeprefix(stem) in _PACKINGS]
        if len(found) != 1:
            raise LivebuilderError(f"{source} is no OpenWrt package: it has {len(found) or 'no'} {stem}.gz")
        name, offset, size = found[0]
        stream.seek(offset)
        with (folder / stem).open("wb") as out:
            _expand(out, stream, name=name, size=size, packing=_PACKINGS[name.removeprefix(stem)], source=source)


def _expand(out: IO[bytes], packed: IO[bytes], *, name: str, size: int, packing: str | None, source: str) -> None:
    most = min(_MOST_BYTES, max(_LEAST_LIMIT_BYTES, _RATIO * size))
    try:
        unpack_to(out, packed, size=size, packing=packing, most_bytes=most)
    except PackingError as error:
        raise LivebuilderError(f"{source} is damaged: {name}: {error.message}", hint="fetch it again") from error


def _read(folder: Path, *, source: str) -> Ipk:
    control_rows = read_tar(folder / "control.tar", source=source)
    control = TarFiles(folder / "control.tar", tuple(control_rows), source)
    control_files = RootTree()
    for entry in control.entries():
        if entry.kind is Kind.FILE and "/" not in entry.path:
            control_files.add(_in_memory(entry, source=source))
    if "control" not in control_files:
        raise LivebuilderError(f"{source} is no OpenWrt package: its control.tar has no file named control")
    fields = next(parse_paragraphs(_text(control_files, "control")), {})
    for name in ("Package", "Version"):
        if not fields.get(name):
            raise LivebuilderError(f"{source} is no OpenWrt package: its control file has no {name}")
    if not NAME.fullmatch(fields["Package"]):
        raise LivebuilderError(f"{source} has a name no package has: {fields['Package']!r}")
    rows = _owned(tuple(read_tar(folder / "data.tar", source=source)))
    tree = RootTree(TarFiles(folder / "data.tar", rows, source).entries())
    lines = (line.strip() for line in _text(control_files, "conffiles").splitlines())
    conffiles = tuple(f"/{normal_path(line.lstrip('/'), source=source)}" for line in lines if line)
    return Ipk(fields, control_files, conffiles, tree, source)


def _text(control_files: RootTree, name: str) -> str:
    entry = control_files.get(name)
    return entry.content.read().decode("utf-8", "replace") if entry else ""


def _in_memory(entry: Entry, *, source: str) -> Entry:
    if entry.content.size > _MOST_CONTROL_BYTES:
        raise LivebuilderError(f"{source} is no OpenWrt package: its {entry.path} has {entry.content.size} bytes")
    content = Content.from_bytes(entry.content.read())
    return replace(file(entry.path, content, mode=entry.mode, source=source), mtime=entry.mtime)


def _owned(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    if {row[3] for row in rows} == {0} or len({row[3:5] for row in rows}) != 1:
        return rows
    return tuple((*row[:3], 0, 0, *row[5:]) for row in rows)
