"""The files in an image of f2fs or btrfs, which are reached by mounting it where nobody else sees it: as root.

It is mounted in a mount namespace of its own (mount_namespaces(7)). A mount is seen in other namespaces too where the
one it lies on is shared; only that one is made private, which can be done in a chroot as well, whose `/` need not be a
mount of its own. The loop device can be written even where files are only read: what a journal holds is replayed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from livebuilder.cache import Cache
from livebuilder.errors import CommandError, LivebuilderError
from livebuilder.process import require_tool, run
from livebuilder.sources.archive import root_tree_from_archive
from livebuilder.tar import write_tar
from livebuilder.tree import RootTree
from livebuilder.usb.changes import Change
from livebuilder.usb.filesystem import LOST_AND_FOUND
from livebuilder.usb.mounts import mount_point_of

TOOLS = ("unshare", "losetup", "mount", "umount", "tar", "xargs")

# 1 what it is mounted below, 2 image, 3 file system, 4 options, 5 mount point; 6 and 7 are files for what follows.
# A loop device that is detached stays until it is unmounted.
_MOUNT = (
    'mount --make-private "$1" && device=$(losetup --find --show "$2") &&'
    ' { mount -t "$3" -o "$4" "$device" "$5"; status=$?; losetup --detach "$device"; [ "$status" = 0 ]; } && cd "$5"'
)
_UNMOUNT = 'cd / && umount "$5"'
# GNU tar; the empty lost+found makes an archive of an empty file system one that is not empty.
_PACK = (
    f"{_MOUNT} && tar --create --format=posix --sort=name --numeric-owner --xattrs '--xattrs-include=*'"
    f' --file="$6" -C "$7" {LOST_AND_FOUND} -C "$5" --exclude=./{LOST_AND_FOUND} . && {_UNMOUNT}'
)
_UNPACK = (
    f'{_MOUNT} && xargs -0r rm -rf -- <"$6" && tar --extract --same-owner --same-permissions --numeric-owner --xattrs'
    f" '--xattrs-include=*' --file=\"$7\" && {_UNMOUNT}"
)


def verify_mountable(scratch: Path, *, fs: str, source: str) -> None:
    """Raises `LivebuilderError` when it is plain from the start that a copy in `scratch` cannot be mounted."""
    if os.geteuid() != 0:
        raise LivebuilderError(
            f"the files on {source} cannot be reached: a copy of {fs} has to be mounted, which only root may",
            hint="run the same command with sudo",
        )
    for tool in TOOLS:
        require_tool(tool)
    if mount_point_of(scratch) is None:
        raise LivebuilderError(
            f"a copy of {source} cannot be mounted in {tempfile.gettempdir()} without others seeing it: that lies on"
            " what was mounted outside of this chroot",
            hint="TMPDIR=/dev/shm livebuilder …   # or, before chroot: mount --bind FOLDER FOLDER",
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
    below, mountpoint = mount_point_of(image.parent), image.parent / "mounted"
    assert below is not None, "verify_mountable() saw it"
    mountpoint.mkdir(exist_ok=True)
    argv: list[str | Path] = [
        "unshare", "--mount", "--propagation", "unchanged",
        "sh", "-c", script, "sh", below, image, fs, options, mountpoint, *files,
    ]  # fmt: skip
    try:
        run(argv)
    except CommandError as error:
        raise LivebuilderError(
            f"a copy of {source} cannot be mounted or used: {error.stderr.strip() or error.message}",
            hint=f"modprobe {fs}; modprobe loop   # as root; a container may allow neither",
        ) from error
