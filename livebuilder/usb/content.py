"""What is on a stick's file system, read and changed without mounting the stick and without running a tool on it.

Everything happens on a copy (`working_copy`):

- ext2, ext3, ext4: debugfs and e2fsck from e2fsprogs work on it (`debugfs`). No root is needed.
- f2fs, btrfs: it is mounted in a mount namespace of its own (`mounted`): root is needed.

Left out on purpose: `lost+found` and sockets, which mean nothing on another day, and `HOST_XATTRS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from livebuilder.console import Progress, no_progress
from livebuilder.errors import LivebuilderError
from livebuilder.tree import RootTree
from livebuilder.usb.blockdevice import BlockDevice, Volume
from livebuilder.usb.changes import Change, differences, plan_changes
from livebuilder.usb.filesystem import FILE_SYSTEMS
from livebuilder.usb.plan import DEFAULT_LABEL
from livebuilder.usb.target import Target
from livebuilder.usb.working_copy import copied


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
    with copied(target, volume) as copy:
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
    with copied(target, volume) as copy:
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
