"""What is mounted, as the kernel lists it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """A line of mountinfo: the device's number, where it is mounted, the file system, and what was mounted."""

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
            found.append(Mount(fields[2], unescaped(fields[4]), kinds[0], unescaped(kinds[1])))
    return tuple(found)


def unescaped(text: str) -> str:
    """A path as it is, of which the kernel writes space, tab, line end and backslash in octal."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
