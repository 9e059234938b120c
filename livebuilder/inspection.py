"""What is in a file: an ISO, an initramfs (also a foreign one) or a kernel, told apart by their bytes."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from livebuilder import cpio
from livebuilder.cache import Cache
from livebuilder.compression import COMPRESSIONS
from livebuilder.errors import LivebuilderError
from livebuilder.image.squashfs import IMAGE_PATH, read_superblock
from livebuilder.iso.iso9660 import open_disc
from livebuilder.iso.lint import Finding, lint_iso
from livebuilder.iso.menu import INITRAMFS_PATH, KERNEL_PATH
from livebuilder.iso.plan import IMAGE_FACTS
from livebuilder.iso.report import IsoReport, read_file, read_iso, render_report
from livebuilder.kernel.image import COMPRESSION_OPTIONS, BzImage, embedded_config, read_bzimage
from livebuilder.sizes import MIB, render_size
from livebuilder.sources.squashfs import root_tree_from_squashfs
from livebuilder.tree import Content, Entry, Kind, RootTree, is_implied
from livebuilder.unpacking import can_unpack, packing_of, unpack_first

# Enough for any initramfs a machine of the time could take, and a bound for hostile ones.
_LIMIT_BYTES = 2048 * MIB
_SUFFIXES = {compression.suffix: compression.name for compression in COMPRESSIONS.values()}
_PIECE = re.compile(rf"payload/(?P<layer>.+)\.\d{{3}}\.cpio(?P<suffix>{'|'.join(map(re.escape, _SUFFIXES))})")
# For those that Python's library does not have.
_OTHER_TOOLS = {"lz4": "lz4 -dc", "lzo": "lzop -dc"}
_SOMETHING = re.compile(rb"[^\0]")
_LETTER = {
    Kind.DIRECTORY: "d", Kind.FILE: "-", Kind.HARDLINK: "-", Kind.SYMLINK: "l",
    Kind.CHAR: "c", Kind.BLOCK: "b", Kind.FIFO: "p",
}  # fmt: skip


@dataclass(frozen=True)
class IsoInspection:
    """An ISO and what is wrong with it."""

    report: IsoReport
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """The stable form that `inspect --json` prints."""
        return {"kind": "iso", **asdict(self.report), "findings": [asdict(finding) for finding in self.findings]}

    def render(self) -> str:
        """The report, then what is wrong."""
        wrong = [f"  {finding.severity:<11} {finding.message}" for finding in self.findings]
        return "\n".join([render_report(self.report).rstrip("\n"), *wrong])


@dataclass(frozen=True)
class Archive:
    """One archive: a segment of the initramfs, a layer of the root that its pieces make up, or the root's squashfs.

    `block_size` is that of a squashfs.
    """

    name: str
    compression: str
    packed_size: int
    plain_size: int
    tree: RootTree
    block_size: int | None = None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What stands in the archive; a folder may be missing that lies around what does (Linux drops such files)."""
        return tuple(entry for entry in self.tree if not is_implied(entry))


@dataclass(frozen=True)
class InitramfsInspection:
    """The archives of an initramfs in the order they are unpacked."""

    path: str
    size: int
    archives: tuple[Archive, ...]

    def to_json(self) -> dict[str, Any]:
        """The stable form that `inspect --json` prints."""
        archives = [
            {
                "name": a.name,
                "compression": a.compression,
                "packed_size": a.packed_size,
                "plain_size": a.plain_size,
                "block_size": a.block_size,
                "entries": [_entry_to_json(a.tree, entry) for entry in a.entries],
            }
            for a in self.archives
        ]
        return {"kind": "initramfs", "path": self.path, "size": self.size, "archives": archives}

    def render(self) -> str:
        """Every archive and every path in it."""
        lines = [f"{self.path}: initramfs, {render_size(self.size)}, {len(self.archives)} archives"]
        for archive in self.archives:
            sizes = f"{render_size(archive.packed_size)} packed, {render_size(archive.plain_size)} plain"
            blocks = f" in blocks of {render_size(archive.block_size)}" if archive.block_size else ""
            lines.append(f"  {archive.name}: {archive.compression}{blocks}, {sizes}, {len(archive.entries)} entries")
            lines += [f"    {_line(archive.tree, entry)}" for entry in archive.entries]
        return "\n".join(lines)


