"""What a program or library asks of the machine it runs on: its loader, its libraries, the symbols it imports.

A reader of our own for the dozen fields we need (ELF specification 1.2 and the generic ABI): reading the three
hundred files of libc6 takes it a fraction of a second.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from livebuilder.errors import LivebuilderError

ELF_MAGIC = b"\x7fELF"
EM_386, EM_X86_64 = 3, 62
MACHINES = {EM_386: "i386", EM_X86_64: "amd64"}  # by Debian's names

_ET_EXEC, _ET_DYN = 2, 3
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 14, 15, 29
_SHT_DYNSYM = 11


@dataclass(frozen=True)
class ElfFacts:
    """A program or shared library. `needed` are the DT_NEEDED names, `run_paths` the folders of DT_RUNPATH/DT_RPATH.

    `imports` are the symbols it leaves to others to define.
    """

    machine: int
    interpreter: str | None = None
    needed: tuple[str, ...] = ()
    soname: str | None = None
    run_paths: tuple[str, ...] = ()
    imports: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Layout:
    """The struct formats of one ELF class (32 or 64 bits) and where in them the fields are that we read."""

    header: struct.Struct  # type, machine, phoff, shoff, phentsize, phnum, shentsize, shnum
    segment: struct.Struct
    segment_fields: tuple[int, int, int, int]  # type, offset, vaddr, filesz
    section: struct.Struct
    section_fields: tuple[int, int, int, int]  # type, offset, size, link
    dynamic: struct.Struct
    symbol: struct.Struct
    symbol_fields: tuple[int, int]  # name, shndx


_LAYOUTS = {
    1: _Layout(
        struct.Struct("<HH8xII6xHHHH"), struct.Struct("<8I"), (0, 1, 2, 4), struct.Struct("<10I"), (1, 4, 5, 6),
        struct.Struct("<iI"), struct.Struct("<IIIBBH"), (0, 5),
    ),
    2: _Layout(
        struct.Struct("<HH12xQQ6xHHHH"), struct.Struct("<IIQQQQQQ"), (0, 2, 3, 5), struct.Struct("<IIQQQQIIQQ"),
        (1, 4, 5, 6), struct.Struct("<qQ"), struct.Struct("<IBBHQQ"), (0, 3),
    ),
}  # fmt: skip


def elf_machine(head: bytes) -> int | None:
    """e_machine (elf(5)) of a file that begins with `head`, of whatever class and byte order; None for no ELF file."""
    if not head.startswith(ELF_MAGIC) or len(head) < 20:
        return None
    return int.from_bytes(head[18:20], "big" if head[5] == 2 else "little")


def read_elf(data: bytes, *, source: str) -> ElfFacts | None:
    """What the program or shared library `data` needs; None when it is no little-endian ELF file of that kind.

    Raises `LivebuilderError` naming `source` when it is damaged.
    """
    if not data.startswith(ELF_MAGIC) or data[4:5] not in (b"\1", b"\2") or data[5:6] != b"\1":
        return None
    try:
        return _read(data, _LAYOUTS[data[4]])
    except (struct.error, ValueError, IndexError) as error:
        raise LivebuilderError(f"{source} is a damaged program or library: {error}") from error


def _read(data: bytes, layout: _Layout) -> ElfFacts | None:
    kind, machine, phoff, shoff, phentsize, phnum, shentsize, shnum = layout.header.unpack_from(data, 16)
    if kind not in (_ET_EXEC, _ET_DYN):
        return None
    loads: list[tuple[int, int, int]] = []
    dynamic = interpreter = None
    for at in _table(phoff, phentsize, phnum, len(data)):
        fields = layout.segment.unpack_from(data, at)
        segment, offset, vaddr, size = (fields[i] for i in layout.segment_fields)
        if segment == _PT_LOAD:
            loads.append((vaddr, size, offset))
        elif segment == _PT_DYNAMIC:
            dynamic = _slice(data, offset, size)
        elif segment == _PT_INTERP:
            interpreter = _slice(data, offset, size).split(b"\0", 1)[0].decode("utf-8")
    if dynamic is None:
        return ElfFacts(machine, interpreter)
    tags = _tags(dynamic, layout.dynamic)
    strings = _strings(data, tags, loads)
    paths = [
        path
        for value in tags.get(_DT_RUNPATH) or tags.get(_DT_RPATH, [])
        for path in _string(strings, value).split(":")
    ]
    return ElfFacts(
        machine,
        interpreter,
        needed=tuple(_string(strings, value) for value in tags.get(_DT_NEEDED, ())),
        soname=next((_string(strings, value) for value in tags.get(_DT_SONAME, ())), None),
        run_paths=tuple(path for path in paths if path),
        imports=_imports(data, layout, shoff, shentsize, shnum),
    )


def _table(offset: int, entry_size: int, count: int, end: int) -> range:
    if count and (not entry_size or offset + entry_size * count > end):
        raise ValueError("a table of its header lies outside of the file")
    return range(offset, offset + entry_size * count, entry_size or 1)


def _slice(data: bytes, offset: int, size: int) -> bytes:
    if offset + size > len(data):
        raise ValueError("a part of it lies outside of the file")
    return data[offset : offset + size]


def _tags(dynamic: bytes, layout: struct.Struct) -> dict[int, list[int]]:
    tags: dict[int, list[int]] = {}
    for tag, value in layout.iter_unpack(dynamic[: len(dynamic) // layout.size * layout.size]):
        if tag == 0:
            break
        tags.setdefault(tag, []).append(value)
    return tags


def _strings(data: bytes, tags: dict[int, list[int]], loads: list[tuple[int, int, int]]) -> bytes:
    """The dynamic string table; its tag holds an address, which the loaded segments turn into a file offset."""
    if _DT_STRTAB not in tags:
        return b""
    address = tags[_DT_STRTAB][0]
    for vaddr, size, offset in loads:
        if vaddr <= address < vaddr + size:
            return _slice(data, offset + address - vaddr, tags.get(_DT_STRSZ, [0])[0])
    raise ValueError("its dynamic strings are in no segment")


def _string(strings: bytes, at: int) -> str:
    end = strings.find(b"\0", at)
    if end < 0:
        raise ValueError("one of its names has no end")
    return strings[at:end].decode("utf-8")


def _imports(data: bytes, layout: _Layout, shoff: int, shentsize: int, shnum: int) -> frozenset[str]:
    sections = []
    for at in _table(shoff, shentsize, shnum if shoff else 0, len(data)):
        fields = layout.section.unpack_from(data, at)
        sections.append(tuple(fields[i] for i in layout.section_fields))
    names: set[str] = set()
    name_at, index_at = layout.symbol_fields
    for kind, offset, size, link in sections:
        if kind == _SHT_DYNSYM:
            _, strings_offset, strings_size, _ = sections[link]
            strings = _slice(data, strings_offset, strings_size)
            table = _slice(data, offset, size // layout.symbol.size * layout.symbol.size)
            for symbol in layout.symbol.iter_unpack(table):
                if symbol[index_at] == 0 and symbol[name_at]:
                    names.add(_string(strings, symbol[name_at]))
    return frozenset(names)
