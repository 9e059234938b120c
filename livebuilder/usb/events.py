"""Sticks that are plugged in and pulled out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from livebuilder.usb.blockdevice import BlockDevice
from livebuilder.usb.devices import list_devices
from livebuilder.usb.sysfs import ROOT, listing, read_attribute
from livebuilder.usb.udev import Properties, udev_listener


@dataclass(frozen=True)
class DeviceEvent:
    """Something that happened to a whole disk; a removed one is given as it was."""

    action: Literal["added", "removed", "changed"]
    device: BlockDevice


def watch(
    known: Iterable[BlockDevice] = (),
    root: Path = ROOT,
    *,
    properties: Properties | None = None,
    poll_seconds: float = 1.0,
) -> Iterator[DeviceEvent]:
    """What happens to the disks from now on, for ever; `known` is what the caller has seen already.

    udev says when to look again; where no udevd runs, sysfs is looked at every `poll_seconds`.
    """
    before = {device.path: device for device in known}
    wait = _waiter(root, poll_seconds)
    print_before: object = None
    while True:
        print_now = _fingerprint(root)
        if print_now != print_before:
            now = {device.path: device for device in list_devices(root, properties=properties)}
            yield from _events(before, now)
            before, print_before = now, print_now
        if wait():
            print_before = None


def _events(before: Mapping[str, BlockDevice], now: Mapping[str, BlockDevice]) -> Iterator[DeviceEvent]:
    for path, device in before.items():
        if path not in now or now[path].major_minor != device.major_minor or now[path].serial != device.serial:
            yield DeviceEvent("removed", device)
    for path, device in now.items():
        old = before.get(path)
        if old is None or old.major_minor != device.major_minor or old.serial != device.serial:
            yield DeviceEvent("added", device)
        elif old != device:
            yield DeviceEvent("changed", device)


def _fingerprint(root: Path) -> list[str]:
    """What changes when a disk, a medium, a table or a mount does; cheap, because no disk is read for it."""
    blocks = root / "sys/class/block"
    facts = [f"{name}/{fact}" for name in listing(blocks) for fact in ("dev", "diskseq", "size", "ro")]
    using = [read_attribute(root / "proc", name) for name in ("self/mountinfo", "swaps")]
    return [*facts, *(read_attribute(blocks, fact) for fact in facts), *using]


def _waiter(root: Path, poll_seconds: float) -> Callable[[], bool]:
    """What waits for the next time to look; it gives True when something is known to have happened."""

    def sleep() -> bool:
        time.sleep(poll_seconds)
        return False

    return (udev_listener(poll_seconds) if root == ROOT else None) or sleep
