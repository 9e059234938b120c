"""What is on a stick's file system, read and changed without mounting the stick and without running a tool on it.

Everything happens on a copy in a scratch folder: its journal is replayed there, it is checked, changed, checked again
and read back. Only then the blocks that differ go to the stick: first those that the file system on the stick does
not use yet, then the rest, so that an interruption before that second part leaves the stick as it was.

- ext2, ext3, ext4: the blocks in use are copied (kernel: Documentation/filesystems/ext4/{super,group_descr}.rst), then
  debugfs and e2fsck from e2fsprogs work on the copy. No root is needed.
- f2fs, btrfs: the whole partition is copied, and the copy is mounted in a mount namespace of its own: root is needed.

Left out on purpose: `lost+found` and sockets, which mean nothing on another day, and `HOST_XATTRS`.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import stat
import struct
import tarfile
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from livebuilder.cache import Cache
from livebuilder.console import Progress
from livebuilder.errors import CommandError, LivebuilderError
from livebuilder.process import run
from livebuilder.sizes import KIB, align_up
from livebuilder.sources.archive import root_tree_from_archive
from livebuilder.staging import verify_room
from livebuilder.tree import HOST_XATTRS, Content, Entry, Kind, RootTree
from livebuilder.usb.blockdevice import BlockDevice, Volume
from livebuilder.usb.filesystem import EXT, FILE_SYSTEMS, REFUSED, check_command
from livebuilder.usb.plan import DEFAULT_LABEL
from livebuilder.usb.ranges import Range, differing, merged, pieces, subtracted
from livebuilder.usb.superblock import read_superblock
from livebuilder.usb.target import Extent, FileSlice, Target, no_progress

LOST_AND_FOUND = "lost+found"
_OTHER_FOLDER = "set TMPDIR to a folder on a larger disk and run the same command again"

Reader = Callable[[int, int], bytes]
"""Gives the bytes at (offset, length)."""


class DamagedError(LivebuilderError):
    """A file system that has to be mended before it can be read; e2fsck cannot do it without asking."""


@dataclass(frozen=True)
class Change:
    """One thing to do. "set" gives a folder that stays, or was just made, its mode, owner, times and attributes."""

    action: Literal["remove", "make", "set"]
    entry: Entry


def storage_volume(device: BlockDevice, *, label: str = DEFAULT_LABEL) -> Volume:
    """The volume of a stick that a boot would keep its settings on, or else the only one that could be that.

    Raises `LivebuilderError` when there is none or it cannot be told.
    """
    able = [volume for volume in device.volumes if volume.fs in FILE_SYSTEMS]
    found = [volume for volume in able if volume.label == label] or able
    if len(found) == 1:
        return found[0]
    if found:
        names = " and ".join(volume.path for volume in found)
        raise LivebuilderError(f"{device.path} has more than one that could be meant: {names}", hint="name one of them")
    kinds = ", ".join(volume.fs or "unknown" for volume in device.volumes)
    raise LivebuilderError(
        f"{device.path} has no file system on it that can keep settings{f', only {kinds}' if kinds else ''}",
        hint="livebuilder usb prepare makes one, and erases what is there",
    )


@contextmanager
def read_content(target: Target, volume: Volume) -> Iterator[RootTree]:
    """All that is on the file system; what files hold can be read until the block ends.

    Raises `LivebuilderError`: no file system that can be storage, one that is damaged, no room for the copy, or
    f2fs and btrfs without root.
    """
    with _copied(target, volume) as copy:
        yield copy.read("found")


def change_content(
    target: Target,
    volume: Volume,
    wish: Callable[[RootTree], RootTree],
    *,
    label: str | None = None,
    progress: Progress = no_progress,
) -> tuple[Change, ...]:
    """Make the content be what `wish` makes of the present one (leaving that as it was), and say what was changed.

    With `label` the file system is relabelled too; its UUID and features stay. Raises `LivebuilderError` as
    `read_content()` does, and when the content cannot be had (no room, names that debugfs cannot carry): nothing was
    written then, unless the message says otherwise.
    """
    with _copied(target, volume) as copy:
        current = copy.read("found")
        wanted = wish(current)
        changes = plan_changes(current, wanted)
        if label is not None:
            copy.relabel(label)
        if changes:
            copy.change(changes, wanted)
            if wrong := differences(copy.read("changed"), wanted):
                raise LivebuilderError(
                    f"a copy of {volume.path} was changed and is not as wanted: {'; '.join(wrong[:3])};"
                    f" nothing was written to {volume.path}"
                )
        copy.check()
        if changes or label is not None:
            copy.write_back(progress=progress)
    return changes


# What has to be done: pure.


def plan_changes(current: RootTree, wanted: RootTree) -> tuple[Change, ...]:
    """What turns `current` into `wanted`: removals from the leaves up, then what is made, then folders' own facts.

    Only folders are ever altered: of everything else that differs the old is removed and the new made, with all its
    names. A folder that is to lose an attribute is made anew with all that is in it.
    """
    before, after = facts_of(current), facts_of(wanted)
    gone: set[str] = set()
    for entry in current:
        new = wanted.get(entry.path)
        if entry.kind is Kind.DIRECTORY:
            stays = new is not None and new.kind is Kind.DIRECTORY and set(entry.xattrs) <= set(new.xattrs)
        else:
            stays = before[entry.path] == after.get(entry.path)
        if not stays or entry.parent in gone:
            gone.add(entry.path)
    for names in _names_of_files(current).values():
        if not gone.isdisjoint(names):
            gone |= names
    made = [entry for entry in wanted if entry.path in gone or entry.path not in current]
    touched = {path.rpartition("/")[0] for path in gone} | {entry.parent for entry in made}
    made_paths = {entry.path for entry in made}
    return (
        *(Change("remove", entry) for entry in reversed(list(current)) if entry.path in gone),
        *(Change("make", entry) for entry in made if entry.kind is not Kind.HARDLINK),
        *(Change("make", entry) for entry in made if entry.kind is Kind.HARDLINK),
        *(
            Change("set", entry)
            for entry in wanted
            if entry.kind is Kind.DIRECTORY
            and (
                entry.path in made_paths or entry.path in touched or before.get(entry.path) != after[entry.path]
            )
        ),
    )  # fmt: skip


def differences(found: RootTree, wanted: RootTree) -> list[str]:
    """In words, path by path, where two trees are not the same; empty when they are."""
    left, right = facts_of(found), facts_of(wanted)
    words = []
    for path in sorted(left.keys() | right.keys()):
        if path not in left:
            words.append(f"/{path} is missing")
        elif path not in right:
            words.append(f"/{path} should not be there")
        elif left[path] != right[path]:
            pairs = zip(left[path], right[path], strict=True)
            words.append(f"/{path} differs: {', '.join(f'{a!r} for {b!r}' for a, b in pairs if a != b)}")
    return words


def _names_of_files(tree: RootTree) -> dict[str, set[str]]:
    """The path a file is kept under → all its names, that one included."""
    names: dict[str, set[str]] = {}
    for entry in tree:
        if entry.kind is Kind.HARDLINK:
            names.setdefault(entry.target, {entry.target}).add(entry.path)
    return names


def facts_of(tree: RootTree) -> dict[str, tuple[object, ...]]:
    """Path → all that makes a difference; the same for every name of a file."""
    names = _names_of_files(tree)
    found: dict[str, tuple[object, ...]] = {}
    for path in (entry.path for entry in tree):
        name = tree[path]
        entry = tree[name.target] if name.kind is Kind.HARDLINK else name
        mode = 0o777 if entry.kind is Kind.SYMLINK else entry.mode
        found[path] = (
            entry.kind, oct(mode), entry.uid, entry.gid, entry.mtime, entry.target, entry.device,
            sorted(entry.xattrs.items()), entry.content.size, entry.content.sha256,
            sorted(names.get(entry.path, {entry.path})) if entry.kind is Kind.FILE else [],
        )  # fmt: skip
    return found


# The copy.


@contextmanager
def _copied(target: Target, volume: Volume) -> Iterator[_Copy]:
    if volume.fs not in FILE_SYSTEMS:
        why = f": {REFUSED[volume.fs]}" if volume.fs in REFUSED else ""
        raise LivebuilderError(
            f"{volume.path} has {volume.fs or 'no known file system'} on it, which cannot be storage{why}",
            hint=f"choose one of {', '.join(FILE_SYSTEMS)} with livebuilder usb prepare, which erases the stick",
        )
    if volume.fs not in EXT and os.geteuid() != 0:
        raise LivebuilderError(
            f"the files on {volume.path} cannot be reached: a copy of {volume.fs} has to be mounted,"
            " which only root may",
            hint="run the same command with sudo",
        )
    try:
        with tempfile.TemporaryDirectory(prefix="livebuilder-") as scratch:
            copy = _Copy(target, volume, Path(scratch))
            copy.take()
            yield copy
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _no_room(volume) from error
        raise


def _no_room(volume: Volume) -> LivebuilderError:
    return LivebuilderError(
        f"there is no room in {tempfile.gettempdir()} for a copy of what is on {volume.path}",
        hint=_OTHER_FOLDER,
    )


class _Copy:
    """A copy of one file system in the folder `scratch`, and the place it came from."""

    def __init__(self, target: Target, volume: Volume, scratch: Path) -> None:
        self.volume = volume
        self.scratch = scratch
        self.image = scratch / "copy"
        self._target = target
        self._used_before: list[Range] = []

    def take(self) -> None:
        """Copy it, have its journal replayed and what a crash leaves behind mended: in the copy only."""
        used = self._used(self._read_target)
        self._copy(used)
        if self.volume.fs in EXT:
            # What the journal holds may put blocks into use that the bitmaps on the stick do not show yet.
            if self._needs_recovery():
                run(["e2fsck", "-E", "journal_only", "-p", self.image], check=False)
                used = merged([*used, *self._used(self._read_image)])
                self._copy(used)
            self._mend()
        self._used_before = used

    def _mend(self) -> None:
        """Have e2fsck mend what it can without asking."""
        done = run(["e2fsck", "-f", "-p", self.image], check=False)
        if done.returncode & ~3:  # 1 and 2: mended, e2fsck(8)
            raise DamagedError(
                f"the file system on {self.volume.path} is damaged: {_last_line(done.stdout)}",
                hint=self._cure(),
            )

    def read(self, name: str) -> RootTree:
        """The tree in the copy; what its files hold lies in the folder `name` of the scratch folder."""
        folder = self.scratch / name
        folder.mkdir()
        if self.volume.fs in EXT:
            return _read_ext(self.image, folder, self.volume)
        return _read_mounted(self.image, folder, self.volume)

    def change(self, changes: Sequence[Change], wanted: RootTree) -> None:
        """Do in the copy what was planned."""
        folder = self.scratch / "new"
        folder.mkdir()
        if self.volume.fs in EXT:
            script = debugfs_script(changes, wanted, folder=folder)
            _write_staged(changes, folder)
            _debugfs(self.image, script, writable=True, doing=f"changing a copy of {self.volume.path}")
            self._mend()  # debugfs forgets to free the block of a device's or short symlink's attributes
        else:
            _change_mounted(self.image, folder, changes, wanted, self.volume)

    def relabel(self, label: str) -> None:
        """Give the file system in the copy another label."""
        run(label_command(self.volume.fs, self.image, label))
        found = read_superblock(self.image)
        if found is None or found.label != label:
            raise LivebuilderError(f"a copy of {self.volume.path} could not be labelled {label}; nothing was written")

    def check(self) -> None:
        """Raises `LivebuilderError` when the changed copy is not sound."""
        done = run(check_command(FILE_SYSTEMS[self.volume.fs], self.image).argv, check=False)
        if done.returncode:
            raise LivebuilderError(
                f"a copy of {self.volume.path} was changed and is not sound: {_first_fault(done.stdout)};"
                " nothing was written"
            )

    def write_back(self, *, progress: Progress) -> None:
        """Write what differs to the stick and read it back."""
        used = self._used(self._read_image)
        fresh = subtracted(used, self._used_before)
        new = self._extents(fresh)
        changed = self._extents(subtracted(used, fresh))
        self._target.verify_identity()
        total = sum(extent.length for extent in (*new, *changed))
        self._target.state = "as it was before: only blocks that it did not use were written"
        done = 0
        for extent in new:
            self._target.write(extent.offset, self._bytes_of(extent))
            done += extent.length
            progress(done, total)
        self._target.flush()
        self._target.write_extents(changed, lambda part, _: progress(done + part, total))
        self._target.flush()
        self._target.read_back([*new, *changed])

    def _extents(self, ranges: Sequence[Range]) -> list[Extent]:
        """Where the copy differs from the stick within `ranges`."""
        found = []
        for start, length in pieces(ranges):
            new, old = self._read_image(start, length), self._read_target(start, length)
            for low, high in differing(old, new):
                at = start + low
                offset = self.volume.offset_bytes + at
                found.append(Extent(offset, high - low, FileSlice(self.image, at)))
        return found

    def _bytes_of(self, extent: Extent) -> bytes:
        return self._read_image(extent.offset - self.volume.offset_bytes, extent.length)

    def _read_target(self, offset: int, length: int) -> bytes:
        sector = self._target.device.sector_bytes or 512
        start = self.volume.offset_bytes + offset
        low, high = start // sector * sector, align_up(start + length, sector)
        return self._target.read(low, high - low)[start - low : start - low + length]

    def _read_image(self, offset: int, length: int) -> bytes:
        with self.image.open("rb") as stream:
            stream.seek(offset)
            return stream.read(length)

    def _used(self, read: Reader) -> list[Range]:
        found = None
        if self.volume.fs in EXT:
            try:
                found = used_ranges(read, size_bytes=self.volume.size_bytes, path=self.volume.path)
            except DamagedError as error:
                error.hint = self._cure()
                raise
        return [(0, self.volume.size_bytes)] if found is None else found

    def _cure(self) -> str:
        path, offset = self.volume.path, self.volume.offset_bytes
        within = path == self._target.device.path and offset  # an image file, or a disk without nodes for partitions
        return f"e2fsck -f {shlex.quote(f'{path}?offset={offset}' if within else path)}"

    def _needs_recovery(self) -> bool:
        (incompat,) = struct.unpack("<I", self._read_image(1024 + 0x60, 4))
        return bool(incompat & _RECOVER)

    def _copy(self, ranges: Iterable[Range]) -> None:
        """Have `ranges`, and nothing else, in a sparse file as long as the partition."""
        with self.image.open("wb", buffering=0) as stream:
            stream.truncate(self.volume.size_bytes)
            for offset, length in pieces(ranges):
                piece = self._read_target(offset, length)
                if piece.count(0) != len(piece):
                    os.pwrite(stream.fileno(), piece, offset)


def label_command(fs: str, image: Path, label: str) -> tuple[str, ...]:
    """What gives a file system that is not mounted another label."""
    if fs == "f2fs":
        return ("f2fslabel", os.fspath(image), label)
    if fs == "btrfs":
        return ("btrfs", "filesystem", "label", os.fspath(image), label)
    return ("tune2fs", "-L", label, os.fspath(image))


# Which blocks of an ext file system are in use. All numbers are little endian.

_RECOVER, _META_BG = 0x4, 0x10  # s_feature_incompat
_ENCRYPT = 0x10000
_64BIT = 0x80
_GDT_CSUM, _BIGALLOC, _METADATA_CSUM = 0x10, 0x200, 0x400  # s_feature_ro_compat
_INODE_UNINIT, _BLOCK_UNINIT = 0x1, 0x2  # bg_flags
_BITS = re.compile("1+")


def used_ranges(read: Reader, *, size_bytes: int, path: str) -> list[Range] | None:
    """The bytes that an ext file system of at most `size_bytes` uses, by its bitmaps.

    None for meta_bg and bigalloc, whose bitmaps are laid out otherwise: all of it may be in use. Raises
    `LivebuilderError` when the superblock makes no sense.
    """
    start = read(1024, 1024)
    inodes, blocks = struct.unpack_from("<2I", start)
    (first_block, log_size) = struct.unpack_from("<2I", start, 0x14)
    (per_group, _, inodes_per_group) = struct.unpack_from("<3I", start, 0x20)
    (revision,) = struct.unpack_from("<I", start, 0x4C)
    (inode_bytes,) = struct.unpack_from("<H", start, 0x58) if revision else (128,)
    incompat, ro_compat = struct.unpack_from("<2I", start, 0x60)
    wide = bool(incompat & _64BIT)
    (descriptor_bytes,) = struct.unpack_from("<H", start, 0xFE) if wide else (32,)
    if wide:
        blocks |= struct.unpack_from("<I", start, 0x150)[0] << 32
    block = KIB << min(log_size, 7)
    sound = (
        log_size <= 6 and 0 < per_group <= 8 * block and 0 < inodes_per_group <= 8 * block and first_block <= 1
        and first_block < blocks <= size_bytes // block and inode_bytes in (128 << n for n in range(10))
        and descriptor_bytes in (32 << n for n in range(6)) and inodes
    )  # fmt: skip
    if not sound:
        raise DamagedError(
            f"the superblock of {path} makes no sense: the file system is damaged or larger than its partition"
        )
    if incompat & _ENCRYPT:
        raise LivebuilderError(f"{path} has encrypted folders on it, which cannot be read here")
    if incompat & _META_BG or ro_compat & _BIGALLOC:
        return None
    lazy = bool(ro_compat & (_GDT_CSUM | _METADATA_CSUM))  # else bg_flags means nothing
    groups = -(-(blocks - first_block) // per_group)
    table_blocks = -(-groups * descriptor_bytes // block)
    inode_blocks = -(-inodes_per_group * inode_bytes // block)
    descriptors = read((first_block + 1) * block, table_blocks * block)
    found: list[Range] = [(0, first_block + 1 + table_blocks)]
    for group in range(groups):
        at = group * descriptor_bytes
        block_bitmap, inode_bitmap, inode_table = struct.unpack_from("<3I", descriptors, at)
        (flags,) = struct.unpack_from("<H", descriptors, at + 0x12)
        if wide and descriptor_bytes >= 64:
            high = struct.unpack_from("<3I", descriptors, at + 0x20)
            block_bitmap, inode_bitmap, inode_table = (
                low | up << 32 for low, up in zip((block_bitmap, inode_bitmap, inode_table), high, strict=True)
            )
        if max(block_bitmap + 1, inode_bitmap + 1, inode_table + inode_blocks) > blocks:
            raise DamagedError(f"the group descriptors of {path} are damaged")
        found += [(block_bitmap, block_bitmap + 1), (inode_bitmap, inode_bitmap + 1)]
        if not (lazy and flags & _INODE_UNINIT):
            found.append((inode_table, inode_table + inode_blocks))
        first = first_block + group * per_group
        if lazy and flags & _BLOCK_UNINIT:
            found.append((first, min(blocks, first + 1 + table_blocks)))  # where a backup may be
            continue
        count = min(per_group, blocks - first)
        bitmap = int.from_bytes(read(block_bitmap * block, block), "little")
        text = f"{bitmap & ((1 << count) - 1):0{count}b}"[::-1]
        found += [(first + match.start(), first + match.end()) for match in _BITS.finditer(text)]
    return merged((low * block, min(high, blocks) * block) for low, high in found)


# debugfs: its commands, and what it prints. debugfs(8); quoting is that of libss (e2fsprogs lib/ss/parse.c).

_XATTRS = ("user.", "trusted.", "security.", "system.posix_acl_access", "system.posix_acl_default")
_NOT_OURS = HOST_XATTRS | {"system.data"}  # the latter is the rest of a file that lies within its inode
_LINE_BYTES = 8000  # debugfs reads lines of a script into a buffer of BUFSIZ = 8,192 bytes, and cuts them at CR
_TYPE = {
    Kind.DIRECTORY: stat.S_IFDIR, Kind.FILE: stat.S_IFREG, Kind.SYMLINK: stat.S_IFLNK,
    Kind.CHAR: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK, Kind.FIFO: stat.S_IFIFO,
}  # fmt: skip
_KIND = {number: kind for kind, number in _TYPE.items()}
# `/inode/mode/uid/gid/name/size/` of `ls -p`: a name has no `/` in it, but it may have line ends.
_LISTED = re.compile(rb"/(\d+)/(\d{6})/-?\d+/-?\d+/([^/]*)/\d*/\n")
_DUMPED = re.compile(rb"([0-7]{4,})  ((?:[0-9a-f]{4} ){8})")
_ATTRIBUTE = re.compile(rb"  (.+?) \(\d+\)(?: = .*)?")


def debugfs_script(changes: Sequence[Change], wanted: RootTree, *, folder: Path) -> list[bytes]:
    """The commands that carry out `changes`; what they put into files lies in `folder` as `_write_staged()` names it.

    Raises `LivebuilderError`, naming the path, for what debugfs cannot carry.
    """
    lines: list[bytes] = []
    names = _names_of_files(wanted)
    here = None
    for number, change in enumerate(changes):
        entry = change.entry
        whole, name = _quoted("/" + entry.path), _quoted(entry.name)
        if change.action == "remove":
            lines.append((b"rmdir " if entry.kind is Kind.DIRECTORY else b"rm ") + whole)
            continue
        _verify_carried(entry, whole)
        if entry.parent != here:  # older releases of debugfs take a path for a name in some commands
            here = entry.parent
            lines.append(b"cd " + _quoted("/" + here))
        if change.action == "make":
            lines += _making(entry, name, data=_staged(folder, number), names=len(names.get(entry.path, {entry.path})))
        if change.action == "set" or entry.kind not in (Kind.DIRECTORY, Kind.HARDLINK):
            lines += _setting(entry, _existing(entry.name), folder=folder, number=number)
    for line in lines:
        if len(line) > _LINE_BYTES and not line.startswith(b"rm"):
            raise LivebuilderError(f"a path is too long for debugfs: {os.fsdecode(line[:60])}…")
    return lines


def _quoted(text: str) -> bytes:
    return b'"' + os.fsencode(text).replace(b'"', b'""') + b'"'


def _existing(name: str) -> bytes:
    """A name in the present folder such that it is taken neither for an option nor for the number of an inode."""
    return _quoted(f"./{name}")


def _staged(folder: Path, number: int, attribute: str = "") -> Path:
    """Where the bytes lie that change `number` puts into its file or into an attribute."""
    return folder / (f"{number}-{os.fsencode(attribute).hex()}" if attribute else str(number))


def _verify_carried(entry: Entry, whole: bytes) -> None:
    for text in (os.fsdecode(whole), entry.target, *entry.xattrs):
        if "\n" in text or "\r" in text:
            raise LivebuilderError(
                f"/{entry.path!r} has a line end in a name, which debugfs cannot carry; nothing was changed",
                hint="use a stick with btrfs on it, or leave that file out",
            )
    for attribute in entry.xattrs:
        if not attribute.startswith(_XATTRS):
            raise LivebuilderError(
                f"/{entry.path} has the extended attribute {attribute}, which ext4 cannot hold; nothing was changed"
            )


def _making(entry: Entry, name: bytes, *, data: Path, names: int) -> list[bytes]:
    if entry.kind is Kind.DIRECTORY:
        return [b"mkdir " + name]
    if entry.kind is Kind.FILE:
        count = [b"sif %b links_count %d" % (_existing(entry.name), names)] if names > 1 else []
        return [b"write %b %b" % (_quoted(os.fspath(data)), name), *count]
    if entry.kind is Kind.SYMLINK:
        return [b"symlink %b %b" % (name, _quoted(entry.target))]
    if entry.kind is Kind.HARDLINK:
        # `ln` does not make a full folder larger, `mknod` does: its entry makes room for the link's.
        return [b"mknod %b p" % name, b"rm " + _existing(entry.name), b"ln %b %b" % (_quoted("/" + entry.target), name)]
    if entry.kind is Kind.FIFO:
        return [b"mknod %b p" % name]
    # mknod itself knows small numbers only: the two blocks hold them as the kernel's ext4_new_encode_dev writes them.
    major, minor = entry.device
    small = major < 256 and minor < 256
    old = major << 8 | minor if small else 0
    new = 0 if small else (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12
    return [
        b"mknod %b %b 0 0" % (name, b"c" if entry.kind is Kind.CHAR else b"b"),
        b"sif %b block[0] %d" % (_existing(entry.name), old),
        b"sif %b block[1] %d" % (_existing(entry.name), new),
    ]


def _setting(entry: Entry, name: bytes, *, folder: Path, number: int) -> list[bytes]:
    mode = 0o777 if entry.kind is Kind.SYMLINK else entry.mode
    return [
        b"sif %b mode 0%o" % (name, _TYPE[entry.kind] | mode),
        b"sif %b uid %d" % (name, entry.uid),
        b"sif %b gid %d" % (name, entry.gid),
        *(
            b"ea_set -f %b %b %b" % (_quoted(os.fspath(_staged(folder, number, key))), name, _quoted(key))
            for key in sorted(entry.xattrs)
        ),
        b"sif %b mtime @%d" % (name, entry.mtime),
    ]


def _write_staged(changes: Sequence[Change], folder: Path) -> None:
    for number, change in enumerate(changes):
        entry = change.entry
        if change.action == "remove":
            continue
        if entry.kind is Kind.FILE:
            with _staged(folder, number).open("wb") as stream:
                for piece in entry.content.pieces():
                    if piece.count(0) == len(piece):
                        stream.seek(len(piece), os.SEEK_CUR)  # a hole here is a hole there
                    else:
                        stream.write(piece)
                stream.truncate(entry.content.size)
        for key, value in entry.xattrs.items():
            _staged(folder, number, key).write_bytes(value)


def _debugfs(image: Path, lines: Sequence[bytes], *, doing: str, writable: bool = False) -> list[bytes]:
    """Have debugfs carry out `lines`; what each of them printed. It ends with 0 whatever happened: stderr tells."""
    argv = ["debugfs", *(["-w"] if writable else [])]
    printed: list[bytes] = []
    script: list[bytes] = []
    for line in [*lines, b""]:
        one_by_one = b"\n" in line or b"\r" in line or len(line) > _LINE_BYTES
        if (one_by_one or not line) and script:
            done = run([*argv, "-f", "-", image], input_bytes=b"\n".join(script) + b"\n", check=False)
            _verify_debugfs(done.stderr, done.returncode, doing)
            printed += _printed(done.stdout_bytes, script, doing)
            script = []
        if one_by_one:
            done = run([*argv, "-R", os.fsdecode(line), image], check=False)
            _verify_debugfs(done.stderr, done.returncode, doing)
            printed.append(done.stdout_bytes)
        elif line:
            script.append(line)
    return printed


def _verify_debugfs(stderr: str, status: int, doing: str) -> None:
    said = [line for line in stderr.splitlines() if line.strip() and not line.startswith("debugfs ")]
    if said or status:
        full = any("ould not allocate" in line or "No space" in line for line in said)
        raise LivebuilderError(
            f"{doing} failed: " + ("it is full" if full else f"debugfs said {said[0] if said else status!r}")
            + "; nothing was written"
        )  # fmt: skip


def _printed(text: bytes, lines: Sequence[bytes], doing: str) -> list[bytes]:
    """What came after the echo of each line."""
    starts = []
    at = 0
    for line in lines:
        echo = b"debugfs: " + line + b"\n"
        found = text.find(echo, at)
        if found < 0:
            raise LivebuilderError(f"{doing} failed: debugfs did not get as far as {os.fsdecode(line)[:80]!r}")
        starts.append((found, found + len(echo)))
        at = found + len(echo)
    ends = [start for start, _ in starts[1:]] + [len(text)]
    return [text[begin:end] for (_, begin), end in zip(starts, ends, strict=True)]


@dataclass(frozen=True)
class Inode:
    """What the inode of an ext file system says (kernel: Documentation/filesystems/ext4/inodes.rst)."""

    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    blocks: bytes

    @property
    def device(self) -> tuple[int, int]:
        """The (major, minor) of a device node."""
        old, new = struct.unpack_from("<2I", self.blocks)
        if old:
            return old >> 8 & 0xFF, old & 0xFF
        return new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00


def parse_inode(raw: bytes) -> Inode:
    """The inode in its 128 bytes or more.

    ::

        0 mode  2 uid  4 size  16 mtime  24 gid  40 i_block, 60 bytes  108 size, high
        120 uid, high  122 gid, high  128 i_extra_isize  136 mtime: 2 bits of epoch, 30 of nanoseconds
    """
    mode, uid, size = struct.unpack_from("<HHI", raw)
    (mtime,) = struct.unpack_from("<i", raw, 16)
    (gid,) = struct.unpack_from("<H", raw, 24)
    (size_high,) = struct.unpack_from("<I", raw, 108)
    uid_high, gid_high = struct.unpack_from("<2H", raw, 120)
    if len(raw) >= 140 and struct.unpack_from("<H", raw, 128)[0] >= 12:
        mtime += (struct.unpack_from("<I", raw, 136)[0] & 3) << 32
    return Inode(mode, uid | uid_high << 16, gid | gid_high << 16, size | size_high << 32, mtime, raw[40:100])


def parse_dump(text: bytes) -> bytes:
    """The bytes of `inode_dump`: octal offsets, sixteen bytes to a line, `*` for lines like the one before."""
    raw = bytearray()
    repeated = False
    for line in text.splitlines():
        if line == b"*":
            repeated = True
        elif match := _DUMPED.match(line):
            while repeated and len(raw) < int(match[1], 8):
                raw += raw[-16:]
            repeated = False
            raw += bytes.fromhex(match[2].decode())
    if repeated:  # to the end, which is not said: inodes are powers of two
        size = max(128, 1 << len(raw).bit_length())
        raw += raw[-16:] * ((size - len(raw)) // 16)
    return bytes(raw)


def parse_listing(text: bytes) -> list[tuple[str, int, int]]:
    """(name, inode, mode with its type) of what `ls -p` lists, without `.` and `..`; `ValueError` for anything else."""
    at, found = 0, []
    while match := _LISTED.match(text, at):
        at = match.end()
        if match[3] not in (b".", b"..") and match[1] != b"0":  # an entry without an inode is room for one
            found.append((os.fsdecode(match[3]), int(match[1]), int(match[2], 8)))
    if text[at:].strip():
        raise ValueError(f"no line of a listing: {text[at : at + 80]!r}")
    return found


def parse_attributes(text: bytes) -> list[str]:
    """The names of the extended attributes that `ea_list` lists; `ValueError` for anything else."""
    lines = text.strip(b"\n").split(b"\n") if text.strip() else []
    found = []
    for line in lines[1:] if lines[:1] == [b"Extended attributes:"] else lines:
        match = _ATTRIBUTE.fullmatch(line)
        if match is None:
            raise ValueError(f"no line of a list of attributes: {line[:80]!r}")
        found.append(os.fsdecode(match[1]))
    return found


def _read_ext(image: Path, folder: Path, volume: Volume) -> RootTree:
    doing = f"reading {volume.path}"
    try:
        paths = _paths(image, doing)
        numbers = sorted({number for _, number in paths})
        dumps = _debugfs(image, [b"inode_dump <%d>" % number for number in numbers], doing=doing)
        inodes = {number: parse_inode(parse_dump(dump)) for number, dump in zip(numbers, dumps, strict=True)}
        lists = _debugfs(image, [b"ea_list <%d>" % number for number in numbers], doing=doing)
        attributes = {
            number: [name for name in parse_attributes(text) if name not in _NOT_OURS]
            for number, text in zip(numbers, lists, strict=True)
        }
    except (ValueError, struct.error) as error:
        raise LivebuilderError(f"{doing} failed: debugfs printed what is not understood ({error})") from error
    size = sum(inode.size for inode in inodes.values() if stat.S_ISREG(inode.mode))
    verify_room(Path(tempfile.gettempdir()), size, what=f"what is on {volume.path}", hint=_OTHER_FOLDER)
    commands = []
    for number, inode in inodes.items():
        if stat.S_ISREG(inode.mode) or (stat.S_ISLNK(inode.mode) and inode.size >= len(inode.blocks)):
            commands.append(b"dump <%d> %b" % (number, _quoted(os.fspath(_staged(folder, number)))))
        for name in attributes[number]:
            file = _quoted(os.fspath(_staged(folder, number, name)))
            commands.append(b"ea_get -f %b <%d> %b" % (file, number, _quoted(name)))
    _debugfs(image, commands, doing=doing)
    tree = RootTree()
    seen: dict[int, str] = {}
    for path, number in sorted(paths, key=lambda pair: pair[0].replace("/", "\0")):
        entry = _entry(path, number, inodes[number], attributes[number], folder, volume)
        if entry.kind is Kind.FILE and seen.setdefault(number, path) != path:
            entry = replace(entry, kind=Kind.HARDLINK, target=seen[number], content=Content.from_bytes(b""))
        tree.add(entry)
    return tree


def _paths(image: Path, doing: str) -> list[tuple[str, int]]:
    """All paths and their inodes, folder by folder."""
    found = []
    folders = [("", 2)]
    known = {2}
    while folders:
        listings = _debugfs(image, [b"ls -p <%d>" % number for _, number in folders], doing=doing)
        below = []
        for (parent, _), listing in zip(folders, listings, strict=True):
            for name, number, mode in parse_listing(listing):
                path = f"{parent}/{name}" if parent else name
                if path == LOST_AND_FOUND or stat.S_IFMT(mode) not in _KIND:
                    continue
                found.append((path, number))
                if stat.S_ISDIR(mode):
                    if number in known:
                        raise LivebuilderError(f"{doing} failed: the folder /{path} is found in two places")
                    known.add(number)
                    below.append((path, number))
        folders = below
    return found


def _entry(path: str, number: int, inode: Inode, attributes: list[str], folder: Path, volume: Volume) -> Entry:
    kind = _KIND[stat.S_IFMT(inode.mode)]
    content, target = Content.from_bytes(b""), ""
    dumped = _staged(folder, number)
    if kind is Kind.FILE:
        size = dumped.stat().st_size
        if size < inode.size:  # of a file within its inode debugfs gives all of the inode's room
            raise LivebuilderError(f"reading /{path} of {volume.path} gave {size} bytes, not {inode.size}")
        content = Content.from_file(dumped, size=inode.size)
    elif kind is Kind.SYMLINK:
        target = os.fsdecode(inode.blocks[: inode.size] if inode.size < len(inode.blocks) else dumped.read_bytes())
    xattrs = {name: _staged(folder, number, name).read_bytes() for name in attributes}
    return Entry(
        path, kind, stat.S_IMODE(inode.mode), inode.uid, inode.gid, inode.mtime, content, target,
        inode.device if kind in (Kind.CHAR, Kind.BLOCK) else (0, 0), xattrs, volume.path,
    )  # fmt: skip


def _first_fault(text: str) -> str:
    """What a checker found, without the names of its passes."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Pass ")]
    return (lines or ["the checker does not say where"])[0]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["e2fsck does not say where"])[-1].strip()


