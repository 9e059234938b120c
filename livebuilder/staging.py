"""Files that land whole or not at all: written beside their place, flushed to the disk, then renamed."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import render_size

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STAGE = ".livebuilder-"
_ELSEWHERE = "choose another folder with -o"
# Where there is no room for what is only kept for a while.
SCRATCH_HINT = "free some space there, or name another folder: TMPDIR=/var/tmp livebuilder …"


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """A folder to write outputs into; when the block ends well, each file in it replaces its namesake in `target`.

    If anything fails or is interrupted, `target` is left as it was, and is not made when it was not there.
    Raises `LivebuilderError` when `target` cannot be written or the disk is full.
    """
    with _uninterrupted() as interruptible:
        made = make_folder(target)
        try:
            with _explained(target), tempfile.TemporaryDirectory(prefix=_STAGE, dir=target) as name:
                stage = Path(name)
                with interruptible():
                    yield stage
                    files = sorted(stage.iterdir())
                    for file in files:
                        file.chmod(0o666 & ~_umask())
                        _flush(file)
                with _alone(target):
                    for file in files:
                        file.replace(target / file.name)
        except BaseException:
            for folder in made:
                _remove_if_empty(folder)
            raise


def verify_writable(target: Path) -> None:
    """Raises `LivebuilderError` when it is plain from the start that `target` cannot be made or written."""
    nearest = next((folder for folder in (target, *target.absolute().parents) if os.path.lexists(folder)), target)
    problem = None
    if not nearest.is_dir():
        problem = errno.ENOTDIR
    elif not os.access(nearest, os.W_OK | os.X_OK):
        problem = errno.EROFS if os.statvfs(nearest).f_flag & os.ST_RDONLY else errno.EACCES
    if problem:
        raise LivebuilderError(
            f"the output folder {target} cannot be written: {nearest}: {os.strerror(problem)}", hint=_ELSEWHERE
        )


def verify_room(folder: Path, needed_bytes: int, *, what: str, hint: str) -> None:
    """Raises `LivebuilderError` when the disk of `folder` has not the bytes that `what` takes at most."""
    disk = shutil.disk_usage(folder)
    if disk.total and disk.free < needed_bytes:  # some file systems do not say how large they are
        raise LivebuilderError(
            f"{what} takes up to {needed_bytes} bytes ({render_size(needed_bytes)}) in {folder},"
            f" where {disk.free} bytes ({render_size(disk.free)}) are left",
            hint=hint,
        )


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    if target.name.startswith(_STAGE):
        target = target.parent  # a file staged within a folder staged: the user knows the outer one
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise LivebuilderError(
                f"the disk is full: writing to {target} stopped and what was written is removed",
                hint=f"df -h {target}",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise LivebuilderError(f"writing to {target} failed: {error.strerror}", hint=_ELSEWHERE) from error
        raise


def make_folder(target: Path) -> list[Path]:
    """Make `target` and its parents; returns those that were missing, deepest first. Raises `LivebuilderError`."""
    missing = [folder for folder in (target, *target.parents) if not folder.exists()]
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        for folder in missing:
            _remove_if_empty(folder)
        raise LivebuilderError(
            f"the output folder {target} cannot be made: {error.strerror}", hint=_ELSEWHERE
        ) from error
    return missing


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT, errno.EEXIST):
            raise


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let no other run land its files between ours; what was renamed is on the disk afterwards."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@contextmanager
def _uninterrupted() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Hold Ctrl-C and SIGTERM back to the end of the block, but for the parts inside `with interruptible():`.

    So a draft that was begun is always removed, and the set of outputs is of one build, however impatient the user.
    """
    if threading.current_thread() is not threading.main_thread():
        yield nullcontext  # only the main thread hears signals
        return
    held: list[int] = []
    outside = {number: signal.getsignal(number) for number in _SIGNALS}
    inside = dict.fromkeys(_SIGNALS, lambda number, _frame: held.append(number))

    @contextmanager
    def interruptible() -> Iterator[None]:
        try:
            _handle(outside)
            _deliver(held)
            yield
        finally:
            _handle(inside)

    _handle(inside)
    try:
        yield interruptible
    finally:
        _handle(outside)
        _deliver(held)


def _handle(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _deliver(held: list[int]) -> None:
    if held:
        signal.raise_signal(held[0])
