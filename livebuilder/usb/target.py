"""The one open descriptor through which a stick, or an image file, is changed and read back.

    with open_target(device, writable=True) as target:
        target.verify_identity()
        target.write_extents(extents, progress)
        target.flush()
        target.reread_table()
        target.read_back(extents, progress)

A name such as /dev/sdb may belong to another disk a moment later, a descriptor cannot: it is opened once, nobody else
may have the disk meanwhile (O_EXCL: open(2); flock: systemd's "Locking Block Device Access"), and what other
programs do, they do through `path_for_tools()`. A disk is read and written past the page cache (O_DIRECT), so an error
is met where it happens and what is read back comes from the disk.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from loguru import logger

from livebuilder.console import Progress, no_progress
from livebuilder.errors import LivebuilderError
from livebuilder.process import find_tool, run
from livebuilder.usb.blockdevice import BlockDevice, rights_hint
from livebuilder.usb.devices import describe, device_by_number
from livebuilder.usb.extents import PIECE_BYTES, Extent, aligned, read_pieces

UNTOUCHED = "untouched"
UNVERIFIED = "written, but not verified"
VERIFIED = "written and verified"

_BLKRRPART = 0x125F  # include/uapi/linux/fs.h
_LOCK_SECONDS = 10.0  # udev looks at a new disk for a moment
_BUSY_SECONDS = 10.0
_SETTLE_SECONDS = 30
_WRITE_PROTECTED = (errno.EROFS, errno.EPERM)
_GONE = (errno.ENODEV, errno.ENXIO, errno.ENOMEDIUM)


class Target:
    """An open stick or image file; made by `open_target()`. Methods raise `LivebuilderError`.

    `state` ends the sentence "/dev/sdb is …" that the user is told when what is done to it does not come to its end;
    whoever changes it by other means than `write_extents()` sets it before and after.
    """

    def __init__(self, device: BlockDevice, descriptor: int, *, redo: str) -> None:
        self.device = device
        self.fd = descriptor
        self.state = UNTOUCHED
        self._redo = redo
        facts = os.fstat(descriptor)
        self._number = facts.st_rdev if stat.S_ISBLK(facts.st_mode) else None

    @property
    def path(self) -> str:
        """Its name, for messages; it is never opened again."""
        return str(self.device.path)

    @property
    def is_disk(self) -> bool:
        """Whether it is a block device and no image file."""
        return self._number is not None

    @property
    def size_bytes(self) -> int:
        """Its length, as the descriptor has it now."""
        with self._explained("measuring"):
            return os.lseek(self.fd, 0, os.SEEK_END)

    def path_for_tools(self, offset: int = 0) -> str:
        """What programs open to get at this very disk; run them with `pass_fds=(target.fd,)`.

        With `offset` (in bytes, of a file system) it is a name that only e2fsprogs understand.
        """
        name = f"/proc/self/fd/{self.fd}"
        return f"{name}?offset={offset}" if offset else name

    def verify_identity(self) -> None:
        """Raises when the disk behind the descriptor is not, or not any more, the one that was planned for."""
        try:
            now = describe(Path(self.path)) if self._number is None else device_by_number(_number(self._number))
            changes = identity_changes(self.device, now)
        except LivebuilderError as error:
            changes = [error.message]
        if self.size_bytes != self.device.size_bytes:
            changes.append(f"the size is {self.size_bytes} bytes, not {self.device.size_bytes}")
        if not self._is_still_named():
            changes.append("the name belongs to another now")
        if changes:
            raise LivebuilderError(
                f"{self.path} is not what it was a moment ago, so nothing was written: {'; '.join(changes)}",
                hint="livebuilder usb list   # then plan again",
            )

    def read(self, offset: int, length: int) -> bytes:
        """The bytes there, from the disk itself; `offset` and `length` are whole sectors."""
        self._check_place(offset, length)
        with mmap.mmap(-1, length) as buffer, memoryview(buffer) as view, self._explained("reading", at=offset):
            self._read_into(view, offset)
            return bytes(view)

    def write(self, offset: int, data: bytes) -> None:
        """Write whole sectors; `state` is the caller's to set."""
        self._check_place(offset, len(data))
        with mmap.mmap(-1, len(data)) as buffer, memoryview(buffer) as view, self._explained("writing", at=offset):
            view[:] = data
            self._write_from(view, offset)

    def write_extents(self, extents: Sequence[Extent], progress: Progress = no_progress) -> None:
        """Write all of `extents`; they are whole sectors. `progress` is told bytes."""
        for extent in extents:
            self._check_place(extent.offset, extent.length)
        self.state = f"half written: {self._redo}"
        for piece, wanted in read_pieces(extents, aligned(PIECE_BYTES), progress):
            with self._explained("writing", at=piece.offset):
                self._write_from(wanted, piece.offset)
                self._forget_before(piece.end)

    def flush(self) -> None:
        """Have all that was written on the disk, and out of the disk's own memory."""
        with self._explained("flushing"):
            os.fsync(self.fd)
        if self.state.startswith("half written"):
            self.state = UNVERIFIED

    def reread_table(self) -> None:
        """Have the kernel look for partitions again and wait until udev knows them; nothing to do for an image file.

        The lock is given back for it, as udev waits for that. Nothing is written from here on.
        """
        if not self.is_disk:
            return
        with suppress(OSError):
            fcntl.flock(self.fd, fcntl.LOCK_UN)
        problem = _until(lambda: _reread(self.fd), seconds=_BUSY_SECONDS, while_errno=errno.EBUSY)
        if problem == errno.EINVAL:
            logger.debug("the kernel looks for no partitions on {}", self.path)
        elif problem:
            self._raise_if_gone("reading the new partition table")
            logger.warning(
                "Linux did not take note of the new partitions of {} ({}): unplug it and plug it in again",
                self.path, os.strerror(problem),
            )  # fmt: skip
        settle()

    def read_back(self, extents: Sequence[Extent], progress: Progress = no_progress) -> None:
        """Read all of `extents` from the disk itself and compare; raises at the first difference."""
        with self._explained("flushing"):
            os.fsync(self.fd)
            self._forget_before(self.size_bytes)
        memory = aligned(PIECE_BYTES)
        for piece, wanted in read_pieces(extents, memoryview(bytearray(PIECE_BYTES)), progress):
            found = memory[: piece.length]
            with self._explained("reading back", at=piece.offset):
                self._read_into(found, piece.offset)
                self._forget_before(piece.offset)
            if not _same(wanted, found):
                self._tell_difference(piece.offset, wanted=wanted, found=found)
        self.state = VERIFIED

    def _tell_difference(self, offset: int, *, wanted: memoryview, found: memoryview) -> None:
        first = next(place for place, pair in enumerate(zip(wanted, found, strict=True)) if pair[0] != pair[1])
        self.state = f"not as it was written: {self._redo}, or take another one"
        raise LivebuilderError(
            f"what was written to {self.path} is not what is read from it, at byte {offset + first}:"
            " it loses or changes data",
            hint="try another socket without a hub between; if that does not help, do not trust this stick",
        )

    def _check_place(self, offset: int, length: int) -> None:
        sector = self.device.sector_bytes or 1
        if offset < 0 or length <= 0 or offset + length > self.device.size_bytes:
            raise ValueError(f"{length} bytes at {offset} are not within {self.path}")
        if self.is_disk and (offset % sector or length % sector):
            raise ValueError(f"{length} bytes at {offset} are no whole sectors of {sector} bytes")

    def _write_from(self, view: memoryview, offset: int) -> None:
        done = 0
        while done < len(view):
            done += os.pwrite(self.fd, view[done:], offset + done)

    def _read_into(self, view: memoryview, offset: int) -> None:
        done = 0
        while done < len(view):
            count = os.preadv(self.fd, [view[done:]], offset + done)
            if count == 0:
                raise OSError(errno.EIO, "it ends before that")
            done += count

    def _forget_before(self, end: int) -> None:
        """Have what an image file's cache holds before `end` written, and its memory used again (mm/fadvise.c).

        What follows would get other memory, which in a virtual machine may have to be had from its host first.
        """
        if end and not self.is_disk:
            os.posix_fadvise(self.fd, 0, end, os.POSIX_FADV_DONTNEED)

    def _is_still_named(self) -> bool:
        ours = os.fstat(self.fd)
        try:
            named = Path(self.path).stat()
        except OSError:
            return False
        if self.is_disk:
            return stat.S_ISBLK(named.st_mode) and named.st_rdev == ours.st_rdev
        return os.path.samestat(named, ours)

    @contextmanager
    def _explained(self, doing: str, *, at: int | None = None) -> Iterator[None]:
        place = "" if at is None else f" at byte {at}"
        try:
            yield
        except OSError as error:
            self._raise_if_gone(doing, number=error.errno)
            hint = None
            if error.errno in _WRITE_PROTECTED:
                hint = "look for a write protection switch on it"
            elif error.errno in (errno.ENOSPC, errno.EDQUOT):
                hint = f"free some space: df -h {self.path}"
            elif error.errno == errno.EIO:
                hint = "dmesg | tail   # tells more; try another socket, then another stick"
            raise LivebuilderError(f"{doing} {self.path}{place} failed: {error.strerror}", hint=hint) from error

    def _raise_if_gone(self, doing: str, *, number: int | None = None) -> None:
        if self._number is None:
            return
        known = Path("/sys/dev/block")
        if number in _GONE or (known.is_dir() and not (known / _number(self._number)).exists()):
            raise LivebuilderError(
                f"{self.path} was unplugged, or lost contact, while {doing} it",
                hint="plug it in again, without a hub between, and look: livebuilder usb list",
            )


