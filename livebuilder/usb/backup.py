"""Backups of what is on a stick, going back to one or to the defaults, and what the user changed.

A backup is a pax tar (tar(5)) packed with zstd::

    backup.json     what it is, of which file system, how many paths, and one SHA-256 over all that follows
    content/…       the stick: numeric owners, hard links, whiteouts as char 0:0, attributes as SCHILY.xattr.*

What the router changed lies in `upper/` as overlayfs keeps it (kernel: Documentation/filesystems/overlayfs.rst).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal, cast

from livebuilder.cache import Cache
from livebuilder.console import Progress, no_progress
from livebuilder.errors import LivebuilderError
from livebuilder.sizes import render_size
from livebuilder.sources.archive import root_tree_from_archive
from livebuilder.staging import staged_folder
from livebuilder.tar import write_tar
from livebuilder.tree import Content, Entry, Kind, RootTree, directory, file, normal_path
from livebuilder.usb.blockdevice import Volume
from livebuilder.usb.changes import differences, facts_of
from livebuilder.usb.content import change_content, read_content
from livebuilder.usb.filesystem import FOLDERS
from livebuilder.usb.target import Target

FORMAT = "livebuilder stick backup"
VERSION = 1
MANIFEST = "backup.json"
CONTENT = "content"
UPPER, WORK = FOLDERS
ASIDE = ".livebuilder/aside"  # what /init took out of upper/ (initramfs/lib/upgrade.sh)
_ZSTD_LEVEL = 10
_OVERLAY = "trusted.overlay."


@dataclass(frozen=True)
class BackupReport:
    """A backup, written and read back; `size_bytes` is that of the files on the stick, `file_bytes` the archive's."""

    path: str
    volume: str
    paths: int
    size_bytes: int
    file_bytes: int
    sha256: str

    def to_json(self) -> dict[str, object]:
        """The report as plain data."""
        return asdict(self)

    def render(self) -> str:
        """The report for a reader, one fact to a line."""
        return "\n".join(
            (
                f"backup       {self.path}: {render_size(self.file_bytes)}",
                f"sha256       {self.sha256}",
                f"stick        {self.volume}: {self.paths} paths, {render_size(self.size_bytes)} in files",
            )
        )


@dataclass(frozen=True)
class ContentReport:
    """What became of a stick's content by a restore or a reset; paths as they are on the stick, sorted."""

    volume: str
    removed: tuple[str, ...]
    made: tuple[str, ...]
    kept: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The report as plain data."""
        return asdict(self)

    def render(self) -> str:
        """The report for a reader, one fact to a line."""
        if not self.removed and not self.made:
            return f"stick        {self.volume}: there was nothing to do"
        lines = [f"stick        {self.volume}: {len(self.removed)} paths removed, {len(self.made)} made"]
        return "\n".join([*lines, *(f"kept         {path}" for path in self.kept)])


What = Literal["changed", "deleted", "replaced", "moved"]


@dataclass(frozen=True)
class Difference:
    """One path that is not as in the image; `path` as the router sees it.

    "changed": added or changed. "deleted": a whiteout. "replaced": an opaque folder, of which nothing in the image
    is seen any more. "moved": a folder that was `origin`. `size_bytes` of files only, `mtime` in seconds since 1970.
    """

    path: str
    what: What
    kind: str
    size_bytes: int = 0
    mtime: int = 0
    origin: str = ""


@dataclass(frozen=True)
class DiffReport:
    """All that differs from the image at or below a path, sorted."""

    volume: str
    differences: tuple[Difference, ...]

    def to_json(self) -> dict[str, object]:
        """The report as plain data."""
        return asdict(self)

    def render(self) -> str:
        """One path to a line: `+` changed, `-` deleted, `=` a folder replaced, `>` one moved."""
        if not self.differences:
            return f"{self.volume}: nothing differs from the image"
        return "\n".join(_line(one) for one in self.differences)


_MARKS: Mapping[What, str] = {"changed": "+", "deleted": "-", "replaced": "=", "moved": ">"}


def _line(one: Difference) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(one.mtime)) if one.what != "deleted" else ""
    size = render_size(one.size_bytes) if one.kind == Kind.FILE else "" if one.what == "deleted" else one.kind
    return f"{_MARKS[one.what]} {size:>10}  {when:16}  {one.path}" + (f"  (was {one.origin})" if one.origin else "")


def shown(path: str) -> str:
    r"""A path such that no terminal and no JSON reader chokes on it: what is not printable as `\x..`."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


# Backup and restore.


