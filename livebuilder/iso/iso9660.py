"""ISO 9660 as it stands on a disc: volume descriptors, folders, Rock Ridge and Joliet names, read by hand.

This reader shares nothing with the writer (pycdlib), so that what it says about our discs is a second opinion,
and it takes any bytes: whatever is off is either an `IsoError` or a line in `Disc.problems`, in bounded time
and memory. Sources: ECMA-119 (ISO 9660), IEEE P1281 (SUSP), IEEE P1282 (Rock Ridge), the Joliet specification.

A directory record, numbers in both byte orders where it says so::

    0 length   1 extended   2 sector (both)   10 size (both)   18 time, 7 bytes   25 flags   32 name length   33 name
"""

from __future__ import annotations

import calendar
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from livebuilder.errors import LivebuilderError
from livebuilder.tree import Kind

SECTOR = 2048
DESCRIPTORS_SECTOR = 16

# Bounds far above every real disc, so that a damaged one costs a second and not the machine's memory.
_MAX_DESCRIPTORS = 64
_MAX_FOLDER_BYTES = 16 * 1024 * 1024
_MAX_ENTRIES = 200_000
_MAX_DEPTH = 64
_MAX_PROBLEMS = 50
_MAX_CONTINUATIONS = 16

_JOLIET_ESCAPES = (b"%/@", b"%/C", b"%/E")


class IsoError(LivebuilderError):
    """Bytes that are no ISO 9660 disc, or a disc that is not what it should be."""


@dataclass(frozen=True, slots=True)
class TimeField:
    """Where on the disc a time stands, in bytes: 7 bytes in a directory record, 17 in a volume descriptor."""

    offset: int
    width: int
    seconds: int | None


@dataclass(frozen=True, slots=True)
class Record:
    """One path of a disc. `loader_path` is the ISO 9660 name that boot loaders see, without `;1`, in capitals."""

    path: str
    loader_path: str
    kind: Kind
    sector: int
    size_bytes: int
    mode: int | None


@dataclass(frozen=True, slots=True)
class Volume:
    """What the primary or the Joliet volume descriptor says."""

    volume_id: str
    system_id: str
    application_id: str
    publisher_id: str
    sectors: int
    block_size: int
    root_sector: int
    root_size: int
    path_table_sector: int
    path_table_sector_big: int
    path_table_size: int
    joliet: bool


@dataclass
class Disc:
    """An open disc image; use it as a context manager. `problems` grows while it is read."""

    path: Path
    stream: BinaryIO
    size_bytes: int
    problems: list[str] = field(default_factory=list)
    times: list[TimeField] = field(default_factory=list)

    def __enter__(self) -> Disc:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stream.close()

    def read(self, offset: int, size: int, *, what: str) -> bytes:
        """`size` bytes at `offset`; raises `IsoError` when the file ends before."""
        if offset < 0 or offset + size > self.size_bytes:
            raise IsoError(f"{self.path}: {what} would end at byte {offset + size}, the file ends at {self.size_bytes}")
        self.stream.seek(offset)
        data = self.stream.read(size)
        if len(data) != size:
            raise IsoError(f"{self.path}: {what} cannot be read at byte {offset}")
        return data

    def note(self, problem: str) -> None:
        """Keep a problem, once, and not more of them than a person would read."""
        if problem not in self.problems and len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(problem)


