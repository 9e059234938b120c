"""What several commands do with a stick: find its storage once it was examined, open it and show how far one is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from livebuilder.cli.consent import Examined, examine

if TYPE_CHECKING:
    from livebuilder.console import Progress
    from livebuilder.usb.blockdevice import BlockDevice, Volume
    from livebuilder.usb.constraints import Purpose
    from livebuilder.usb.target import Target


def examine_storage(path: Path, *, purpose: Purpose, label: str) -> tuple[Examined, Volume]:
    """What is at `path`, and its volume that settings are kept on. Raises `LivebuilderError`."""
    from livebuilder.usb.content import storage_volume

    stick = examine(path, purpose=purpose)
    return stick, storage_volume(stick.device, label=label)


@contextmanager
def at_work(device: BlockDevice, doing: str, *, redo: str = "") -> Iterator[tuple[Target, Progress]]:
    """`device`, opened, and what shows how far `doing` it is.

    It can be written only where `redo` says what is to be done when it is left half written.
    """
    from livebuilder.console import measured_step
    from livebuilder.usb.target import open_target

    with open_target(device, writable=bool(redo), redo=redo) as target, measured_step(doing) as progress:
        yield target, progress