# f2fs and btrfs: the copy is mounted where nobody else sees it.

_MOUNT = 'mount -t "$1" -o "loop,$2" "$3" "$4" || exit 1; cd "$4" || exit 1'
# GNU tar; the empty lost+found makes an archive of an empty file system one that is not empty.
_PACK = (
    f"{_MOUNT}; tar --create --format=posix --sort=name --numeric-owner --xattrs '--xattrs-include=*'"
    f' --file="$5" -C "$6" {LOST_AND_FOUND} -C "$4" --exclude=./{LOST_AND_FOUND} .'
)
_UNPACK = (
    f'{_MOUNT}; xargs -0r rm -rf -- <"$5" && tar --extract --same-owner --same-permissions --numeric-owner --xattrs'
    ' \'--xattrs-include=*\' --file="$6" && cd / && umount "$4"'
)


def _mounted(script: str, image: Path, volume: Volume, *, options: str, files: Sequence[Path]) -> None:
    mountpoint = image.parent / "mounted"
    mountpoint.mkdir(exist_ok=True)
    argv: list[str | Path] = [
        "unshare", "--mount", "--propagation", "private",
        "sh", "-c", script, "sh", volume.fs, options, image, mountpoint, *files,
    ]  # fmt: skip
    try:
        run(argv)
    except CommandError as error:
        raise LivebuilderError(
            f"a copy of {volume.path} cannot be mounted or used: {error.stderr.strip() or error.message}",
            hint=f"modprobe {volume.fs}; modprobe loop   # as root; a container may allow neither",
        ) from error