def open_disc(path: Path) -> Disc:
    """Open a disc image or drive for reading; raises `IsoError` when that cannot be done."""
    try:
        stream = path.open("rb")
        mode = os.fstat(stream.fileno()).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            stream.close()
            raise IsoError(f"{path} is neither a file nor a drive")
        return Disc(path, stream, stream.seek(0, os.SEEK_END))
    except OSError as error:
        raise IsoError(f"{path} cannot be read: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Descriptors:
    """The volume descriptors of a disc; `catalog_sector` is where El Torito's boot catalog starts."""

    primary: Volume
    joliet: Volume | None
    catalog_sector: int | None


def read_descriptors(disc: Disc) -> Descriptors:
    """The volume descriptors; raises `IsoError` when there is no primary one."""
    primary = joliet = catalog = None
    for number in range(_MAX_DESCRIPTORS):
        offset = (DESCRIPTORS_SECTOR + number) * SECTOR
        if offset + SECTOR > disc.size_bytes:
            disc.note("the volume descriptors do not end with a terminator")
            break
        data = disc.read(offset, SECTOR, what="a volume descriptor")
        if data[1:6] != b"CD001":
            if data[1:6] in (b"BEA01", b"NSR02", b"NSR03", b"TEA01"):
                continue  # UDF
            if number:
                disc.note("the volume descriptors do not end with a terminator")
            break
        if data[0] == 255:
            break
        if data[0] == 0 and data[7:39].rstrip(b"\0 ") == b"EL TORITO SPECIFICATION" and catalog is None:
            catalog = struct.unpack_from("<I", data, 71)[0]
        elif data[0] == 1 and primary is None:
            primary = _volume(disc, data, offset, joliet=False)
        elif data[0] == 2 and data[88:91] in _JOLIET_ESCAPES and joliet is None:
            joliet = _volume(disc, data, offset, joliet=True)
    else:
        disc.note(f"more than {_MAX_DESCRIPTORS} volume descriptors")
    if primary is None:
        raise IsoError(f"{disc.path} is not an ISO 9660 disc: no volume descriptor at byte {16 * SECTOR}")
    return Descriptors(primary, joliet, catalog)


def _volume(disc: Disc, data: bytes, offset: int, *, joliet: bool) -> Volume:
    def text(start: int, size: int) -> str:
        raw = data[start : start + size]
        value = raw.decode("utf-16-be", "replace") if joliet else raw.decode("ascii", "replace")
        return printable(value.rstrip(" \0"))

    name = "the Joliet volume descriptor" if joliet else "the primary volume descriptor"
    for start, what in ((813, "creation"), (830, "modification"), (864, "effect")):
        _note_time(disc, offset + start, data[start : start + 17], f"{name}, {what}")
    block_size = _both16(disc, data, 128, name)
    if block_size != SECTOR:
        raise IsoError(f"{disc.path} has blocks of {block_size} bytes; only {SECTOR} can be read")
    root = data[156:190]
    sectors = _both32(disc, data, 80, name)
    if sectors * SECTOR > disc.size_bytes:
        disc.note(f"the file is cut short: {name} tells of {sectors * SECTOR} bytes, it has {disc.size_bytes}")
    _note_time(disc, offset + 156 + 18, root[18:25], "the root folder")
    return Volume(
        text(40, 32), text(8, 32), text(574, 128), text(318, 128), sectors, block_size,
        root_sector=_both32(disc, root, 2, name), root_size=_both32(disc, root, 10, name),
        path_table_sector=struct.unpack_from("<I", data, 140)[0],
        path_table_sector_big=struct.unpack_from(">I", data, 148)[0], path_table_size=_both32(disc, data, 132, name),
        joliet=joliet,
    )  # fmt: skip


def _note_time(disc: Disc, offset: int, data: bytes, what: str) -> None:
    if not data.strip(b"\0" if len(data) == 7 else b"0\0"):
        return  # not given
    seconds = record_seconds(data) if len(data) == 7 else volume_seconds(data)
    if seconds is None:
        disc.note(f"{what}: its time is no time")
    disc.times.append(TimeField(offset, len(data), seconds))


def _both32(disc: Disc, data: bytes, offset: int, what: str) -> int:
    little, big = struct.unpack_from("<I", data, offset)[0], struct.unpack_from(">I", data, offset + 4)[0]
    if little != big:
        disc.note(f"{what}: a number is {little} in one byte order and {big} in the other")
    return int(little)


def _both16(disc: Disc, data: bytes, offset: int, what: str) -> int:
    little, big = struct.unpack_from("<H", data, offset)[0], struct.unpack_from(">H", data, offset + 2)[0]
    if little != big:
        disc.note(f"{what}: a number is {little} in one byte order and {big} in the other")
    return int(little)


def record_seconds(data: bytes) -> int | None:
    """Seconds since 1970 of the 7-byte time of a directory record (ECMA-119 9.1.5); None when it is none."""
    years, month, day, hour, minute, second, quarters = struct.unpack("<6Bb", data)
    return _seconds(1900 + years, month, day, hour, minute, second, quarters)


def volume_seconds(data: bytes) -> int | None:
    """Seconds since 1970 of the 17-byte time of a volume descriptor (ECMA-119 8.4.26.1); None when it is none."""
    digits = data[:14].decode("ascii", "replace")
    if not (digits.isascii() and digits.isdigit()):
        return None
    month, day, hour, minute, second = (int(digits[i : i + 2]) for i in range(4, 14, 2))
    return _seconds(int(digits[:4]), month, day, hour, minute, second, struct.unpack("b", data[16:17])[0])


def _seconds(year: int, month: int, day: int, hour: int, minute: int, second: int, quarters: int) -> int | None:
    if not (1 < year < 9999 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        return None
    return calendar.timegm((year, month, day, hour, minute, second)) - quarters * 900


def read_records(disc: Disc, volume: Volume) -> tuple[tuple[Record, ...], bool]:
    """Every path of a volume in the order it stands on the disc, and whether its names are Rock Ridge's.

    A folder that cannot be read is a problem of the disc, not the end of the walk.
    """
    walk = _Walk(disc, volume)
    records = tuple(walk.records())
    _check_path_tables(disc, volume, walk.seen, walk.what)
    return records, walk.rock_ridge


def _check_path_tables(disc: Disc, volume: Volume, folders: set[int], what: str) -> None:
    """The two path tables, by which DOS and Windows find folders, must agree, and name those that the walk found."""
    tables = []
    for place, order in ((volume.path_table_sector, "<"), (volume.path_table_sector_big, ">")):
        name = f"the {what} path table at sector {place}"
        if volume.path_table_size > _MAX_FOLDER_BYTES:
            disc.note(f"{name} is too large to be true: {volume.path_table_size} bytes")
            return
        try:
            data = disc.read(place * SECTOR, volume.path_table_size, what=name)
        except IsoError as error:
            disc.note(error.message)
            return
        table = _path_table(data, order)
        found = {sector for sector, _, _ in table}
        if found != folders:
            disc.note(f"{name} names {len(found)} folders, the walk finds {len(folders)} or others")
        tables.append(table)
    if tables[0] != tables[1]:
        disc.note(f"the two {what} path tables do not say the same")


def _path_table(data: bytes, order: str) -> list[tuple[int, int, bytes]]:
    """Sector, parent's number and name of every folder in a path table."""
    table = []
    offset = 0
    while offset + 8 < len(data) and data[offset]:
        extended, sector, parent = struct.unpack_from(f"{order}BIH", data, offset + 1)
        table.append((sector + extended, parent, data[offset + 8 : offset + 8 + data[offset]]))
        offset += 8 + data[offset] + data[offset] % 2
    return table


@dataclass(frozen=True, slots=True)
class _Raw:
    offset: int
    sector: int
    size: int
    flags: int
    identifier: bytes
    system_use: bytes


class _Walk:
    def __init__(self, disc: Disc, volume: Volume) -> None:
        self.disc = disc
        self.volume = volume
        self.what = "Joliet" if volume.joliet else "ISO 9660"
        self.rock_ridge = False
        self.skip = 0
        self.seen: set[int] = set()
        self.bytes_left = 4 * _MAX_FOLDER_BYTES
        self.entries_left = _MAX_ENTRIES

    def records(self) -> Iterator[Record]:
        pending = [("", "", self.volume.root_sector, self.volume.root_size, 0)]
        while pending:
            path, loader_path, sector, size, depth = pending.pop(0)
            where = f"the {self.what} folder /{path}"
            if sector in self.seen:
                self.disc.note(f"{where} is a folder that was already met: a loop")
                continue
            self.seen.add(sector)
            if depth > _MAX_DEPTH:
                self.disc.note(f"{where} is more than {_MAX_DEPTH} folders deep")
                continue
            self.bytes_left -= size
            if size > _MAX_FOLDER_BYTES or self.bytes_left < 0:
                self.disc.note(f"{where} is too large to be true: {size} bytes")
                continue
            try:
                data = self.disc.read(sector * SECTOR, size, what=where)
            except IsoError as error:
                self.disc.note(error.message)
                continue
            larger: Record | None = None
            for raw in self._raw(data, sector * SECTOR, where):
                self.entries_left -= 1
                if self.entries_left < 0:
                    self.disc.note(f"more than {_MAX_ENTRIES} records; the rest is not read")
                    return
                if raw.identifier == b"\0" and not path:
                    self._begin(raw)
                extra = self._extra(raw, where)
                if raw.identifier in (b"\0", b"\1"):
                    continue
                record = self._record(raw, extra, path, loader_path)
                if larger is not None and larger.path == record.path:
                    record = Record(record.path, record.loader_path, record.kind, larger.sector,
                                    larger.size_bytes + record.size_bytes, record.mode)  # fmt: skip
                larger = record if raw.flags & 0x80 else None  # a file of 4 GiB and more is in several extents
                if larger is not None:
                    continue
                if record.kind is Kind.DIRECTORY:
                    pending.append((record.path, record.loader_path, record.sector, record.size_bytes, depth + 1))
                yield record

    def _raw(self, data: bytes, base: int, where: str) -> Iterator[_Raw]:
        offset = 0
        while offset < len(data):
            length = data[offset]
            if length == 0:  # records do not cross sectors; the rest of this one is empty
                offset = (offset // SECTOR + 1) * SECTOR
                continue
            record = data[offset : offset + length]
            name_end = 33 + (record[32] if len(record) > 33 else 0)
            if length < 34 or len(record) < length or name_end > length:
                self.disc.note(f"{where} has a damaged record at byte {base + offset}")
                offset = (offset // SECTOR + 1) * SECTOR
                continue
            padded = name_end + (1 - record[32] % 2)
            sector = _both32(self.disc, record, 2, where)
            size = _both32(self.disc, record, 10, where)
            _note_time(self.disc, base + offset + 18, record[18:25], where)
            yield _Raw(base + offset, sector + record[1], size, record[25], record[33:name_end], record[padded:])
            offset += length

    def _begin(self, raw: _Raw) -> None:
        """The first record of the root says whether, and from which byte on, system use fields are to be read."""
        if raw.system_use[:2] == b"SP" and raw.system_use[4:6] == b"\xbe\xef" and len(raw.system_use) >= 7:
            self.rock_ridge = True
            self.skip = 0 if self.volume.joliet else raw.system_use[6]

    def _extra(self, raw: _Raw, where: str) -> _Extra:
        extra = _Extra()
        if not self.rock_ridge:
            return extra
        base = raw.offset + _length_before_system_use(raw)
        skip = 0 if raw.system_use[:2] == b"SP" else self.skip
        area, at = raw.system_use[skip:], base + skip
        for _ in range(_MAX_CONTINUATIONS):
            following = extra.take(self.disc, area, at, where)
            if following is None:
                return extra
            sector, offset, size = following
            if size > SECTOR:
                self.disc.note(f"{where} has a continuation area of {size} bytes")
                return extra
            at = sector * SECTOR + offset
            try:
                area = self.disc.read(at, size, what=f"a continuation area of {where}")
            except IsoError as error:
                self.disc.note(error.message)
                return extra
        self.disc.note(f"{where} has a chain of continuation areas without an end")
        return extra

    def _record(self, raw: _Raw, extra: _Extra, path: str, loader_path: str) -> Record:
        if self.volume.joliet:
            plain = raw.identifier.decode("utf-16-be", "replace")
        else:
            plain = raw.identifier.decode("ascii", "replace")
        plain = printable(plain.split(";")[0])
        name = printable(extra.name.decode("utf-8", "replace")) if extra.name else plain
        kind = Kind.DIRECTORY if raw.flags & 2 else Kind.SYMLINK if extra.symlink else Kind.FILE
        return Record(
            f"{path}/{name}".lstrip("/"),
            f"{loader_path}/{plain.rstrip('.').upper()}".lstrip("/"),
            kind, raw.sector, raw.size, extra.mode,
        )  # fmt: skip


def _length_before_system_use(raw: _Raw) -> int:
    return 33 + len(raw.identifier) + (1 - len(raw.identifier) % 2)


class _Extra:
    """What the Rock Ridge fields of one record say."""

    def __init__(self) -> None:
        self.name = b""
        self.mode: int | None = None
        self.symlink = False

    def take(self, disc: Disc, area: bytes, at: int, where: str) -> tuple[int, int, int] | None:
        """Read the fields in `area`, which is at byte `at`; the place of the area that follows, if one does."""
        following = None
        offset = 0
        while offset + 4 <= len(area):
            signature, length = area[offset : offset + 2], area[offset + 2]
            if length < 4 or offset + length > len(area):
                if signature != b"\0\0":
                    disc.note(f"{where} has a damaged Rock Ridge field at byte {at + offset}")
                break
            body = area[offset + 4 : offset + length]
            if signature == b"NM" and body:
                self.name += body[1:]
            elif signature == b"PX" and len(body) >= 8:
                self.mode = struct.unpack_from("<I", body)[0]
            elif signature == b"SL":
                self.symlink = True
            elif signature == b"TF" and body:
                self._times(disc, body, at + offset + 4, where)
            elif signature == b"CE" and len(body) >= 24:
                following = struct.unpack_from("<I4xI4xI", body)
            elif signature == b"ST":
                break
            offset += length
        return following

    @staticmethod
    def _times(disc: Disc, body: bytes, at: int, where: str) -> None:
        width = 17 if body[0] & 0x80 else 7
        for start in range(1, len(body) - width + 1, width):
            _note_time(disc, at + start, body[start : start + width], where)


def printable(text: str) -> str:
    """`text` with what a terminal could take as a command replaced."""
    return "".join(character if character.isprintable() else "�" for character in text)