def write_backup(
    target: Target, volume: Volume, path: Path, *, force: bool = False, progress: Progress = no_progress
) -> BackupReport:
    """Write all that is on the stick into the archive `path`, whole or not at all, and read it back.

    A file that is there is replaced only with `force`. Only the user may read it: there are passwords in it. Raises
    `LivebuilderError`.
    """
    if os.path.lexists(path) and not force:
        raise LivebuilderError(
            f"{path} is there already and may be the only backup: it was left as it is",
            hint="choose another name, or use --force to replace it",
        )
    with read_content(target, volume) as tree:
        packed = packed_tree(tree, volume)
        with staged_folder(path.parent) as stage:
            draft = stage / path.name
            _write_archive(packed, draft, progress=progress)
            with read_backup(draft) as found:
                if wrong := differences(found, tree):
                    raise LivebuilderError(f"the backup of {volume.path} is not what is on it: {'; '.join(wrong[:3])}")
            archive = Content.from_file(draft)
            size, sha256 = archive.size, archive.sha256
        path.chmod(0o600)
        return BackupReport(str(path), volume.path, len(tree), tree.size_bytes(), size, sha256)


def packed_tree(tree: RootTree, volume: Volume) -> RootTree:
    """What goes into the archive: the manifest, and `tree` below `content/`."""
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "file_system": {"type": volume.fs, "label": volume.label, "uuid": volume.uuid},
        "paths": len(tree),
        "size_bytes": tree.size_bytes(),
        "sha256": digest(tree),
    }
    packed = RootTree([file(MANIFEST, json.dumps(manifest, indent=2) + "\n"), directory(CONTENT)])
    for entry in tree:
        target = f"{CONTENT}/{entry.target}" if entry.kind is Kind.HARDLINK else entry.target
        packed.add(replace(entry, path=f"{CONTENT}/{entry.path}", target=target))
    return packed


def digest(tree: RootTree) -> str:
    """One SHA-256, in hex, over every path and all that is known of it, content included."""
    sha256 = hashlib.sha256()
    for path, facts in sorted(facts_of(tree).items()):
        sha256.update(json.dumps([path, *facts], default=bytes.hex).encode() + b"\n")
    return sha256.hexdigest()


def _write_archive(packed: RootTree, path: Path, *, progress: Progress) -> None:
    import zstandard  # costs start-up

    total, done = packed.size_bytes(), 0

    def told(size: int) -> None:
        nonlocal done
        done += size
        progress(done, total)

    packer = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
    with path.open("wb") as stream:
        path.chmod(0o600)
        with packer.stream_writer(stream, closefd=False) as writer:
            write_tar(packed, cast(BinaryIO, writer), progress=told)


@contextmanager
def read_backup(path: Path) -> Iterator[RootTree]:
    """What a stick is to hold by the backup `path`, checked whole; files can be read until the block ends.

    Raises `LivebuilderError` when it is no backup of ours, damaged, or was changed by hand.
    """
    hint = "a backup is made by livebuilder usb backup"
    # Not in the user's cache: there are passwords in it.
    with tempfile.TemporaryDirectory(prefix="livebuilder-") as scratch:
        packed = root_tree_from_archive(path, cache=Cache(Path(scratch)))
        manifest = _manifest(packed, path)
        strange = [e.path for e in packed if e.path not in (MANIFEST, CONTENT) and not e.path.startswith(f"{CONTENT}/")]
        if strange:
            raise LivebuilderError(f"{path} has {shown(strange[0])!r} in it, which is in no backup", hint=hint)
        tree = unpacked_tree(packed)
        if (manifest.get("paths"), manifest.get("sha256")) != (len(tree), digest(tree)):
            raise LivebuilderError(
                f"{path} is not as it was when it was made: {len(tree)} paths, and their checksum is another",
                hint="take another backup; this one can be looked into with tar, but not restored",
            )
        yield tree


def unpacked_tree(packed: RootTree) -> RootTree:
    """What lies below `content/`. Raises `LivebuilderError` for a hard link that leads out of it."""
    prefix = f"{CONTENT}/"
    tree = RootTree()
    for entry in packed:
        if not entry.path.startswith(prefix):
            continue
        target = entry.target
        if entry.kind is Kind.HARDLINK:
            if not target.startswith(prefix):
                raise LivebuilderError(f"{shown(entry.path)} of {entry.source} is a link to what is in no backup")
            target = target.removeprefix(prefix)
        tree.add(replace(entry, path=entry.path.removeprefix(prefix), target=target))
    tree.verify()
    return tree


def _manifest(packed: RootTree, path: Path) -> Mapping[str, object]:
    entry = packed.get(MANIFEST)
    manifest: object = None
    if entry is not None and entry.kind is Kind.FILE and entry.content.size < 64 * 1024:
        try:
            manifest = json.loads(entry.content.read())
        except (ValueError, RecursionError):
            manifest = None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise LivebuilderError(
            f"{path} is no backup of a stick: it has no {MANIFEST} that says so",
            hint="a backup is made by livebuilder usb backup",
        )
    if manifest.get("version") != VERSION:
        raise LivebuilderError(
            f"{path} is a backup of version {manifest.get('version')!r}, and this livebuilder knows {VERSION}",
            hint="restore it with the livebuilder that made it, or a newer one",
        )
    return manifest


