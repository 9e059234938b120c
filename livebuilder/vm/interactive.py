"""A guest for a person: its serial console is this terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from livebuilder.cache import Cache, cache_root
from livebuilder.process import become
from livebuilder.vm.accelerator import find_accelerator
from livebuilder.vm.machine import Guest, ImageBoot, Media, Stick, machine_named, qemu_argv, verify_guest


def run_interactively(
    image: Path,
    *,
    sticks: Sequence[Path] = (),
    machine: str = "pc-1997",
    memory_bytes: int | None = None,
    display: bool = False,
    media: Media = Media.CD,
) -> NoReturn:
    """Become QEMU with `image` in the drive; Ctrl-A X ends it. What the guest writes to a stick stays there.

    With `display` there is a window with the PC's screen and keyboard as well.
    Raises `LivebuilderError` when QEMU is not installed, or a file is missing.
    """
    guest = Guest(
        machine=machine_named(machine),
        boot=ImageBoot(image, media),
        sticks=tuple(Stick(path, serial=f"LIVEBUILDER{number}") for number, path in enumerate(sticks, 1)),
        memory_bytes=memory_bytes,
        display="gtk" if display else "none",
    )
    verify_guest(guest)
    accelerator = find_accelerator(guest.machine.program, cache=Cache(cache_root()))
    become(qemu_argv(guest, accelerator=accelerator, control=None))
