"""The kernel's tree of block devices: what each of them is. Documentation/ABI/stable/sysfs-block and the like.

Whatever cannot be read is "", 0 or None: a stick may be pulled out between any two lines.
"""

from __future__ import annotations

import grp
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from livebuilder.usb.blockdevice import Kind

ROOT = Path("/")
SECTOR_BYTES = 512  # `size` and `start` count these, whatever the disk's own sectors are

_KINDS: tuple[tuple[str, Kind], ...] = (
    (r"sd[a-z]+|hd[a-z]|vd[a-z]+|xvd[a-z]+|mmcblk\d+|nvme\d+n\d+", "disk"),
    (r"sr\d+|scd\d+", "cdrom"),
    (r"fd\d+", "floppy"),
    (r"loop\d+", "loop"),
    (r"dm-\d+", "device-mapper"),
    (r"md\d+|md_.+", "raid"),
    (r"ram\d+|zram\d+|pmem\d+.*", "memory"),
    (r"nbd\d+|rbd\d+|drbd\d+", "network"),
)
_SCSI_DISKS = ("", "0", "14")  # peripheral device types: direct access, reduced block commands; "" is no SCSI at all
_BUSES = ("usb", "mmc", "nvme", "virtio", "firewire", "xen", "ide")  # names of sysfs subsystems that are a disk's bus


def read_attribute(folder: Path, name: str) -> str:
    """A sysfs attribute without the space around it; "" when it cannot be read, for whatever reason."""
    try:
        return (folder / name).read_bytes().decode("utf-8", "replace").strip(" \t\n\0")
    except OSError:
        return ""


def whole_number(text: str) -> int | None:
    """The number in an attribute, or None when it is none."""
    return int(text) if text.isascii() and text.isdigit() else None


def listing(folder: Path) -> list[str]:
    """The names in a folder, sorted; none when it cannot be read."""
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []


def clean(text: str) -> str:
    """A name a device gives itself, made fit for a terminal and for typing."""
    return "".join(character if character.isprintable() else "_" for character in text.strip())


class Rights(TypedDict):
    """What the caller may do with a device, and the group whose members may use it."""

    readable: bool
    writable: bool
    group: str