def _same(wanted: memoryview, found: memoryview) -> bool:
    """As memcmp(3) compares, which is what bytes and a bytearray do; two views take fifty times as long."""
    whole = wanted.obj
    plain: object = whole if isinstance(whole, bytearray) and len(whole) == len(wanted) else bytes(wanted)
    return plain == found


def _number(device_number: int) -> str:
    """As in `BlockDevice.major_minor`."""
    return f"{os.major(device_number)}:{os.minor(device_number)}"


def identity_changes(planned: BlockDevice, now: BlockDevice) -> list[str]:
    """In words, what tells `now` from the disk that was planned for; a disk in the same reader has another table."""
    pairs = {
        "kind": (planned.kind, now.kind),
        "device number": (planned.major_minor, now.major_minor),
        "serial": (planned.serial, now.serial),
        "model": (planned.model, now.model),
        "size in bytes": (planned.size_bytes, now.size_bytes),
        "sector size": (planned.sector_bytes, now.sector_bytes),
        "partition table": (planned.table, now.table),
        "partitions": (_outline(planned), _outline(now)),
    }
    return [f"the {name} is {is_now!r}, not {was!r}" for name, (was, is_now) in pairs.items() if was != is_now]


def _outline(device: BlockDevice) -> list[tuple[object, ...]]:
    return [(v.number, v.offset_bytes, v.size_bytes, v.fs, v.label, v.uuid) for v in device.volumes]