def _read_mounted(image: Path, folder: Path, volume: Volume) -> RootTree:
    marker = folder / "marker"
    (marker / LOST_AND_FOUND).mkdir(parents=True)
    packed = folder / "content.tar"
    _mounted(_PACK, image, volume, options="ro", files=[packed, marker])
    tree = root_tree_from_archive(packed, cache=Cache(folder / "cache"))
    tree.remove(LOST_AND_FOUND)
    return RootTree(replace(entry, source=volume.path) for entry in tree)


def _change_mounted(image: Path, folder: Path, changes: Sequence[Change], wanted: RootTree, volume: Volume) -> None:
    removed, packed = folder / "removed", folder / "new.tar"
    removed.write_bytes(
        b"".join(b"./" + os.fsencode(change.entry.path) + b"\0" for change in changes if change.action == "remove")
    )
    # A folder comes once, with its own facts: tar gives it these when all that is in it is there.
    given = {change.entry.path for change in changes if change.action != "remove"}
    with packed.open("wb") as stream:
        write_tar(wanted, stream, only=given)
    _mounted(_UNPACK, image, volume, options="rw", files=[removed, packed])


# tar: pax as GNU tar, bsdtar and star write it (tar(5), POSIX.1-2001 pax).

_TAR_TYPE = {
    Kind.DIRECTORY: tarfile.DIRTYPE, Kind.FILE: tarfile.REGTYPE, Kind.SYMLINK: tarfile.SYMTYPE,
    Kind.CHAR: tarfile.CHRTYPE, Kind.BLOCK: tarfile.BLKTYPE,
    Kind.FIFO: tarfile.FIFOTYPE,
}  # fmt: skip