class Sysfs:
    """The block devices of the system whose `/` is `root`; devices go by the kernel's names ("sdb1")."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self._blocks = root / "sys/class/block"
        self._numbers = {self.number(name): name for name in self.names()}
        self._paths = {self.path(name): name for name in self.names()}

    def names(self) -> list[str]:
        """The kernel's names of all block devices, partitions among them."""
        return listing(self._blocks)

    def folder(self, name: str) -> Path:
        """The device's own folder in sysfs."""
        return Path(os.path.realpath(self._blocks / name))

    def attribute(self, name: str, attribute: str) -> str:
        """An attribute of the device, as `read_attribute()` gives it."""
        return read_attribute(self.folder(name), attribute)

    def is_partition(self, name: str) -> bool:
        """Whether it is a part of another device: of the one in whose folder its own is."""
        return (self.folder(name) / "partition").exists()

    def number(self, name: str) -> str:
        """The device's number, as in "8:16"."""
        return read_attribute(self._blocks / name, "dev")

    def is_shown(self, name: str) -> bool:
        """Whether it is a whole device that programs may open."""
        return not self.is_partition(name) and self.attribute(name, "hidden") != "1"

    def name_of(self, number: str) -> str | None:
        """The kernel's name of the device with this number."""
        return self._numbers.get(number)

    def path(self, name: str) -> str:
        """The device's node; the kernel writes `/` in names as `!`."""
        return "/dev/" + name.replace("!", "/")

    def names_in(self, source: str) -> Iterator[str]:
        """The devices in the source of a mount; bcachefs writes several, with colons between them."""
        for piece in source.split(":"):
            node = os.path.relpath(os.path.realpath(self.node(piece)), os.path.realpath(self.root))
            if f"/{node}" in self._paths:
                yield self._paths[f"/{node}"]

    def partitions(self, name: str) -> list[str]:
        """The partitions of a device, of which the kernel knows."""
        folder = self.folder(name)
        return [entry for entry in listing(folder) if (folder / entry / "partition").exists()]

    def partition_number(self, name: str) -> int:
        """The number of a partition, from 1 on."""
        return whole_number(self.attribute(name, "partition")) or 0

    def kind(self, name: str) -> Kind:
        """What sort of device it is, by its name and by its type in SCSI."""
        kind: Kind = next((kind for pattern, kind in _KINDS if re.fullmatch(pattern, name)), "other")
        if kind == "disk" and name.startswith("sd") and self.attribute(name, "device/type") not in _SCSI_DISKS:
            return "other"
        return kind

    def bus(self, name: str) -> str:
        """The nearest bus on the way from the disk to the machine: a disk in a USB case is on USB, whatever it is."""
        folder, scsi = self.folder(name), False
        for parent in folder.parents:
            if parent.name == "devices":
                break
            if re.fullmatch(r"ata\d+", parent.name):
                return "ata"
            subsystem = _subsystem(parent)
            if subsystem == "mmc" and self._soldered(name, folder):
                return "emmc"
            if subsystem in _BUSES:
                return subsystem
            scsi = scsi or subsystem == "scsi"
        return "scsi" if scsi else ""

    def _soldered(self, name: str, folder: Path) -> bool:
        """Whether an MMC device is a chip on the board: only those have boot areas of their own."""
        return read_attribute(folder, "device/type") == "MMC" and (self._blocks / f"{name}boot0").exists()

    def model(self, name: str) -> str:
        """What the device calls itself, its maker included."""
        if self.bus(name) in ("mmc", "emmc"):
            return self.attribute(name, "device/name")
        model, vendor = self.attribute(name, "device/model"), self.attribute(name, "device/vendor")
        # Behind SATA the vendor is "ATA"; of virtio it is a number.
        return f"{vendor} {model}" if model and vendor not in ("", "ATA") and not vendor.startswith("0x") else model

    def serial(self, name: str) -> str:
        """The serial number: of the USB device, of the card or controller, else SCSI's page 0x80 (SPC-4, 7.8.15)."""
        folder, bus = self.folder(name), self.bus(name)
        usb = _usb_device(folder) if bus == "usb" else None
        return (
            (read_attribute(usb, "serial") if usb is not None else "")
            or read_attribute(folder, "device/serial")
            or read_attribute(folder, "serial")
            or read_attribute(folder, "device/wwid") * (bus == "nvme")
            or _serial_page(folder / "device/vpd_pg80")
        )

    def node(self, path: str) -> Path:
        """Where the node `path` is to be opened."""
        return self.root / path.removeprefix("/")

    def partition_name(self, name: str) -> str:
        """A partition's GPT name."""
        lines = self.attribute(name, "uevent").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line).get("PARTNAME", "")

    def rights(self, path: str) -> Rights:
        """Those to the node `path`."""
        node = self.node(path)
        return {"readable": os.access(node, os.R_OK), "writable": os.access(node, os.W_OK), "group": _group(node)}


def _usb_device(folder: Path) -> Path | None:
    return next((parent for parent in folder.parents if (parent / "idVendor").exists()), None)


def _subsystem(folder: Path) -> str:
    try:
        return (folder / "subsystem").readlink().name
    except OSError:
        return ""


def _serial_page(path: Path) -> str:
    try:
        page = path.read_bytes()
    except OSError:
        return ""
    return page[4:].decode("ascii", "replace").strip(" \0") if page[1:2] == b"\x80" else ""


def _group(node: Path) -> str:
    """The group whose members may read and write `node`, or "" when there is none."""
    try:
        facts = node.stat()
        may = stat.S_IRGRP | stat.S_IWGRP
        return grp.getgrgid(facts.st_gid).gr_name if facts.st_mode & may == may else ""
    except (OSError, KeyError):
        return ""
