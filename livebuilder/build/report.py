"""What a build made and what it is made of: manifest.json, sha256sums, and the figures for people.

profiles.json and `.manifest` say the same in OpenWrt's words: livebuilder/build/profiles_json.py has the one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livebuilder.errors import LivebuilderError
from livebuilder.image.payload import PackedLayer
from livebuilder.sizes import render_size
from livebuilder.sources.debian import DebianPackage
from livebuilder.tree import RootTree

MANIFEST_VERSION = 1
MANIFEST_JSON = "manifest.json"
PROFILES_JSON = "profiles.json"
SHA256SUMS = "sha256sums"
# How many of the biggest things an over-full image names.
_BIGGEST = 10


@dataclass(frozen=True)
class OutputFile:
    """A file of the output folder; `size` in bytes."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class BuildReport:
    """The result of a build; `seconds` is how long it took, `unchanged` that everything was there already."""

    folder: str
    files: tuple[OutputFile, ...]
    manifest: Mapping[str, Any]
    warnings: tuple[str, ...]
    seconds: float
    unchanged: bool

    def render(self) -> str:
        """Path, size and SHA-256 of every file, and the seconds it took."""
        lines = [f"{Path(self.folder, f.name)}  {render_size(f.size)}  sha256 {f.sha256}" for f in self.files]
        done = "nothing to do, all of it was there already" if self.unchanged else "built"
        return "\n".join([*lines, f"{done}: {self.seconds:.1f} s"])

    def to_json(self) -> dict[str, Any]:
        """The stable form that `build --json` prints; docs/json.md describes it."""
        return {
            "folder": self.folder,
            "files": [{"name": f.name, "size": f.size, "sha256": f.sha256} for f in self.files],
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
            "unchanged": self.unchanged,
            "manifest": dict(self.manifest),
        }


def package_to_json(package: DebianPackage) -> dict[str, Any]:
    """A Debian binary with what identifies its source, so that whoever hands out discs can offer it."""
    return {
        "name": package.name,
        "version": package.version,
        "architecture": package.architecture,
        "sha256": package.sha256,
        "size": package.size_bytes,
        "source": package.source,
        "source_version": package.source_version,
        "built_using": list(package.built_using),
    }


def layer_to_json(layer: PackedLayer) -> dict[str, Any]:
    """A layer's figures."""
    return {
        "name": layer.name,
        "entries": layer.entries,
        "pieces": len(layer.pieces),
        "plain_size": layer.plain_size,
        "packed_size": layer.packed_size,
        "sha256": layer.sha256,
    }


def render_sha256sums(files: Sequence[OutputFile]) -> str:
    """`sha256sums` as OpenWrt writes it: binary mode, sorted by name, itself left out."""
    return "".join(f"{file.sha256} *{file.name}\n" for file in sorted(files, key=lambda file: file.name))


def check_budget(iso_size: int, max_size: int | None, *, root: RootTree, boot_files: Mapping[str, int]) -> None:
    """Raises `LivebuilderError` when the ISO is over its budget: by how much, and what takes the most room.

    `boot_files` are the sizes in bytes of the files on the ISO itself; files of the root are named with their size
    before compression.
    """
    if max_size is None or iso_size <= max_size:
        return
    things = [(size, name) for name, size in boot_files.items()]
    things += [(entry.content.size, f"/{entry.path} (before compression)") for entry in root]
    biggest = sorted(things, key=lambda thing: (-thing[0], thing[1]))[:_BIGGEST]
    listing = "\n".join(f"  {render_size(size):>10}  {name}" for size, name in biggest)
    raise LivebuilderError(
        f"the ISO has {iso_size} bytes, {iso_size - max_size} more than output.max_size = {max_size} allows;"
        f" the biggest things in it are\n{listing}",
        hint="leave packages or features out, or raise output.max_size",
    )