def restore(path: Path, target: Target, volume: Volume, *, progress: Progress = no_progress) -> ContentReport:
    """Make the stick hold what the backup `path` holds, and nothing else; label, UUID and features stay.

    The archive is checked whole before the stick is looked at. Raises `LivebuilderError`.
    """
    with read_backup(path) as tree:
        return _changed(target, volume, lambda _: tree, kept=(), progress=progress)


# Reset.


def reset(
    target: Target, volume: Volume, *, keep: Sequence[str] = (), progress: Progress = no_progress
) -> ContentReport:
    """Take out all that the router changed but the paths `keep`, as the router sees them, with all that is below.

    Raises `LivebuilderError`, also when one of `keep` is not on the stick: nothing is changed then.
    """
    kept = tuple(sorted({normal_path(path.lstrip("/")) for path in keep}))
    return _changed(target, volume, lambda tree: without_changes(tree, keep=kept), kept=kept, progress=progress)


def without_changes(tree: RootTree, *, keep: Sequence[str]) -> RootTree:
    """`tree` with `upper/` and `work/` empty but for the paths `keep`, relative to `upper/`.

    Folders on the way to a kept path lose what overlayfs noted of them: an opaque one would hide the image's files.
    """
    kept = [f"{UPPER}/{path}" for path in keep]
    if missing := [path for path, inside in zip(keep, kept, strict=True) if inside not in tree]:
        raise LivebuilderError(
            f"there is no changed /{shown(missing[0])} on the stick to be kept; nothing was removed",
            hint="livebuilder usb diff   # lists what there is",
        )
    wanted = RootTree()
    wish = RootTree(tree)
    wish.remove(ASIDE)  # else /init would take it back
    for entry in tree:
        top = entry.path.partition("/")[0]
        if top not in FOLDERS or entry.path in FOLDERS:
            continue
        is_kept = any(entry.path == path or entry.path.startswith(path + "/") for path in kept)
        leads_there = any(path.startswith(entry.path + "/") for path in kept)
        if not is_kept and not leads_there:
            wish.remove(entry.path)
    for entry in wish:
        on_the_way = entry.path == UPPER or any(path.startswith(entry.path + "/") for path in kept)
        wanted.add(_without_notes(entry) if on_the_way else entry)
    return wanted


def _without_notes(entry: Entry) -> Entry:
    return replace(entry, xattrs={key: value for key, value in entry.xattrs.items() if not key.startswith(_OVERLAY)})


def _changed(
    target: Target, volume: Volume, wish: Callable[[RootTree], RootTree], *, kept: tuple[str, ...], progress: Progress
) -> ContentReport:
    changes = change_content(target, volume, wish, progress=progress)
    removed = {shown(change.entry.path) for change in changes if change.action == "remove"}
    made = {shown(change.entry.path) for change in changes if change.action == "make"}
    # What was made anew under the same name was neither removed nor made, as a person sees it, but replaced.
    return ContentReport(volume.path, tuple(sorted(removed - made)), tuple(sorted(made)), tuple(map(shown, kept)))


# Diff.


def diff(target: Target, volume: Volume, path: str = "") -> DiffReport:
    """What at or below `path`, as the router sees it, is not as in the image. Raises `LivebuilderError`."""
    below = normal_path(path.lstrip("/"))
    with read_content(target, volume) as tree:
        return DiffReport(volume.path, changed_paths(tree, below=below))


def changed_paths(tree: RootTree, *, below: str = "") -> tuple[Difference, ...]:
    """What `upper/` says was changed, sorted; folders only where they say something themselves or are empty."""
    parents = {entry.parent for entry in tree}
    found = []
    for entry in tree:
        path = entry.path.removeprefix(f"{UPPER}/")
        if path == entry.path or not (not below or path == below or path.startswith(below + "/")):
            continue
        # Of a folder with something in it that is neither opaque nor moved nothing is known but that.
        what = _what(tree, entry)
        if entry.kind is Kind.DIRECTORY and what == "changed" and entry.path in parents:
            continue
        file_entry = tree.inode_of(entry)
        origin = entry.xattrs.get(f"{_OVERLAY}redirect", b"") if what == "moved" else b""
        found.append(
            Difference(
                path=shown(f"/{path}"),
                what=what,
                kind=str(file_entry.kind),
                size_bytes=file_entry.content.size,
                mtime=file_entry.mtime,
                origin=shown(os.fsdecode(origin)),
            )
        )
    return tuple(found)


def _what(tree: RootTree, entry: Entry) -> What:
    it = tree.inode_of(entry)
    if it.kind is Kind.CHAR and it.device == (0, 0):
        return "deleted"
    # Since Linux 6.7 a whiteout may also be an empty file with this attribute.
    if it.kind is Kind.FILE and it.content.size == 0 and f"{_OVERLAY}whiteout" in it.xattrs:
        return "deleted"
    if it.kind is Kind.DIRECTORY and it.xattrs.get(f"{_OVERLAY}opaque") == b"y":
        return "replaced"
    if it.kind is Kind.DIRECTORY and f"{_OVERLAY}redirect" in it.xattrs:
        return "moved"
    return "changed"
