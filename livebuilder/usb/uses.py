"""Who is using a block device: mounts, swap, what lies on top of it; /proc/self/mountinfo and /proc/swaps, proc(5)."""

from __future__ import annotations

import os
from collections.abc import Iterator

from livebuilder.errors import LivebuilderError
from livebuilder.usb.mounts import parse_mountinfo, unescaped
from livebuilder.usb.sysfs import Sysfs, clean, listing, read_attribute


class Uses:
    """What the system does with its devices; mounts, swaps and loop devices are read once, when it is made.

    Raises `LivebuilderError` when the kernel does not say what is mounted.
    """

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs
        self._mounts: dict[str, set[str]] = {}
        self._users: dict[str, set[str]] = {}  # by name of the device: what sysfs's holders do not tell
        self._read_mounts()
        self._read_btrfs()
        self._read_swaps()
        self._loops = {
            sysfs.attribute(name, "loop/backing_file"): name for name in sysfs.names() if name.startswith("loop")
        }

    def of(self, name: str) -> list[str]:
        """What the system does with a device itself, its partitions not counted; what lies on top of it is."""
        return list(dict.fromkeys(self._walk(name, set())))

    def _walk(self, name: str, seen: set[str]) -> Iterator[str]:
        if name in seen:
            return
        seen.add(name)
        sysfs = self._sysfs
        yield from sorted(f"mounted at {point}" for point in self._mounts.get(sysfs.number(name), ()))
        yield from sorted(self._users.get(name, ()))
        holders = listing(sysfs.folder(name) / "holders")
        if loop := self._loops.get(sysfs.path(name)):
            holders.append(loop)
        for holder in holders:
            known_as = clean(sysfs.attribute(holder, "dm/name"))
            yield f"held by {holder}" + (f" ({known_as})" if known_as else "")
            yield from self._walk(holder, seen)
            for part in sysfs.partitions(holder):
                yield from self._walk(part, seen)

    def loop_on(self, path: str) -> str | None:
        """The loop device whose backing file is `path`."""
        return self._loops.get(path)

    def below(self, number: str) -> set[str]:
        """The paths of the device with this number and of all that it lies on, whole disks among them."""
        sysfs = self._sysfs
        first, found = sysfs.name_of(number), set()
        names = [first] if first is not None else list(self._sources_of(number))
        while names:
            name = names.pop()
            if sysfs.path(name) in found:
                continue
            found.add(sysfs.path(name))
            folder = sysfs.folder(name)
            names += listing(folder / "slaves")
            if sysfs.is_partition(name):
                names.append(folder.parent.name)
        return found

    def _sources_of(self, number: str) -> Iterator[str]:
        """The devices behind a file system that has a number of its own, as every btrfs has."""
        mountinfo = read_attribute(self._sysfs.root, "proc/self/mountinfo")
        sources = {mount.source for mount in parse_mountinfo(mountinfo) if mount.number == number}
        names = {name for source in sources for name in self._sysfs.names_in(source)}
        yield from names
        for members in self._btrfs_members():
            if names & set(members):
                yield from members

    def _read_mounts(self) -> None:
        if not os.access(self._sysfs.root / "proc/self/mountinfo", os.R_OK):
            message = "what is mounted cannot be told: /proc/self/mountinfo cannot be read"
            raise LivebuilderError(message, hint="mount -t proc proc /proc")
        # Those of process 1 too, if they may be read: a stick can be mounted in another namespace than ours.
        for process in ("self", "1"):
            for mount in parse_mountinfo(read_attribute(self._sysfs.root, f"proc/{process}/mountinfo")):
                self._mounts.setdefault(mount.number, set()).add(mount.point)
                if mount.number.startswith("0:"):
                    for name in self._sysfs.names_in(mount.source):
                        self._users.setdefault(name, set()).add(f"mounted at {mount.point}")

    def _btrfs_members(self) -> list[list[str]]:
        folder = self._sysfs.root / "sys/fs/btrfs"
        return [listing(folder / uuid / "devices") for uuid in listing(folder)]

    def _read_btrfs(self) -> None:
        """A mounted btrfs names one of its disks in mountinfo, and all of them in /sys/fs/btrfs/UUID/devices."""
        for members in self._btrfs_members():
            users = {use for name in members for use in self._users.get(name, ())} or {"held by a btrfs file system"}
            for name in members:
                self._users.setdefault(name, set()).update(users)

    def _read_swaps(self) -> None:
        for line in read_attribute(self._sysfs.root, "proc/swaps").splitlines()[1:]:
            path = unescaped(line.split()[0]) if line.strip() else ""
            for name in self._sysfs.names_in(path):
                self._users.setdefault(name, set()).add("swap in use")
