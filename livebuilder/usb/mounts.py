"""What is mounted, as the kernel lists it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """A line of mountinfo: the device's number, where it is mounted, the file system, and what was mounted.

    `id` is the mount's own: a path may have several on top of one another.
    """

    id: str
    number: str
    point: str
    fs: str
    source: str


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """The mounts in /proc/self/mountinfo; lines that are none are passed over. Format: proc_pid_mountinfo(5)."""
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, kinds = left.split(), right.split()
        if len(fields) >= 6 and len(kinds) >= 2:
            found.append(Mount(fields[0], fields[2], unescaped(fields[4]), kinds[0], unescaped(kinds[1])))
    return tuple(found)


def unescaped(text: str) -> str:
    """A path as it is, of which the kernel writes space, tab, line end and backslash in octal."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def mount_point_of(folder: Path) -> Path | None:
    """Where that is mounted which `folder` lies on; None where this process cannot see it, as in a chroot.

    The kernel names the mount of an open file (proc_pid_fdinfo(5)); by paths alone it could be one that is hidden.
    """
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        facts = Path(f"/proc/self/fdinfo/{descriptor}").read_text().split()
    finally:
        os.close(descriptor)
    number = facts[facts.index("mnt_id:") + 1]
    mounts = parse_mountinfo(os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))
    return next((Path(mount.point) for mount in mounts if mount.id == number), None)
