"""Small ELF files made field by field, for both classes; tests compare what readelf and pyelftools say of them."""

import struct
from collections.abc import Sequence

_ADDRESS = 0x10000  # where the only segment is loaded, so that addresses and file offsets differ


def elf_of(
    *,
    needed: Sequence[str] = (),
    soname: str = "",
    interpreter: str = "",
    run_path: str = "",
    old_run_path: str = "",
    imports: Sequence[str] = (),
    defines: Sequence[str] = (),
    bits: int = 32,
    machine: int = 3,
    kind: int = 3,
) -> bytes:
    """A shared library (kind 3) or program (kind 2) that says just this."""
    strings = b"\0"
    offsets: dict[str, int] = {}
    for text in (*needed, soname, run_path, old_run_path, *imports, *defines):
        if text and text not in offsets:
            offsets[text] = len(strings)
            strings += text.encode() + b"\0"
    is32 = bits == 32
    header_size, segment_size, section_size, symbol_size = (52, 32, 40, 16) if is32 else (64, 56, 64, 24)
    segments = 2 + bool(interpreter)
    strings_at = header_size + segments * segment_size
    symbols = bytes(symbol_size) + b"".join(
        struct.pack("<IIIBBH", offsets[name], 0, 0, 0x12, 0, index)
        if is32
        else struct.pack("<IBBHQQ", offsets[name], 0x12, 0, index, 0, 0)
        for names, index in ((imports, 0), (defines, 1))
        for name in names
    )
    symbols_at = strings_at + len(strings)
    interpreter_data = interpreter.encode() + b"\0" if interpreter else b""
    interpreter_at = symbols_at + len(symbols)
    tags = [(1, offsets[name]) for name in needed]
    tags += [(tag, offsets[text]) for tag, text in ((14, soname), (29, run_path), (15, old_run_path)) if text]
    tags += [(5, _ADDRESS + strings_at), (10, len(strings)), (6, _ADDRESS + symbols_at), (0, 0)]
    dynamic = b"".join(struct.pack("<iI" if is32 else "<qQ", *tag) for tag in tags)
    dynamic_at = interpreter_at + len(interpreter_data)
    names = b"\0.dynstr\0.dynsym\0.dynamic\0.shstrtab\0"
    names_at = dynamic_at + len(dynamic)
    sections_at = names_at + len(names)

    def segment(what: int, at: int, size: int) -> bytes:
        if is32:
            return struct.pack("<8I", what, at, _ADDRESS + at, _ADDRESS + at, size, size, 4, 1)
        return struct.pack("<IIQQQQQQ", what, 4, at, _ADDRESS + at, _ADDRESS + at, size, size, 8)

    def section(name: bytes, what: int, at: int, size: int, link: int, entry: int) -> bytes:
        where = names.index(name) if name else 0
        values = (where, what, 2 if what else 0, _ADDRESS + at if what else 0, at, size, link, 0, 1, entry)
        return struct.pack("<10I" if is32 else "<IIQQQQIIQQ", *values)

    ident = b"\x7fELF" + bytes((1 if is32 else 2, 1, 1)) + bytes(9)
    header = ident + struct.pack(
        "<HHIIIIIHHHHHH" if is32 else "<HHIQQQIHHHHHH",
        kind, machine, 1, 0, header_size, sections_at, 0, header_size, segment_size, segments, section_size, 5, 4,
    )  # fmt: skip
    table = (
        (segment(3, interpreter_at, len(interpreter_data)) if interpreter else b"")
        + segment(1, 0, sections_at)
        + segment(2, dynamic_at, len(dynamic))
    )
    sections = (
        section(b"", 0, 0, 0, 0, 0)
        + section(b".dynstr", 3, strings_at, len(strings), 0, 0)
        + section(b".dynsym", 11, symbols_at, len(symbols), 1, symbol_size)
        + section(b".dynamic", 6, dynamic_at, len(dynamic), 1, 8 if is32 else 16)
        + section(b".shstrtab", 3, names_at, len(names), 0, 0)
    )
    return header + table + strings + symbols + interpreter_data + dynamic + names + sections
