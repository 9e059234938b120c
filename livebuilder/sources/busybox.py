"""A busybox of the user's: it runs before there is a root, so it must need nothing but the kernel."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from livebuilder.errors import LivebuilderError
from livebuilder.image.busybox import applets_of
from livebuilder.sources.elf import MACHINES, read_elf
from livebuilder.tree import Content


def busybox_from_file(path: Path, *, architectures: Collection[str]) -> Content:
    """The program in `path`, for a kernel that runs programs of these `architectures` (Debian's names).

    Raises `LivebuilderError` when it is no busybox, for another processor, or not static.
    """
    try:
        content = Content.from_file(path)
        _verify(content.read(), architectures, source=str(path))
    except (OSError, LivebuilderError) as error:
        problem = error.message if isinstance(error, LivebuilderError) else f"{path} cannot be read: {error.strerror}"
        raise LivebuilderError(
            problem,
            hint=f"give a static busybox for {' or '.join(architectures)} that is not packed by UPX,"
            " or leave the key out for Debian's",
        ) from error
    return content


def _verify(program: bytes, architectures: Collection[str], *, source: str) -> None:
    facts = read_elf(program, source=source)
    if facts is None or MACHINES.get(facts.machine) not in architectures:
        raise LivebuilderError(f"{source} is not a program for {' or '.join(architectures)}")
    if facts.interpreter or facts.needed:
        raise LivebuilderError(f"{source} is not static: it needs {', '.join(facts.needed) or facts.interpreter}")
    try:
        applets_of(program)
    except LivebuilderError as error:
        raise LivebuilderError(f"{source}: {error.message}") from error
