"""A copy of a stick's file system in a scratch folder: all reading and changing happens there.

Its journal is replayed in the copy, it is checked, changed, checked again. Only then the blocks that differ go to the
stick: first those that the file system on the stick does not use yet, then the rest, so that an interruption before
that second part leaves the stick as it was. Of ext2, ext3 and ext4 the blocks in use are copied, of others all.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from livebuilder.console import Progress
from livebuilder.errors import LivebuilderError
from livebuilder.process import run
from livebuilder.sizes import align_up
from livebuilder.staging import SCRATCH_HINT
from livebuilder.tree import RootTree
from livebuilder.usb import debugfs, mounted
from livebuilder.usb.bitmaps import Reader, needs_recovery, used_ranges
from livebuilder.usb.blockdevice import Volume
from livebuilder.usb.changes import Change
from livebuilder.usb.extents import Extent, FileSlice
from livebuilder.usb.filesystem import EXT, FILE_SYSTEMS, REFUSED, DamagedError, check_command, label_command
from livebuilder.usb.ranges import Range, differing, merged, pieces, subtracted
from livebuilder.usb.superblock import read_superblock
from livebuilder.usb.target import Target

_MARKED = re.compile(r"\[Fail\]|\[ASSERT\]|^ERROR: ")  # how fsck.f2fs and btrfs tell a fault from what is fine


@contextmanager
def copied(target: Target, volume: Volume) -> Iterator[WorkingCopy]:
    """A copy of the file system on `volume`, its journal replayed, until the block ends.

    Raises `LivebuilderError`: no file system that can be storage, one that is damaged, no room for the copy, or
    f2fs and btrfs without root.
    """
    if volume.fs not in FILE_SYSTEMS:
        why = f": {REFUSED[volume.fs]}" if volume.fs in REFUSED else ""
        raise LivebuilderError(
            f"{volume.path} has {volume.fs or 'no known file system'} on it, which cannot be storage{why}",
            hint=f"choose one of {', '.join(FILE_SYSTEMS)} with livebuilder usb prepare, which erases the stick",
        )
    try:
        with tempfile.TemporaryDirectory(prefix="livebuilder-") as scratch:
            if volume.fs not in EXT:
                mounted.verify_mountable(Path(scratch), fs=volume.fs, source=volume.path)
            copy = WorkingCopy(target, volume, Path(scratch))
            copy.take()
            yield copy
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _no_room(volume) from error
        raise


def _no_room(volume: Volume) -> LivebuilderError:
    return LivebuilderError(
        f"there is no room in {tempfile.gettempdir()} for a copy of what is on {volume.path}",
        hint=SCRATCH_HINT,
    )


class WorkingCopy:
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
            if needs_recovery(self._read_image):
                run(["e2fsck", "-E", "journal_only", "-p", self.image], check=False)
                used = merged([*used, *self._used(self._read_image)])
                self._copy(used)
            self._mend()
        elif fault := self._fault():
            raise DamagedError(f"the file system on {self.volume.path} is damaged: {fault}", hint=self._cure())
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
            return debugfs.read_tree(self.image, folder, source=self.volume.path)
        return mounted.read_tree(self.image, folder, fs=self.volume.fs, source=self.volume.path)

    def change(self, changes: Sequence[Change], wanted: RootTree) -> None:
        """Do in the copy what was planned."""
        folder = self.scratch / "new"
        folder.mkdir()
        if self.volume.fs in EXT:
            debugfs.change_tree(self.image, folder, changes, wanted, source=self.volume.path)
            self._mend()
        else:
            mounted.change_tree(self.image, folder, changes, wanted, fs=self.volume.fs, source=self.volume.path)

    def relabel(self, label: str) -> None:
        """Give the file system in the copy another label."""
        run(label_command(FILE_SYSTEMS[self.volume.fs], self.image, label).argv)
        found = read_superblock(self.image)
        if found is None or found.label != label:
            raise LivebuilderError(f"a copy of {self.volume.path} could not be labelled {label}; nothing was written")

    def check(self) -> None:
        """Raises `LivebuilderError` when the changed copy is not sound."""
        if fault := self._fault():
            raise LivebuilderError(
                f"a copy of {self.volume.path} was changed and is not sound: {fault}; nothing was written"
            )

    def _fault(self) -> str:
        """What its checker finds wrong with the copy, or ""."""
        done = run(check_command(FILE_SYSTEMS[self.volume.fs], self.image).argv, check=False)
        return _first_fault(done.stdout + done.stderr) if done.returncode else ""

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
        if self.volume.fs in EXT:
            return f"e2fsck -f {shlex.quote(f'{path}?offset={offset}' if within else path)}"
        where = shlex.quote(path)
        if within:
            where = f"$(losetup --find --show --offset {offset} --sizelimit {self.volume.size_bytes} {where})"
        return f"fsck.f2fs {where}" if self.volume.fs == "f2fs" else f"btrfs check {where}   # tells more"

    def _copy(self, ranges: Iterable[Range]) -> None:
        """Have `ranges`, and nothing else, in a sparse file as long as the partition."""
        with self.image.open("wb", buffering=0) as stream:
            stream.truncate(self.volume.size_bytes)
            for offset, length in pieces(ranges):
                piece = self._read_target(offset, length)
                if piece.count(0) != len(piece):
                    os.pwrite(stream.fileno(), piece, offset)


def _first_fault(text: str) -> str:
    """What a checker found, without the names of its passes and what it says of itself."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip() and not line.startswith("Pass ")]
    marked = [line for line in lines if _MARKED.search(line)]
    return (marked or lines or ["the checker does not say where"])[0]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["e2fsck does not say where"])[-1].strip()
