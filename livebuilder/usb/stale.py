"""What on a stick is older than the image it meets: the PC's view of what /init tells (initramfs/lib/upgrade.sh).

On the stick `.livebuilder/files` lists the files of the image it was used with, `.livebuilder/stale` what was stale at
that time, with the hash of the file it was made from. The disc has its own list in `files.gz`. livebuilder.image.files
has the form of all three.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from livebuilder.errors import LivebuilderError
from livebuilder.image.files import parse_files, short_hash
from livebuilder.iso.iso9660 import IsoError, open_disc
from livebuilder.iso.plan import IMAGE_FILES
from livebuilder.iso.report import read_file, read_iso
from livebuilder.sizes import MIB, render_size
from livebuilder.tree import Kind, RootTree
from livebuilder.usb.backup import UPPER, shown

_LIST_BYTES = 16 * MIB
_UNKNOWN = "-"


@dataclass(frozen=True)
class StaleFile:
    """A file of the stick in front of one that the image has in another version than it was made from.

    `known`: the stick's own list says what it was made from; else it is only known to differ.
    """

    path: str
    size_bytes: int
    mtime: int
    known: bool


@dataclass(frozen=True)
class StaleReport:
    """All of them, sorted by path. `used_with` is what the stick says of its last image, "" when it says nothing."""

    volume: str
    against: str
    used_with: str
    files: tuple[StaleFile, ...]

    def to_json(self) -> dict[str, object]:
        """The report as plain data."""
        return asdict(self)

    def render(self) -> str:
        """One path to a line, and what to do about them."""
        if not self.files:
            return f"{self.volume}: no file hides one that {self.against} has newer"
        lines = [
            f"! {render_size(one.size_bytes):>10}  {one.path}{'' if one.known else '  (differs; its age is not known)'}"
            for one in self.files
        ]
        return "\n".join([*lines, f"{len(lines)} in all; booting with lb.stale=hide starts without them"])


def image_files(iso: Path) -> Mapping[str, str]:
    """The hashes of the files that a disc of ours brings, by path; raises `LivebuilderError` when it says none."""
    try:
        found = next((file for file in read_iso(iso).files if file.path == IMAGE_FILES), None)
    except IsoError as error:
        error.hint = error.hint or "give the disc that the stick is to meet, as in --against out/router.iso"
        raise
    if found is None:
        raise LivebuilderError(
            f"{iso} does not say which files it brings: it has no /{IMAGE_FILES}",
            hint="livebuilder build   # makes discs that do",
        )
    with open_disc(iso) as disc:
        packed = read_file(disc, found, limit=_LIST_BYTES)
    try:
        text = gzip.decompress(packed).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise LivebuilderError(f"/{IMAGE_FILES} of {iso} is damaged: {error}") from error
    return parse_files(text)


def find_stale(stick: RootTree, image: Mapping[str, str], *, volume: str, against: str) -> StaleReport:
    """What /init would tell of this stick with that image; files that were put aside count as if they were there."""
    base = {**parse_files(_text(stick, "files")), **parse_files(_text(stick, "stale"))}
    found = []
    for path, digest in image.items():
        places = (f"{UPPER}/{path}", f".livebuilder/aside/{path}")
        entry = next((one for place in places if (one := stick.get(place)) is not None), None)
        if entry is None or entry.kind not in (Kind.FILE, Kind.HARDLINK) or base.get(path) == digest:
            continue
        content = stick.content_of(entry)
        known = base.get(path, _UNKNOWN) != _UNKNOWN
        if known or short_hash(content) != digest:
            found.append(StaleFile(shown(f"/{path}"), content.size, entry.mtime, known))
    used_with = _text(stick, "image").strip()
    return StaleReport(volume, against, shown(used_with), tuple(sorted(found, key=lambda one: one.path)))


def _text(stick: RootTree, name: str) -> str:
    entry = stick.get(f".livebuilder/{name}")
    if entry is None or entry.kind is not Kind.FILE or entry.content.size > _LIST_BYTES:
        return ""
    return entry.content.read().decode("utf-8", "replace")
