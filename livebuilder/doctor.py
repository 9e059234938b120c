"""What livebuilder needs from the system, what is missing, and the package that holds it on four distributions."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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

    kind: Literal["tool", "file", "lib", "python"]
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
    if need.kind == "python":
        found = importlib.util.find_spec(need.name)
        return str(found.origin) if found else None
    if need.kind == "lib":
        try:
            ctypes.CDLL(need.name)
        except OSError:
            return None
        return need.name
    candidates = (Path(folder, need.name) for folder in _FILE_FOLDERS)
    return next((str(path) for path in candidates if path.is_file()), None)


@dataclass(frozen=True)
class Diagnosis:
    """All checks, and the line that mends what is missing, by distribution."""

    checks: tuple[Check, ...]
    install: dict[str, str]

    @property
    def healthy(self) -> bool:
        """Whether everything is there; what only our own tests need does not count."""
        return all(check.path for check in self.checks if check.need.need != "test")

    def to_json(self) -> dict[str, Any]:
        """The stable form that `doctor --json` prints."""
        needs = [
            {"name": c.need.name, "kind": c.need.kind, "need": c.need.need, "path": c.path, "packages": c.need.packages}
            for c in self.checks
        ]
        return {"healthy": self.healthy, "needs": needs, "install": self.install}

    def render(self) -> str:
        """A line for each need, and how to install what is missing."""
        lines = []
        for check in self.checks:
            need = check.need
            where = check.path or "missing: " + ", ".join(f"{d} {p}" for d, p in need.packages.items())
            lines.append(f"{'ok ' if check.path else '-- '} {need.need:<6} {need.name:<27} {where}")
        if self.install:
            lines += ["", "install what is missing:"]
            lines += [f"  {distribution:<7} {line}" for distribution, line in self.install.items()]
        return "\n".join(lines)


def diagnose(checks: Iterable[Check]) -> Diagnosis:
    """Sum the checks up."""
    checks = tuple(checks)
    packages = {d: missing_packages(checks, distribution=d) for d in DISTRIBUTIONS}
    install = {d: f"{_INSTALL[d]} {' '.join(names)}" for d, names in packages.items() if names}
    return Diagnosis(checks, install)


def missing_packages(checks: Sequence[Check], *, distribution: str) -> list[str]:
    """The packages of a distribution that hold what is missing, sorted."""
    missing = (check.need.packages for check in checks if not check.path)
    return sorted({packages[distribution] for packages in missing if distribution in packages})
