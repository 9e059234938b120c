"""What a kernel module says of itself: the `.modinfo` section of its ELF file, `key=value` strings ended by NUL."""

from __future__ import annotations

import struct

from livebuilder.errors import LivebuilderError
from livebuilder.unpacking import PackingError, unpack

_MOST_BYTES = 64 * 1024 * 1024  # the largest module of Debian 12 has 6 MB
# Longest first, so that the ending that is taken off is the whole one.
_SUFFIXES = (".ko.zst", ".ko.xz", ".ko.gz", ".ko")

# Where the ELF header keeps the section table's offset, and its entry size, count and name section; then the shape
# of one section header from sh_name to sh_size (elf.h: Elf32_Ehdr, Elf64_Ehdr, Elf32_Shdr, Elf64_Shdr).
_ELF_CLASSES = {1: ("<I", 0x20, 0x2E, "<6I"), 2: ("<Q", 0x28, 0x3A, "<2I4Q")}


def is_module(path: str) -> bool:
    """Whether the path is a module's, by its ending."""
    return path.endswith(_SUFFIXES)


def without_suffix(path: str) -> str:
    """The path of a module without `.ko` and what says how it is packed."""
    for suffix in _SUFFIXES:
        if path.endswith(suffix):
            return path[: -len(suffix)]
    return path


def module_name(path: str) -> str:
    """The name the kernel knows a module by: `drivers/ata/pata-x.ko.xz` is `pata_x`. A bare name gives itself."""
    return without_suffix(path.rpartition("/")[2]).replace("-", "_")


def plain_module(data: bytes, *, source: str) -> bytes:
    """The ELF bytes of a module that may be packed with xz, gzip or zstd; raises `LivebuilderError` when damaged."""
    try:
        plain = unpack(data, most_bytes=_MOST_BYTES)
    except PackingError as error:
        raise LivebuilderError(f"the kernel module {source} is damaged: {error.message}") from error
    if plain is None:
        raise LivebuilderError(f"{source} is not a kernel module")
    return plain


def read_modinfo(data: bytes, *, source: str) -> dict[str, tuple[str, ...]]:
    """The values of every key, in the order they stand; `data` may be packed.

    `depends` (names, comma between), `alias`, `softdep` and `vermagic` are the keys that matter here.
    Raises `LivebuilderError` naming `source` when this is no module.
    """
    elf = plain_module(data, source=source)
    try:
        section = _modinfo_section(elf)
    except (struct.error, IndexError, KeyError, ValueError, OverflowError) as error:
        raise LivebuilderError(f"{source} is not a kernel module: it is no ELF file with a .modinfo section") from error
    found: dict[str, tuple[str, ...]] = {}
    for word in section.decode("utf-8", "replace").split("\0"):
        key, equals, value = word.partition("=")
        if equals:
            found[key] = (*found.get(key, ()), value)
    return found


def _modinfo_section(elf: bytes) -> bytes:
    if elf[5] != 1:
        raise ValueError("not little-endian")
    offset_format, offset_at, shape_at, header = _ELF_CLASSES[elf[4]]
    (table,) = struct.unpack_from(offset_format, elf, offset_at)
    entry_size, count, names_index = struct.unpack_from("<3H", elf, shape_at)
    names_offset = struct.unpack_from(header, elf, table + names_index * entry_size)[4]
    for at in range(table, table + count * entry_size, entry_size):
        name, _type, _flags, _address, offset, size = struct.unpack_from(header, elf, at)
        if elf.startswith(b".modinfo\0", names_offset + name):
            if offset + size > len(elf):
                raise ValueError("cut short")
            return elf[offset : offset + size]
    raise ValueError("no .modinfo")
