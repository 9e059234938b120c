"""Files that land whole or not at all: written beside their place, flushed to the disk, then renamed."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from livebuilder.errors import LivebuilderError


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """A folder to write outputs into; when the block ends well, each file in it replaces its namesake in `target`.

    If anything fails or is interrupted, `target` is left as it was, and is not made when it was not there.
    Raises `LivebuilderError` when `target` cannot be written or the disk is full.
    """
    made = _make_folders(target)
    try:
        with _explained(target), tempfile.TemporaryDirectory(prefix=".livebuilder-", dir=target) as name:
            stage = Path(name)
            yield stage
            files = sorted(stage.iterdir())
            for file in files:
                file.chmod(0o666 & ~_umask())
                _flush(file)
            with _uninterrupted():
                for file in files:
                    file.replace(target / file.name)
                _flush(target)
    except BaseException:
        for folder in made:
            _remove_if_empty(folder)
        raise


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise LivebuilderError(
                f"the disk is full: writing to {target} stopped and what was written is removed",
                hint=f"df -h {target}",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise LivebuilderError(
                f"writing to {target} failed: {error.strerror}", hint="choose another folder with -o"
            ) from error
        raise


def _make_folders(target: Path) -> list[Path]:
    """Make `target` and its parents; returns those that were missing, deepest first."""
    missing = [folder for folder in (target, *target.parents) if not folder.exists()]
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        for folder in missing:
            _remove_if_empty(folder)
        raise LivebuilderError(
            f"the output folder {target} cannot be made: {error.strerror}", hint="choose another folder with -o"
        ) from error
    return missing


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT, errno.EEXIST):
            raise


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
def _uninterrupted() -> Iterator[None]:
    """Hold a Ctrl-C back until the renames are done, so that the set of outputs is of one build."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = {
        number: signal.signal(number, lambda signum, _frame: held.append(signum))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if held:
        signal.raise_signal(held[0])
