"""What livebuilder needs from the system, what is missing, and the package that holds it on four distributions."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from livebuilder.process import find_tool

DISTRIBUTIONS = ("debian", "fedora", "arch", "alpine")
_INSTALL = {
    "debian": "apt-get install",
    "fedora": "dnf install",
    "arch": "pacman -S",
    "alpine": "apk add",
}
# Where the distributions keep what is not a program: Debian, then Fedora and Alpine, then Arch.
_FILE_FOLDERS = (
    "/usr/lib/ISOLINUX",
    "/usr/lib/syslinux/modules/bios",
    "/usr/share/syslinux",
    "/usr/lib/syslinux/bios",
    "/usr/share/keyrings",
)


@dataclass(frozen=True)
class Need:
    """One line of tools.txt; `packages` holds the package's name by distribution, without those that have none."""

    kind: Literal["tool", "file", "lib"]
    name: str
    need: str
    packages: dict[str, str]


@dataclass(frozen=True)
class Check:
    """A need and where it was found; `path` is None when it is missing."""

    need: Need
    path: str | None


def read_needs() -> tuple[Need, ...]:
    """The lines of the table."""
    needs = []
    for line in Path(__file__).with_name("tools.txt").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        kind, name, need, *packages = line.split()
        named = {d: package for d, package in zip(DISTRIBUTIONS, packages, strict=True) if package != "-"}
        needs.append(Need(kind, name, need, named))  # type: ignore[arg-type]
    return tuple(needs)


def check_needs(needs: Iterable[Need]) -> tuple[Check, ...]:
    """Look every need up on this machine."""
    return tuple(Check(need, _find(need)) for need in needs)


def _find(need: Need) -> str | None:
    if need.kind == "tool":
        tool = find_tool(need.name)
        return str(tool) if tool else None
    if need.kind == "lib":
        try:
            ctypes.CDLL(need.name)
        except OSError:
            return None
        return need.name
    candidates = (Path(folder, need.name) for folder in _FILE_FOLDERS)
    return next((str(path) for path in candidates if path.is_file()), None)


def install_lines(missing: Sequence[Check]) -> dict[str, str]:
    """The command that installs what is missing, by distribution."""
    lines = {}
    for distribution in DISTRIBUTIONS:
        packages = sorted(
            {check.need.packages[distribution] for check in missing if distribution in check.need.packages}
        )
        if packages:
            lines[distribution] = f"{_INSTALL[distribution]} {' '.join(packages)}"
    return lines