@dataclass(frozen=True)
class KernelInspection:
    """A kernel's header, and what it says it can unpack."""

    path: str
    size: int
    image: BzImage
    config: dict[str, str] | None

    def to_json(self) -> dict[str, Any]:
        """The stable form that `inspect --json` prints."""
        return {
            "kind": "kernel",
            "path": self.path,
            "size": self.size,
            "release": self.image.release,
            "version": self.image.version_text,
            "boot_protocol": f"{self.image.protocol[0]}.{self.image.protocol[1]:02}",
            "compression": self.image.compression,
            "embedded_config": self.config is not None,
            "unpacks": self._unpacks(),
        }

    def _unpacks(self) -> list[str] | None:
        if self.config is None:
            return None
        return [name for name, option in COMPRESSION_OPTIONS.items() if self.config.get(option) == "y"]

    def render(self) -> str:
        """The header for a reader."""
        unpacks = self._unpacks()
        major, minor = self.image.protocol
        return "\n".join(
            [
                f"{self.path}: Linux kernel (bzImage), {render_size(self.size)}",
                f"  release   {self.image.release}",
                f"  version   {self.image.version_text}",
                f"  protocol  {major}.{minor:02}, packed with {self.image.compression}",
                f"  unpacks   {', '.join(unpacks) if unpacks is not None else 'not said (no embedded config)'}",
            ]
        )


Inspection = IsoInspection | InitramfsInspection | KernelInspection


def inspect_file(path: Path) -> Inspection:
    """What `path` is and holds; raises `LivebuilderError` when it is none of the three, or is damaged."""
    try:
        with path.open("rb") as stream:
            head = stream.read(0x210)
            stream.seek(16 * 2048)
            descriptor = stream.read(6)
    except OSError as error:
        raise LivebuilderError(
            f"{path} cannot be read: {error.strerror}", hint="name a file, as in livebuilder inspect out/router.iso"
        ) from error
    if descriptor[1:6] == b"CD001":
        report = read_iso(path)
        return IsoInspection(report, lint_iso(report))
    if head[0x202:0x206] == b"HdrS":
        data = path.read_bytes()
        image = read_bzimage(data, source=str(path))
        return KernelInspection(str(path), len(data), image, embedded_config(data, source=str(path)))
    if _packing_at(head) is not None:
        data = path.read_bytes()
        return InitramfsInspection(str(path), len(data), tuple(read_archives(data, source=str(path))))
    raise LivebuilderError(
        f"{path} is neither an ISO, nor an initramfs (newc, plain or packed with gzip, xz, zstd, bzip2 or lzma),"
        " nor a kernel",
        hint=f"file {path}",
    )


def image_facts(path: Path) -> dict[str, Any]:
    """What an ISO of ours says of itself: name, label, kernel, packages. Raises `LivebuilderError` for any other."""
    try:
        report = read_iso(path)
    except LivebuilderError as error:
        raise LivebuilderError(error.message, hint=error.hint or "name an ISO of livebuilder build") from error
    found = next((file for file in report.files if file.path == IMAGE_FACTS), None)
    if found is None:
        raise LivebuilderError(
            f"{path} was not made by livebuilder: it has no /{IMAGE_FACTS}", hint="livebuilder build"
        )
    with open_disc(path) as disc:
        text = read_file(disc, found, limit=MIB)
    try:
        facts = json.loads(text)
    except ValueError as error:
        raise LivebuilderError(f"/{IMAGE_FACTS} of {path} is damaged: {error}") from error
    if not isinstance(facts, dict) or not isinstance(facts.get("label"), str):
        raise LivebuilderError(f"/{IMAGE_FACTS} of {path} does not name the label of its stick")
    return facts


def read_system(path: Path) -> tuple[bytes, RootTree]:
    """The kernel of an ISO of ours, and all files of its initramfs with the root's own over them.

    Raises `LivebuilderError` for any other disc, or one that is damaged.
    """
    image_facts(path)
    files = {file.path: file for file in read_iso(path).files}
    with open_disc(path) as disc:
        kernel = read_file(disc, files[KERNEL_PATH], limit=_LIMIT_BYTES)
        initramfs = read_file(disc, files[INITRAMFS_PATH], limit=_LIMIT_BYTES)
    root = RootTree()
    for archive in read_archives(initramfs, source=f"{path}, /{INITRAMFS_PATH}"):
        root.overlay(archive.tree)
    root.remove("payload")
    root.remove(IMAGE_PATH)
    return kernel, root


