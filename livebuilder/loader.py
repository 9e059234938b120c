"""ISOLINUX, as the host's package brings it: where it is, which version, and whether its parts belong together."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from livebuilder.errors import LivebuilderError

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
    """Why the module `ldlinux.c32` cannot be of the same build as the isolinux.bin `core`; None when it can.

    The modules carry no version. But they are ELF libraries that are linked with the core when the PC boots, so
    the names they want must be names the core has.
    """
    if module[:4] != b"\x7fELF" or module[4:5] != b"\x01" or module[16:20] != b"\x03\0\x03\0":
        return "it is not a module for a BIOS (a 32-bit ELF library)"
    return None
