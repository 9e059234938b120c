"""A binary package of Debian's: what the index says of it, what is in it, and which of it a request came to."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from livebuilder.sources.closure import PackageFiles, Relations
from livebuilder.sources.elf import ELF_MAGIC, read_elf
from livebuilder.tarfiles import TarFiles


@dataclass(frozen=True)
class DebianPackage:
    """A binary package that was used, and the source it was built from; `built_using` names what is linked into it."""

    name: str
    version: str
    architecture: str
    sha256: str
    size_bytes: int
    source: str
    source_version: str
    built_using: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Resolution:
    """What a request came to: packages, the paths to take of each, links that no package ships."""

    packages: tuple[DebianPackage, ...]
    paths: Mapping[str, Sequence[str]] = field(default_factory=dict)  # package → paths
    links: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: bytes) -> Resolution:
        """The inverse of `to_json`."""
        given = json.loads(data)
        packages = tuple(
            DebianPackage(**{**one, "built_using": tuple(one["built_using"])}) for one in given["packages"]
        )
        return cls(packages, given["paths"], given["links"], tuple(given["warnings"]))

    def to_json(self) -> bytes:
        """As it is kept in the cache."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()


def package_of(entry: Mapping[str, str]) -> DebianPackage:
    """The package an index entry describes (deb-control(5) and Debian policy 5.6.1, 7.8)."""
    source, _, version = entry.get("Source", entry["Package"]).partition(" ")
    built = [word.strip() for key in ("Built-Using", "Static-Built-Using") for word in entry.get(key, "").split(",")]
    return DebianPackage(
        entry["Package"],
        entry["Version"],
        entry["Architecture"],
        entry["SHA256"],
        int(entry["Size"]),
        source,
        version.strip("() ") or entry["Version"],
        tuple(sorted({word for word in built if word})),
    )


def relations_of(entry: Mapping[str, str]) -> Relations:
    """What an index entry says a package depends on and provides, without versions (Debian policy 7)."""
    groups = [group for key in ("Pre-Depends", "Depends") for group in entry.get(key, "").split(",")]
    return Relations(
        entry["Package"],
        tuple(names for group in groups if (names := tuple(filter(None, map(_bare_name, group.split("|")))))),
        tuple(filter(None, map(_bare_name, entry.get("Provides", "").split(",")))),
        entry.get("Section", ""),
    )


def _bare_name(relation: str) -> str:
    match = re.match(r"\s*([a-z0-9][a-z0-9+.-]*)", relation)
    return match[1] if match else ""


def package_files(name: str, deb: TarFiles) -> PackageFiles:
    """What the closure has to know of an unpacked package."""
    elf = {}
    links = {}
    with deb.spool.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for path, kind, _, _, _, _, size, offset, target, *_ in deb.rows:
            if kind == "file" and data[offset : offset + len(ELF_MAGIC)] == ELF_MAGIC:
                facts = read_elf(data[offset : offset + size], source=f"/{path} of {deb.source}")
                if facts is not None:
                    elf[path] = facts
            elif kind in ("symlink", "hardlink"):
                links[path] = f"/{target}" if kind == "hardlink" else target
    folders = frozenset(row[0] for row in deb.rows if row[1] == "directory")
    return PackageFiles(name, frozenset(row[0] for row in deb.rows) - folders, folders, links, elf)