def write_tar(
    tree: RootTree,
    stream: BinaryIO,
    *,
    only: Collection[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """A pax archive of `tree`, or of the paths `only`: numeric owners, extended attributes as SCHILY.xattr.

    Of a file with several names the first that is written has the content. `progress` is told how many bytes of
    content were written since it was told last.
    """
    first: dict[str, str] = {}
    with tarfile.open(
        fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as tar:
        for name in tree:
            if only is not None and name.path not in only:
                continue
            entry = tree[name.target] if name.kind is Kind.HARDLINK else name
            member = _member(entry, name.path)
            if entry.kind is Kind.FILE:
                if first.setdefault(entry.path, name.path) != name.path:
                    member.type, member.size, member.linkname = tarfile.LNKTYPE, 0, first[entry.path]
                    member.pax_headers = {}
                    tar.addfile(member)
                    continue
                tar.addfile(member, _ContentStream(entry.content))
                if progress:
                    progress(member.size)
            else:
                tar.addfile(member)


def _member(entry: Entry, path: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type = _TAR_TYPE[entry.kind]
    member.mode, member.uid, member.gid, member.mtime = entry.mode, entry.uid, entry.gid, entry.mtime
    member.devmajor, member.devminor = entry.device
    member.size, member.linkname = entry.content.size, entry.target
    if bad := [name for name in entry.xattrs if "=" in name]:
        raise LivebuilderError(f"/{entry.path} has an attribute {bad[0]!r}, which a tar archive cannot carry")
    member.pax_headers = {
        f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape") for name, value in entry.xattrs.items()
    }
    return member


class _ContentStream:
    """What tarfile reads a file's bytes from."""

    def __init__(self, content: Content) -> None:
        self._pieces = content.pieces()
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        while len(self._rest) < size and (piece := next(self._pieces, b"")):
            self._rest += piece
        given, self._rest = self._rest[:size], self._rest[size:]
        return given