@contextmanager
def open_target(device: BlockDevice, *, writable: bool, redo: str = "prepare it again") -> Iterator[Target]:
    """Open and lock `device`. `redo` says what is to be done when it is left half written.

    An error that leaves the block says in which state the disk is, and so does a warning when it is interrupted.
    Raises `LivebuilderError`.
    """
    descriptor = _open(device, writable=writable)
    try:
        _lock(device, descriptor)
        target = Target(device, descriptor, redo=redo)
        with _state_told(target) if writable else nullcontext():
            yield target
    finally:
        os.close(descriptor)


@contextmanager
def _state_told(target: Target) -> Iterator[None]:
    try:
        yield
    except LivebuilderError as error:
        raise LivebuilderError(f"{error.message}; {target.path} is {target.state}", hint=error.hint) from error
    except OSError as error:
        raise LivebuilderError(f"{error}; {target.path} is {target.state}") from error
    except (KeyboardInterrupt, SystemExit):
        logger.warning("interrupted: {} is {}", target.path, target.state)
        raise


def _open(device: BlockDevice, *, writable: bool) -> int:
    path, is_right_kind = Path(device.path), stat.S_ISREG if device.kind == "image" else stat.S_ISBLK
    no_more = LivebuilderError(
        f"{path} is no {device.kind} any more: it was left as it is", hint="livebuilder usb list"
    )
    try:
        if not is_right_kind(path.stat().st_mode):
            raise no_more
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
        descriptor = os.open(path, flags if device.kind == "image" else flags | os.O_EXCL | os.O_DIRECT)
    except OSError as error:
        message, hint = _why_not_opened(device, error)
        raise LivebuilderError(f"{path} {message}: it was left as it is", hint=hint) from error
    if not is_right_kind(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise no_more
    return descriptor


def _why_not_opened(device: BlockDevice, error: OSError) -> tuple[str, str | None]:
    path = device.path
    if error.errno == errno.EBUSY:
        return "is in use: it is mounted, or another program holds it", f"lsblk {path}   # shows where; then umount it"
    if error.errno in (errno.EACCES, errno.EPERM) and not os.access(path, os.R_OK | os.W_OK):
        return "may not be opened by you", rights_hint(device)
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "is write-protected", "look for a write protection switch on it"
    if error.errno == errno.ENOMEDIUM:
        return "has no medium in it", "put the card in and try again"
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return "is not there any more", "livebuilder usb list"
    return f"cannot be opened: {error.strerror}", None


def _lock(device: BlockDevice, descriptor: int) -> None:
    def lock() -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    problem = _until(lock, seconds=_LOCK_SECONDS if device.kind != "image" else 0.0, while_errno=errno.EWOULDBLOCK)
    if problem == errno.EWOULDBLOCK:
        raise LivebuilderError(
            f"{device.path} is locked by another program: it was left as it is",
            hint=f"fuser -v {device.path}   # shows which; wait until it has ended",
        )
    if problem:
        logger.debug("{} cannot be locked: {}", device.path, os.strerror(problem))  # some network file systems


def _until(action: Callable[[], None], *, seconds: float, while_errno: int) -> int:
    """Try until it works, for at most `seconds` and only while it fails with that number; 0, or the last number."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            action()
        except OSError as error:
            if error.errno != while_errno or time.monotonic() >= deadline:
                return error.errno or errno.EIO
            time.sleep(0.1)
        else:
            return 0


def _reread(descriptor: int) -> None:
    fcntl.ioctl(descriptor, _BLKRRPART)


def settle() -> None:
    """Wait until udev has dealt with what happened so far, where udev runs."""
    if not Path("/run/udev/control").exists() or find_tool("udevadm") is None:
        return
    if run(["udevadm", "settle", f"--timeout={_SETTLE_SECONDS}"], check=False).returncode:
        logger.warning("udev has not done with the new partitions after {} seconds", _SETTLE_SECONDS)
