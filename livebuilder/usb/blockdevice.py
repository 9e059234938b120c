"""A block device or an image file as a record: what it is, what is on it, who is using it. `devices` makes them."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from typing import Literal

Kind = Literal[
    "disk", "partition", "image", "cdrom", "floppy", "loop", "device-mapper", "raid", "memory", "network", "other"
]


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A partition, or (`number` 0) a file system that begins at the very start of a disk without a table.

    `offset_bytes` counts from the start of the device the volume is listed under. `type` is a GUID or a hexadecimal
    code in capitals, `name` the GPT name, `uuid` the file system's, all as they stand, not cleaned for a terminal.
    `uses` is in words, see `livebuilder.usb.constraints.CODES_OF_USES`.
    """

    path: str
    number: int
    offset_bytes: int
    size_bytes: int
    type: str = ""
    name: str = ""
    fs: str = ""
    label: str = ""
    uuid: str = ""
    uses: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BlockDevice:
    """A disk, a partition or an image file.

    `bus` is the nearest one on the way to the machine ("usb", "mmc", "emmc" for a soldered chip, "ata", "nvme",
    "virtio", "scsi", …; "" is unknown). `medium` is False for a card reader without a card; with a medium and
    `size_bytes` 0 the size is unknown. `data` is True also where nobody could look. `uses` are those of the whole
    device, `disk_uses` those of the rest of the disk when `kind` is "partition"; `parent` is that disk.
    `readable` and `writable` are the rights of whoever asks, `group` the group that would have them ("" for none).
    `problem` is what the kernel said when a disk that may be read could not be.
    """

    path: str
    kind: Kind
    size_bytes: int
    name: str = ""
    major_minor: str = ""
    model: str = ""
    serial: str = ""
    sector_bytes: int = 512
    bus: str = ""
    removable: bool = False
    read_only: bool = False
    medium: bool = True
    table: str = ""
    volumes: tuple[Volume, ...] = ()
    uses: tuple[str, ...] = ()
    disk_uses: tuple[str, ...] = ()
    data: bool = True
    parent: str = ""
    readable: bool = True
    writable: bool = True
    group: str = ""
    problem: str = ""

    def to_json(self) -> dict[str, object]:
        """The record as plain data; sizes in bytes."""
        return asdict(self)


def rights_hint(device: BlockDevice, *, command: str = "livebuilder usb …") -> str:
    """What to type when `device` may not be opened: `command` with sudo, or what makes the user one of its group."""
    if device.kind == "image":
        return f"chmod u+rw {shlex.quote(device.path)}, if it is yours"
    if device.group in ("", "root"):
        return f"sudo {command}"
    joining = f"sudo usermod -aG {device.group} $USER, then log in again"
    return f"sudo {command}, or become a member of its group: {joining}"


def is_empty_device(device: BlockDevice) -> bool:
    """Whether it is nothing that anybody looks for in a list of disks: a loop device without a file, or memory."""
    memory = device.kind == "memory" and device.name.startswith(("ram", "zram"))
    return memory or (device.kind == "loop" and not device.medium)


def is_candidate(device: BlockDevice) -> bool:
    """Whether `usb list` shows it without --all: a disk that can be taken out."""
    return device.kind == "disk" and (device.removable or device.bus in ("usb", "mmc"))
