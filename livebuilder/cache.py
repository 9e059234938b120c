"""What was fetched or computed before, kept under the user's cache folder by what it was made from.

An item is a file or a folder named `KIND/KEY`; it appears whole or not at all, so two builds may share a cache.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from livebuilder.errors import LivebuilderError

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_DAY_SECONDS = 24 * 60 * 60


def cache_root() -> Path:
    """`$XDG_CACHE_HOME/livebuilder`, else `~/.cache/livebuilder` (XDG Base Directory Specification)."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    if home.startswith("/"):
        return Path(home) / "livebuilder"
    try:
        return Path.home() / ".cache/livebuilder"
    except RuntimeError as error:
        raise LivebuilderError(
            "there is no home folder to keep the cache in", hint="set XDG_CACHE_HOME to a folder you can write"
        ) from error


class Cache:
    """Items by kind and key; every folder is made when it is first needed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, kind: str) -> Path:
        """The folder of one kind of items."""
        folder = self.root / kind
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LivebuilderError(
                f"the cache folder {folder} cannot be made: {error.strerror}",
                hint="set XDG_CACHE_HOME to a folder you can write",
            ) from error
        return folder

    def find(self, kind: str, key: str) -> Path | None:
        """The item, marked as used now, or None."""
        path = self.root / kind / key
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        except OSError:
            pass  # a cache shared read-only is still a cache
        return path

    @contextmanager
    def place(self, kind: str, key: str) -> Iterator[Path]:
        """A path to write a file or make a folder at; it becomes the item when the block ends without error."""
        folder = self.folder(kind)
        with self._explained(folder), tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as workspace:
            draft = Path(workspace) / key
            yield draft
            target = folder / key
            try:
                draft.replace(target)
            except OSError:
                if not target.is_dir():
                    raise
                # The same item was placed by another build meanwhile; the same key means the same content.

    @contextmanager
    def _explained(self, folder: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
            raise LivebuilderError(
                f"the cache folder {folder} cannot be written: {error.strerror}",
                hint="make room there, or set XDG_CACHE_HOME to a folder you can write",
            ) from error

    def prune(self, *, unused_days: int = 60) -> None:
        """Forget items nobody used for `unused_days`."""
        limit = time.time() - unused_days * _DAY_SECONDS
        for item in self.root.glob("*/*"):
            with suppress(OSError):
                if item.lstat().st_mtime < limit:
                    shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