def read_archives(data: bytes, *, source: str) -> Iterator[Archive]:
    """The archives of an initramfs, and after them the layers its payload pieces make up, or the squashfs in it.

    Raises `LivebuilderError` for damage, naming `source`.
    """
    layers: dict[tuple[str, str], list[bytes]] = {}
    images: list[Entry] = []
    view = memoryview(data)
    offset = number = 0
    try:
        while (offset := _behind_padding(data, offset)) < len(data):
            packing = _packing_at(data[offset : offset + 8])
            if packing is None:
                raise LivebuilderError(f"no archive at byte {offset}")
            if not can_unpack(packing):
                raise LivebuilderError(
                    f"the archive at byte {offset} is packed with {packing}, which livebuilder cannot unpack",
                    hint=f"tail -c +{offset + 1} {source} | {_OTHER_TOOLS[packing]} >plain.cpio   # and inspect that",
                )
            if packing == "none":
                tree, used = cpio.read_archive(view[offset:], source=source)
                yield Archive(f"archive {number}", "none", used, used, tree)
                _collect(tree, layers, images)
            else:
                plain, used = unpack_first(data[offset:], packing, most_bytes=_LIMIT_BYTES)
                start = end = 0
                while (start := _behind_padding(plain, end)) < len(plain):
                    tree, size = cpio.read_archive(memoryview(plain)[start:], source=source)
                    yield Archive(f"archive {number}", packing, used if not end else 0, size, tree)
                    _collect(tree, layers, images)
                    end = start + size
            offset += used
            number += 1
        for (name, compression), pieces in layers.items():
            yield _layer(name, compression, pieces, source=source)
        for image in images:
            yield _squashfs(image, source=source)
    except LivebuilderError as error:
        where = "" if source in error.message else f"{source}: "
        raise LivebuilderError(f"{where}{error.message}", hint=error.hint or "copy or build it again") from error


def _packing_at(data: bytes) -> str | None:
    """How the archive that begins with `data` is packed, `none` when it is plain; None when this is no archive."""
    if data.startswith(cpio.MAGICS):
        return "none"
    packing = packing_of(data)
    return None if packing in ("none", "unknown") else packing


def _behind_padding(data: bytes, offset: int) -> int:
    """Where the zeros at `offset` end: archives are padded with any number of them."""
    found = _SOMETHING.search(data, offset)
    return found.start() if found else len(data)


def _collect(tree: RootTree, layers: dict[tuple[str, str], list[bytes]], images: list[Entry]) -> None:
    """Put the pieces in `tree` to those of their layer, by its name and how they are packed; a squashfs to `images`."""
    image = tree.get(IMAGE_PATH)
    if image is not None and image.kind is Kind.FILE:
        images.append(image)
    for entry in tree:
        match = _PIECE.fullmatch(entry.path)
        if match and entry.kind is Kind.FILE:
            layers.setdefault((match["layer"], _SUFFIXES[match["suffix"]]), []).append(entry.content.read())


def _layer(name: str, compression: str, pieces: list[bytes], *, source: str) -> Archive:
    plain = b"".join(
        piece if compression == "none" else unpack_first(piece, compression, most_bytes=_LIMIT_BYTES)[0]
        for piece in pieces
    )
    tree, _ = cpio.read_archive(plain, source=f"{source}, layer {name}")
    return Archive(f"layer {name}", compression, sum(map(len, pieces)), len(plain), tree)


def _squashfs(image: Entry, *, source: str) -> Archive:
    data = image.content.read()
    superblock = read_superblock(data, source=f"{source}, {image.path}")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / image.name
        path.write_bytes(data)
        given = root_tree_from_squashfs(Content.from_file(path), source=path, cache=Cache(Path(scratch)))
        tree = RootTree(replace(entry, content=Content.from_bytes(entry.content.read())) for entry in given)
    return Archive(image.name, superblock.compression, len(data), tree.size_bytes(), tree, superblock.block_size)


def _entry_to_json(tree: RootTree, entry: Entry) -> dict[str, Any]:
    inode = tree.inode_of(entry)
    facts: dict[str, Any] = {
        "path": entry.path,
        "kind": str(entry.kind),
        "mode": f"{inode.mode:04o}",
        "uid": inode.uid,
        "gid": inode.gid,
        "mtime": inode.mtime,
    }
    if entry.kind is Kind.FILE:
        facts |= {"size": entry.content.size, "sha256": entry.content.sha256}
    if entry.target:
        facts["target"] = entry.target
    if entry.kind in (Kind.CHAR, Kind.BLOCK):
        facts["device"] = list(entry.device)
    return facts


def _line(tree: RootTree, entry: Entry) -> str:
    inode = tree.inode_of(entry)
    size = f"{inode.device[0]}, {inode.device[1]}" if any(inode.device) else str(inode.content.size)
    arrow = {Kind.SYMLINK: " -> ", Kind.HARDLINK: " link to "}.get(entry.kind, "")
    name = (entry.path + arrow + entry.target if arrow else entry.path).encode("utf-8", "backslashreplace").decode()
    return f"{_LETTER[entry.kind]}{inode.mode:04o} {inode.uid}:{inode.gid} {size:>9} {name}"
