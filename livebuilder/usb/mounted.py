"""The files in an image of f2fs or btrfs, which are reached by mounting it where nobody else sees it: as root."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from livebuilder.cache import Cache
from livebuilder.errors import CommandError, LivebuilderError
from livebuilder.process import run
from livebuilder.sources.archive import root_tree_from_archive
from livebuilder.tar import write_tar
from livebuilder.tree import RootTree
from livebuilder.usb.changes import Change
from livebuilder.usb.filesystem import LOST_AND_FOUND

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


def read_tree(image: Path, folder: Path, *, fs: str, source: str) -> RootTree:
    """All files in `image`; what they hold lies in `folder` then. `source` is what it is a copy of, for messages.

    Raises `LivebuilderError`.
    """
    marker = folder / "marker"
    (marker / LOST_AND_FOUND).mkdir(parents=True)
    packed = folder / "content.tar"
    _mounted(_PACK, image, fs=fs, source=source, options="ro", files=[packed, marker])
    tree = root_tree_from_archive(packed, cache=Cache(folder / "cache"))
    tree.remove(LOST_AND_FOUND)
    return RootTree(replace(entry, source=source) for entry in tree)


def change_tree(
    image: Path, folder: Path, changes: Sequence[Change], wanted: RootTree, *, fs: str, source: str
) -> None:
    """Carry out `changes`, which lead to `wanted`; the empty `folder` is for what files hold.

    Raises `LivebuilderError`.
    """
    removed, packed = folder / "removed", folder / "new.tar"
    removed.write_bytes(
        b"".join(b"./" + os.fsencode(change.entry.path) + b"\0" for change in changes if change.action == "remove")
    )
    # A folder comes once, with its own facts: tar gives it these when all that is in it is there.
    given = {change.entry.path for change in changes if change.action != "remove"}
    with packed.open("wb") as stream:
        write_tar(wanted, stream, only=given)
    _mounted(_UNPACK, image, fs=fs, source=source, options="rw", files=[removed, packed])


def _mounted(script: str, image: Path, *, fs: str, source: str, options: str, files: Sequence[Path]) -> None:
    mountpoint = image.parent / "mounted"
    mountpoint.mkdir(exist_ok=True)
    argv: list[str | Path] = [
        "unshare", "--mount", "--propagation", "private",
        "sh", "-c", script, "sh", fs, options, image, mountpoint, *files,
    ]  # fmt: skip
    try:
        run(argv)
    except CommandError as error:
        raise LivebuilderError(
            f"a copy of {source} cannot be mounted or used: {error.stderr.strip() or error.message}",
            hint=f"modprobe {fs}; modprobe loop   # as root; a container may allow neither",
        ) from error
