"""ISOLINUX, as the host's package brings it: where it is, which version, and whether its parts belong together."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from livebuilder.errors import LivebuilderError
from livebuilder.iso import lzo

# All that a text menu needs besides isolinux.bin.
MODULES = ("ldlinux.c32",)
# Where isolinux.bin and the BIOS modules are: Debian, Fedora and Alpine, Arch.
PLACES = (
    ("/usr/lib/ISOLINUX", "/usr/lib/syslinux/modules/bios"),
    ("/usr/share/syslinux", "/usr/share/syslinux"),
    ("/usr/lib/syslinux/bios", "/usr/lib/syslinux/bios"),
)
_INSTALL = (
    "apt-get install isolinux syslinux-common   # Fedora: dnf install syslinux-nonlinux;"
    " Arch: pacman -S syslinux; Alpine: apk add syslinux"
)
_DYNAMIC_SYMBOLS = 11  # SHT_DYNSYM
_WEAK = 2  # STB_WEAK
_LZO_END = b"\x11\0\0"
_CORE_LIMIT = 1024 * 1024
_BANNER = re.compile(rb"ISOLINUX (\d+\.\d+[^\0\r\n]*?) *[\0\r\n]")


class LoaderError(LivebuilderError):
    """The boot loader is missing, or its parts do not belong together."""


@dataclass(frozen=True)
class Loader:
    """The files of one ISOLINUX; `version` is what isolinux.bin says of itself, as in `6.04 20200816`."""

    isolinux_bin: Path
    modules: Mapping[str, Path]
    version: str


def isolinux_version(isolinux_bin: bytes) -> str | None:
    """The version in the banner of an isolinux.bin, or None when it is something else."""
    found = _BANNER.search(isolinux_bin, 0, 0x4000)
    return found[1].decode("ascii", "replace") if found else None


def find_loader(search: Sequence[tuple[str | Path, str | Path]] = PLACES) -> Loader:
    """The first complete ISOLINUX in `search`, pairs of folders: one holds isolinux.bin, the other `MODULES`.

    Raises `LoaderError` when there is none, or when the modules are not made for that isolinux.bin.
    """
    lacking = None
    for first, second in search:
        core = Path(first) / "isolinux.bin"
        modules = {name: Path(second) / name for name in MODULES}
        missing = [os.fspath(path) for path in (core, *modules.values()) if not path.is_file()]
        if not missing:
            return read_loader(core, modules)
        if core.is_file() and lacking is None:
            lacking = missing
    if lacking:
        raise LoaderError(f"the boot loader ISOLINUX is incomplete: {', '.join(lacking)} is missing", hint=_INSTALL)
    raise LoaderError("the boot loader ISOLINUX (isolinux.bin) is not installed", hint=_INSTALL)


def read_loader(isolinux_bin: Path, modules: Mapping[str, Path]) -> Loader:
    """The loader of these files; raises `LoaderError` when one is not what its name says, or does not fit."""
    core = isolinux_bin.read_bytes()
    version = isolinux_version(core)
    if version is None:
        raise LoaderError(f"{isolinux_bin} is not ISOLINUX: it carries no version", hint=_INSTALL)
    for name, path in modules.items():
        problem = module_problem(path.read_bytes(), core=core)
        if problem:
            raise LoaderError(
                f"{path} does not belong to {isolinux_bin} (ISOLINUX {version}): {problem}",
                hint=f"take isolinux.bin and {name} from the same version: {_INSTALL}",
            )
    return Loader(isolinux_bin, dict(modules), version)


def module_problem(module: bytes, *, core: bytes) -> str | None:
    """Why `module`, an ldlinux.c32, is not of the same build as the isolinux.bin `core`; None when nothing says so.

    Modules carry no version. But they are libraries that ISOLINUX links with itself when the PC boots, so every
    name they want must be one that it has.
    """
    try:
        wanted = wanted_names(module)
    except (ValueError, struct.error):
        return "it is not a module for a BIOS (a 32-bit ELF library)"
    program = unpacked_core(core)
    if program is None:
        return "that ISOLINUX is not one that loads modules (version 5 and later)"
    missing = [name for name in wanted if name + b"\0" not in program]
    if missing:
        return f"it wants {missing[0].decode('ascii', 'replace')}, which that ISOLINUX does not have"
    return None


def wanted_names(module: bytes) -> tuple[bytes, ...]:
    """The names an i386 ELF library leaves to others to define; raises `ValueError` when it is none."""
    if module[:6] != b"\x7fELF\1\1" or struct.unpack_from("<HH", module, 16) != (3, 3):
        raise ValueError("not an i386 ELF library")
    table_offset, entry_size, count = struct.unpack_from("<I10xHH", module, 32)
    sections = [struct.unpack_from("<10I", module, table_offset + entry_size * i) for i in range(count)]
    names = []
    for section in sections:
        if section[1] != _DYNAMIC_SYMBOLS or section[6] >= count:
            continue
        strings = sections[section[6]]
        for offset in range(section[4] + 16, section[4] + section[5], 16):
            name, _, _, info, _, defined_in = struct.unpack_from("<IIIBBH", module, offset)
            if defined_in == 0 and info >> 4 != _WEAK:
                start = strings[4] + name
                names.append(module[start : module.index(b"\0", start)])
    return tuple(names)


def unpacked_core(isolinux_bin: bytes) -> bytes | None:
    """The protected-mode program inside an isolinux.bin of version 5 or later; None when there is none.

    It stands, packed, on a 16-byte boundary behind the real-mode code, which knows its packed length.
    """
    end = isolinux_bin.rfind(_LZO_END) + len(_LZO_END)
    for start in range(0x400, min(end, 0x4000), 16):
        if struct.pack("<I", end - start) not in isolinux_bin[:start]:
            continue
        try:
            return lzo.unpack(isolinux_bin, start, limit=_CORE_LIMIT)[0]
        except ValueError:
            continue
    return None
