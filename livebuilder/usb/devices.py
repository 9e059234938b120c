"""Block devices and image files as records: what they are, what is on them, and who is using them.

Hard facts come from the kernel: sysfs (Documentation/ABI/stable/sysfs-block, Documentation/ABI/testing/sysfs-bus-usb),
/proc/self/mountinfo and /proc/swaps (proc(5)). What stands on a disk is read from the disk where the caller may read
it; otherwise it is what udev (pyudev) knows. Nothing here needs udevd, and nothing here writes.

Every reader takes the folder that stands for `/`, so that a captured tree is read like a running system. Whatever
cannot be read is unknown, never "no": a stick may be pulled out between any two lines, and the rules in
`livebuilder.usb.constraints` refuse what is unknown.
"""

from __future__ import annotations

import errno
import grp
import os
import re
import shlex
import stat
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal
from uuid import UUID

import pyudev

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import KIB, MIB
from livebuilder.usb.fdisk import FdiskError, Partition, open_disk
from livebuilder.usb.superblock import parse_superblock

ROOT = Path("/")
SYSFS_SECTOR_BYTES = 512  # `size` and `start` count these, whatever the disk's own sectors are

Kind = Literal[
    "disk", "partition", "image", "cdrom", "floppy", "loop", "device-mapper", "raid", "memory", "network", "other"
]
Properties = Callable[[str], Mapping[str, str]]  # from "8:16" to what udev knows of that device

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


@dataclass(frozen=True)
class DeviceEvent:
    """Something that happened to a whole disk; a removed one is given as it was."""

    action: Literal["added", "removed", "changed"]
    device: BlockDevice


def list_devices(root: Path = ROOT, *, properties: Properties | None = None) -> tuple[BlockDevice, ...]:
    """All whole block devices, by name. `properties` takes the place of udev's; for another root there are none.

    Raises `LivebuilderError` when the kernel does not say what is mounted.
    """
    machine = _Machine(root, properties)
    found = [machine.device(name) for name in machine.names() if machine.is_shown(name)]
    return tuple(sorted(found, key=lambda device: (len(device.name), device.name)))


def describe(path: Path) -> BlockDevice:
    """The record of a device node (also by a symlink, as in /dev/disk/by-id) or of an image file.

    Raises `LivebuilderError` for what is neither, and for what is not there.
    """
    hint = "livebuilder usb list   # shows the devices there are"
    try:
        facts = path.stat()
    except OSError as error:
        raise LivebuilderError(f"looking at {path} failed: {error.strerror or error}", hint=hint) from error
    if stat.S_ISBLK(facts.st_mode):
        return device_by_number(f"{os.major(facts.st_rdev)}:{os.minor(facts.st_rdev)}")
    if not stat.S_ISREG(facts.st_mode):
        what = "a folder" if stat.S_ISDIR(facts.st_mode) else "a special file"
        raise LivebuilderError(f"{path} is {what}, neither a disk nor an image file", hint=hint)
    return _image(path, _Machine(ROOT, None))


def device_by_number(number: str, root: Path = ROOT, *, properties: Properties | None = None) -> BlockDevice:
    """The record of the device with this number ("8:16"), as the kernel names it; for what is opened already.

    Raises `LivebuilderError` when the kernel has no such block device (any more).
    """
    machine = _Machine(root, properties)
    name = machine.name_of(number)
    if name is not None:
        folder = machine.folder(name)
        if not (folder / "partition").exists():
            return machine.device(name, even_if_fixed=True)
        disk = machine.device(folder.parent.name, even_if_fixed=True)
        for volume in disk.volumes:
            if volume.number and volume.path == machine.path(name):
                return _as_device(volume, disk, machine)
    raise LivebuilderError(
        f"the kernel has no block device {number}: it was unplugged, or its node in /dev is a leftover",
        hint="livebuilder usb list --all",
    )


def disks_holding(path: Path, root: Path = ROOT) -> tuple[str, ...]:
    """What the file `path` lies on: its own resolved path, and the paths of all disks and partitions below it.

    For the rule that a disk holding the ISO is not written. Raises `LivebuilderError` when there is no such file.
    """
    try:
        number = path.stat().st_dev
    except OSError as error:
        raise LivebuilderError(f"looking at {path} failed: {error.strerror or error}") from error
    machine = _Machine(root, None)
    below = machine.below(f"{os.major(number)}:{os.minor(number)}")
    return (os.path.realpath(path), *sorted(below))


def is_candidate(device: BlockDevice) -> bool:
    """Whether `usb list` shows it without --all: a disk that can be taken out."""
    return device.kind == "disk" and (device.removable or device.bus in ("usb", "mmc"))


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


# Events


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
    facts = [f"{name}/{fact}" for name in _listing(blocks) for fact in ("dev", "diskseq", "size", "ro")]
    using = [_attribute(root / "proc", name) for name in ("self/mountinfo", "swaps")]
    return [*facts, *(_attribute(blocks, fact) for fact in facts), *using]


def _waiter(root: Path, poll_seconds: float) -> Callable[[], bool]:
    """What waits for the next time to look; it gives True when something is known to have happened."""
    context = _udev() if root == ROOT and Path("/run/udev/control").exists() else None
    if context is None:

        def sleep() -> bool:
            time.sleep(poll_seconds)
            return False

        return sleep
    monitor = pyudev.Monitor.from_netlink(context)
    monitor.filter_by("block")
    monitor.start()

    def listen() -> bool:
        happened = monitor.poll(timeout=poll_seconds) is not None
        while happened and monitor.poll(timeout=0.2) is not None:  # one stick makes a handful of events
            pass
        return happened

    return listen


# The machine: sysfs, procfs and udev at one moment


def _udev() -> pyudev.Context | None:
    try:
        return pyudev.Context()
    except (ImportError, OSError):  # no libudev here
        return None


def _udev_properties() -> Properties:
    context = _udev()

    def properties(number: str) -> Mapping[str, str]:
        major, _, minor = number.partition(":")
        if context is None or not (major + minor).isdigit():
            return {}
        try:
            device = pyudev.Devices.from_device_number(context, "block", os.makedev(int(major), int(minor)))
            return dict(device.properties)
        except (pyudev.DeviceNotFoundError, OSError, UnicodeDecodeError):  # unplugged, or its name is no text
            return {}

    return properties


def _attribute(folder: Path, name: str) -> str:
    """A sysfs attribute without the space around it; "" when it cannot be read, for whatever reason."""
    try:
        return (folder / name).read_bytes().decode("utf-8", "replace").strip(" \t\n\0")
    except OSError:
        return ""


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def _listing(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []


def _clean(text: str) -> str:
    """A name a device gives itself, made fit for a terminal and for typing."""
    return "".join(character if character.isprintable() else "_" for character in text.strip())


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
            found.append(Mount(fields[2], _unescape(fields[4]), kinds[0], _unescape(kinds[1])))
    return tuple(found)


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


class _Machine:
    """What the kernel and udev say; mounts, swaps and loop devices are read once, when it is made."""

    def __init__(self, root: Path, properties: Properties | None) -> None:
        self._root = root
        self._blocks = root / "sys/class/block"
        self._properties = properties or (_udev_properties() if root == ROOT else lambda _number: {})
        self._numbers = {_attribute(self.folder(name), "dev"): name for name in self.names()}
        self._paths = {self.path(name): name for name in self.names()}
        self._mounts: dict[str, set[str]] = {}
        self._users: dict[str, set[str]] = {}  # by name of the device: what sysfs's holders do not tell
        self._read_mounts()
        self._read_btrfs()
        self._read_swaps()
        self._loops = {
            _attribute(self.folder(name), "loop/backing_file"): name for name in self.names() if name.startswith("loop")
        }

    def names(self) -> list[str]:
        """The kernel's names of all block devices, partitions among them."""
        return _listing(self._blocks)

    def folder(self, name: str) -> Path:
        """The device's own folder in sysfs."""
        return Path(os.path.realpath(self._blocks / name))

    def is_shown(self, name: str) -> bool:
        """Whether it is a whole device that programs may open."""
        folder = self.folder(name)
        return not (folder / "partition").exists() and _attribute(folder, "hidden") != "1"

    def name_of(self, number: str) -> str | None:
        """The kernel's name of the device with this number."""
        return self._numbers.get(number)

    def path(self, name: str) -> str:
        """The device's node; the kernel writes `/` in names as `!`."""
        return "/dev/" + name.replace("!", "/")

    def device(self, name: str, *, even_if_fixed: bool = False) -> BlockDevice:
        """The record of a whole device. Inner disks are only read when one of them is asked for: they may sleep."""
        folder, path = self.folder(name), self.path(name)
        number = _attribute(folder, "dev")
        kind, bus = self._kind(name), self._bus(name)
        udev = self._properties(number)
        sector_bytes = _whole(_attribute(folder, "queue/logical_block_size")) or 512
        device = BlockDevice(
            path=path,
            kind=kind,
            size_bytes=0,
            name=name,
            major_minor=number,
            model=_clean(self._model(folder, bus) or _plain(udev.get("ID_MODEL_ENC", ""))),
            serial=_clean(
                self._serial(folder, bus) or udev.get("ID_SERIAL_SHORT", "") or udev.get("ID_SCSI_SERIAL", "")
            ),
            sector_bytes=sector_bytes,
            bus=bus or udev.get("ID_BUS", ""),
            removable=_attribute(folder, "removable") == "1",
            uses=tuple(self.uses(name)),
            **self.rights(path),  # type: ignore[arg-type] # a dict of three fields
        )
        content, medium, problem = None, True, "" if self._node(path).exists() else "it has no node in this /dev"
        if device.readable and (is_candidate(device) or (even_if_fixed and kind in ("disk", "loop"))):
            try:
                content = _read_content(self._node(path), sector_bytes=sector_bytes)
            except OSError as error:
                medium = error.errno != errno.ENOMEDIUM
                problem = (error.strerror or str(error)) if medium else ""
        size = _whole(_attribute(folder, "size"))  # only now: opening it is what makes the kernel look for a medium
        medium = medium and size != 0
        device = replace(
            device,
            size_bytes=(size or 0) * SYSFS_SECTOR_BYTES if medium else 0,
            medium=medium,
            read_only=_attribute(folder, "ro") != "0",
            problem=problem,
        )
        return self.with_content(device, content, udev)

    def with_content(self, device: BlockDevice, content: _Content | None, udev: Mapping[str, str]) -> BlockDevice:
        """`device` with table and volumes: the kernel's partitions, what was read, else what udev knows."""
        signature = content.signature if content else _udev_signature(udev)
        table = content.table if content else udev.get("ID_PART_TABLE_TYPE", "")
        data = content.data if content else device.medium
        found = content.partitions if content else {}
        volumes = [] if signature is None else [_whole_volume(device.path, device.size_bytes, signature)]
        names = self._partitions(device.name) if device.kind != "image" else []
        parts = {self._partition_number(name): name for name in names}
        for number in sorted(parts.keys() | found.keys()):
            signature = content.signatures.get(number) if content else None
            volumes.append(self._volume(device, number, parts.get(number), found.get(number), signature))
        uses = (*device.uses, *(use for volume in volumes if volume.number == 0 for use in volume.uses))
        return replace(device, table=table, volumes=tuple(volumes), data=data or bool(parts), uses=_once(uses))

    def _volume(
        self, disk: BlockDevice, number: int, name: str | None, partition: Partition | None, read: Signature | None
    ) -> Volume:
        folder = self.folder(name) if name is not None else None
        udev = self._properties(_attribute(folder, "dev")) if folder is not None else {}
        signature = read or _udev_signature(udev)
        if folder is not None:
            start = (_whole(_attribute(folder, "start")) or 0) * SYSFS_SECTOR_BYTES
            length = (_whole(_attribute(folder, "size")) or 0) * SYSFS_SECTOR_BYTES
        else:
            assert partition is not None
            start, length = partition.start_sector * disk.sector_bytes, partition.sectors * disk.sector_bytes
        uses = self.uses(name) if name is not None else []
        return Volume(
            path=self.path(name) if name is not None else disk.path,
            number=number,
            offset_bytes=start,
            size_bytes=length,
            type=partition.type if partition else udev.get("ID_PART_ENTRY_TYPE", "").removeprefix("0x").upper(),
            name=partition.name if partition else _uevent(folder).get("PARTNAME", ""),
            fs=signature.fs if signature else "",
            label=signature.label if signature else "",
            uuid=signature.uuid if signature else "",
            uses=_once((*uses, *_uses_of_signature(signature))),
        )

    def uses(self, name: str) -> list[str]:
        """What the system does with a device itself, its partitions not counted; what lies on top of it is."""
        return list(dict.fromkeys(self._walk(name, set())))

    def _walk(self, name: str, seen: set[str]) -> Iterator[str]:
        if name in seen:
            return
        seen.add(name)
        folder = self.folder(name)
        yield from sorted(f"mounted at {point}" for point in self._mounts.get(_attribute(folder, "dev"), ()))
        yield from sorted(self._users.get(name, ()))
        holders = _listing(folder / "holders")
        if loop := self._loops.get(self.path(name)):
            holders.append(loop)
        for holder in holders:
            known_as = _attribute(self.folder(holder), "dm/name")
            yield f"held by {holder}" + (f" ({_clean(known_as)})" if known_as else "")
            yield from self._walk(holder, seen)
            for part in self._partitions(holder):
                yield from self._walk(part, seen)

    def loop_on(self, path: str) -> str | None:
        """The loop device whose backing file is `path`."""
        return self._loops.get(path)

    def below(self, number: str) -> set[str]:
        """The paths of the device with this number and of all that it lies on, whole disks among them."""
        names, found = [self._numbers[number]] if number in self._numbers else list(self._sources_of(number)), set()
        while names:
            name = names.pop()
            if self.path(name) in found:
                continue
            found.add(self.path(name))
            folder = self.folder(name)
            names += _listing(folder / "slaves")
            if (folder / "partition").exists():
                names.append(folder.parent.name)
        return found

    def _sources_of(self, number: str) -> Iterator[str]:
        """The devices behind a file system that has a number of its own, as every btrfs has."""
        mountinfo = _attribute(self._root, "proc/self/mountinfo")
        sources = {mount.source for mount in parse_mountinfo(mountinfo) if mount.number == number}
        names = {name for source in sources for name in self._names_in(source)}
        yield from names
        for members in self._btrfs_members():
            if names & set(members):
                yield from members

    def _names_in(self, source: str) -> Iterator[str]:
        """The devices in the source of a mount; bcachefs writes several, with colons between them."""
        for piece in source.split(":"):
            node = os.path.relpath(os.path.realpath(self._node(piece)), os.path.realpath(self._root))
            if f"/{node}" in self._paths:
                yield self._paths[f"/{node}"]

    def _read_mounts(self) -> None:
        if not os.access(self._root / "proc/self/mountinfo", os.R_OK):
            message = "what is mounted cannot be told: /proc/self/mountinfo cannot be read"
            raise LivebuilderError(message, hint="mount -t proc proc /proc")
        # Those of process 1 too, if they may be read: a stick can be mounted in another namespace than ours.
        for process in ("self", "1"):
            for mount in parse_mountinfo(_attribute(self._root, f"proc/{process}/mountinfo")):
                self._mounts.setdefault(mount.number, set()).add(mount.point)
                if mount.number.startswith("0:"):
                    for name in self._names_in(mount.source):
                        self._users.setdefault(name, set()).add(f"mounted at {mount.point}")

    def _btrfs_members(self) -> list[list[str]]:
        folder = self._root / "sys/fs/btrfs"
        return [_listing(folder / uuid / "devices") for uuid in _listing(folder)]

    def _read_btrfs(self) -> None:
        """A mounted btrfs names one of its disks in mountinfo, and all of them in /sys/fs/btrfs/UUID/devices."""
        for members in self._btrfs_members():
            users = {use for name in members for use in self._users.get(name, ())} or {"held by a btrfs file system"}
            for name in members:
                self._users.setdefault(name, set()).update(users)

    def _read_swaps(self) -> None:
        for line in _attribute(self._root, "proc/swaps").splitlines()[1:]:
            path = _unescape(line.split()[0]) if line.strip() else ""
            for name in self._names_in(path):
                self._users.setdefault(name, set()).add("swap in use")

    def _partitions(self, name: str) -> list[str]:
        folder = self.folder(name)
        return [entry for entry in _listing(folder) if (folder / entry / "partition").exists()]

    def _partition_number(self, name: str) -> int:
        return _whole(_attribute(self.folder(name), "partition")) or 0

    def _kind(self, name: str) -> Kind:
        kind: Kind = next((kind for pattern, kind in _KINDS if re.fullmatch(pattern, name)), "other")
        folder = self.folder(name)
        if kind == "disk" and name.startswith("sd") and _attribute(folder, "device/type") not in _SCSI_DISKS:
            return "other"
        return kind

    def _bus(self, name: str) -> str:
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
        return _attribute(folder, "device/type") == "MMC" and (self._blocks / f"{name}boot0").exists()

    def _usb_device(self, folder: Path) -> Path | None:
        return next((parent for parent in folder.parents if (parent / "idVendor").exists()), None)

    def _model(self, folder: Path, bus: str) -> str:
        if bus in ("mmc", "emmc"):
            return _attribute(folder, "device/name")
        model = _attribute(folder, "device/model")
        vendor = _attribute(folder, "device/vendor")
        # Behind SATA the vendor is "ATA"; of virtio it is a number.
        return f"{vendor} {model}" if model and vendor not in ("", "ATA") and not vendor.startswith("0x") else model

    def _serial(self, folder: Path, bus: str) -> str:
        """The serial number: of the USB device, of the card or controller, else SCSI's page 0x80 (SPC-4, 7.8.15)."""
        usb = self._usb_device(folder) if bus == "usb" else None
        return (
            (_attribute(usb, "serial") if usb is not None else "")
            or _attribute(folder, "device/serial")
            or _attribute(folder, "serial")
            or _attribute(folder, "device/wwid") * (bus == "nvme")
            or _serial_page(folder / "device/vpd_pg80")
        )

    def _node(self, path: str) -> Path:
        return self._root / path.removeprefix("/")

    def rights(self, path: str) -> dict[str, object]:
        """What the caller may do with the node, and the group whose members may use it."""
        node = self._node(path)
        return {"readable": os.access(node, os.R_OK), "writable": os.access(node, os.W_OK), "group": _group(node)}


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


def _uevent(folder: Path | None) -> dict[str, str]:
    lines = _attribute(folder, "uevent").splitlines() if folder is not None else []
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _group(node: Path) -> str:
    """The group whose members may read and write `node`, or "" when there is none."""
    try:
        facts = node.stat()
        may = stat.S_IRGRP | stat.S_IWGRP
        return grp.getgrgid(facts.st_gid).gr_name if facts.st_mode & may == may else ""
    except (OSError, KeyError):
        return ""


def _plain(encoded: str) -> str:
    r"""udev's ID_…_ENC, in which what is not plain is written `\x20`."""
    raw = re.sub(r"\\x([0-9a-fA-F]{2})", lambda match: chr(int(match[1], 16)), encoded)
    return raw.encode("latin-1", "replace").decode("utf-8", "replace").strip()


def _once(uses: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(uses))


def _whole_volume(path: str, size_bytes: int, signature: Signature) -> Volume:
    return Volume(
        path=path,
        number=0,
        offset_bytes=0,
        size_bytes=size_bytes,
        fs=signature.fs,
        label=signature.label,
        uuid=signature.uuid,
        uses=_uses_of_signature(signature),
    )


def _as_device(volume: Volume, disk: BlockDevice, machine: _Machine) -> BlockDevice:
    """A partition as a device of its own, with the identity of the disk it is on."""
    name = Path(volume.path).name
    folder = machine.folder(name)
    others = (use for other in disk.volumes if other.number != volume.number for use in other.uses)
    return replace(
        disk,
        path=volume.path,
        kind="partition",
        size_bytes=volume.size_bytes,
        name=name,
        major_minor=_attribute(folder, "dev"),
        read_only=_attribute(folder, "ro") != "0",
        table="",
        volumes=(replace(volume, offset_bytes=0),),
        uses=volume.uses,
        disk_uses=_once((*disk.uses, *others)),
        parent=disk.path,
        **machine.rights(volume.path),  # type: ignore[arg-type] # a dict of three fields
    )


def _image(path: Path, machine: _Machine) -> BlockDevice:
    path = Path(os.path.realpath(path))  # one file, one name
    readable = os.access(path, os.R_OK)
    content, problem = None, ""
    if readable:
        try:
            content = _read_content(path, sector_bytes=512)
        except OSError as error:
            problem = error.strerror or str(error)
    size_bytes = path.stat().st_size
    loop = machine.loop_on(str(path))
    device = BlockDevice(
        path=str(path),
        kind="image",
        size_bytes=size_bytes,
        name=path.name,
        read_only=os.statvfs(path).f_flag & os.ST_RDONLY != 0,
        uses=_once((f"held by {loop}", *machine.uses(loop))) if loop else (),
        readable=readable,
        writable=os.access(path, os.W_OK),
        problem=problem,
    )
    return machine.with_content(device, content, {})


# What stands on a disk


@dataclass(frozen=True)
class Signature:
    """What a file system, or a member of something larger, says of itself. `fs` is blkid's word for it."""

    fs: str
    label: str = ""
    uuid: str = ""


@dataclass(frozen=True, kw_only=True)
class _Content:
    """What was read from a disk. `data`: it is not all zeros where tables and file systems begin."""

    data: bool
    signature: Signature | None
    table: str
    partitions: Mapping[int, Partition]
    signatures: Mapping[int, Signature]


_TAIL_STEP = 256 * KIB  # of a ZFS label; the tail read holds two of them and whatever comes after
_EXTENDED = {"5", "F", "85"}  # partitions of a DOS table that only hold others
_FLOPPY_LIKE = {"vfat", "exfat", "ntfs"}  # their boot sectors end like a DOS table's


def _read_content(node: Path, *, sector_bytes: int) -> _Content:
    """What is on the disk or image file `node`. Raises `OSError`."""
    descriptor = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        head, tail = _ends(descriptor, 0, size)
        signature = parse_signature(head, tail, size_bytes=size)
        table, partitions = _read_table(node)
        if signature is not None and signature.fs in _FLOPPY_LIKE and not partitions:
            table = ""
        signatures: dict[int, Signature] = {}
        for number, partition in partitions.items():
            start, length = partition.start_sector * sector_bytes, partition.sectors * sector_bytes
            if partition.type not in _EXTENDED:
                found = parse_signature(*_ends(descriptor, start, length), size_bytes=length)
                signatures |= {number: found} if found is not None else {}
    finally:
        os.close(descriptor)
    data = bool(partitions) or any(part.count(0) != len(part) for part in (head, tail))
    return _Content(data=data, signature=signature, table=table, partitions=partitions, signatures=signatures)


def _ends(descriptor: int, start: int, length: int) -> tuple[bytes, bytes]:
    tail_from = _tail_start(length)
    head = os.pread(descriptor, min(_HEAD_BYTES, length), start)
    return head, os.pread(descriptor, length - tail_from, start + tail_from)


def _tail_start(length: int) -> int:
    return max(0, length // _TAIL_STEP * _TAIL_STEP - 2 * _TAIL_STEP)


def _read_table(node: Path) -> tuple[str, dict[int, Partition]]:
    try:
        with open_disk(node) as disk:
            return disk.label or "", {partition.number: partition for partition in disk.partitions()}
    except FdiskError:  # too small for libfdisk, for one
        return "", {}


# (name, offset in bytes, magic). Members of something larger come first: what they hold begins like a file system.
_LVM = tuple(("LVM2_member", 512 * sector, b"LABELONE") for sector in range(4))
_SWAP = tuple(
    (name, page - 10, magic)
    for page in (4096, 8192, 16384, 65536)
    for name, magic in (("swap", b"SWAPSPACE2"), ("swap", b"SWAP-SPACE"), ("swsuspend", b"S1SUSPEND\0"))
)
_MAGICS: tuple[tuple[str, int, bytes], ...] = (
    *_LVM,
    ("crypto_LUKS", 0, b"LUKS\xba\xbe"),
    ("linux_raid_member", 0, b"\xfc\x4e\x2b\xa9"),
    ("linux_raid_member", 4096, b"\xfc\x4e\x2b\xa9"),
    ("bcache", 4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
    ("ceph_bluestore", 0, b"bluestore block device"),
    ("stratis", 512, b"!Stra0tis\x86\xff\x02^\x41rh"),
    *_SWAP,
)
_PLAIN_MAGICS: tuple[tuple[str, int, bytes], ...] = (
    ("xfs", 0, b"XFSB"),
    ("squashfs", 0, b"hsqs"),
    ("apfs", 32, b"NXSB"),
    ("hfsplus", 1024, b"H+"),
    ("hfsplus", 1024, b"HX"),
    ("reiserfs", 65536 + 52, b"ReIsEr"),
    ("udf", 32769, b"BEA01"),
    ("BitLocker", 3, b"-FVE-FS-"),
    ("ntfs", 3, b"NTFS    "),
    ("exfat", 3, b"EXFAT   "),
)
_HEAD_BYTES = MIB + 256 * KIB  # a table, every magic above, and the beginning of a partition at 1 MiB


def parse_signature(head: bytes, tail: bytes, *, size_bytes: int) -> Signature | None:
    """What begins in `head` (as much as there is of the first 1.25 MiB) and ends in `tail`, or None.

    `tail` is what follows the last but two multiples of 256 KiB in `size_bytes`. Magics and places: Linux's
    include/uapi/linux/raid/md_p.h, include/linux/swap.h, drivers/md/bcache; LVM2's label.h; the LUKS specification;
    the ZFS on-disk format, chapter 1; ECMA-119, 8; Microsoft's FAT specification, 3.
    """
    member = next((name for name, at, magic in _MAGICS if head[at : at + len(magic)] == magic), None)
    if member is not None:
        return _swap(head) if member == "swap" and head[4086:4096] == b"SWAPSPACE2" else Signature(member)
    if raid := _raid_at_the_end(tail, size_bytes):
        return Signature(raid)
    if _has_uberblock(head) or _has_uberblock(tail):
        return Signature("zfs_member")
    if superblock := parse_superblock(head):
        return Signature(superblock.type, superblock.label, superblock.uuid)
    plain = next((name for name, at, magic in _PLAIN_MAGICS if head[at : at + len(magic)] == magic), None)
    if plain is not None:
        return Signature(plain)
    if head[32769:32774] == b"CD001":
        return Signature("iso9660", head[32808:32840].decode("latin-1").rstrip(" \0"))
    return _fat(head)


def _swap(head: bytes) -> Signature:
    return Signature("swap", _text(head[1052:1068]), str(UUID(bytes=head[1036:1052])))


def _raid_at_the_end(tail: bytes, size_bytes: int) -> str | None:
    """Members whose record is at the end: md 0.90 and 1.0, and what firmware RAID writes."""
    places = (
        ("linux_raid_member", size_bytes // (64 * KIB) * 64 * KIB - 64 * KIB, b"\xfc\x4e\x2b\xa9"),
        ("linux_raid_member", (size_bytes // 512 - 16) // 8 * 8 * 512, b"\xfc\x4e\x2b\xa9"),
        ("isw_raid_member", size_bytes - 1024, b"Intel Raid ISM Cfg Sig. "),
        ("ddf_raid_member", size_bytes - 512, b"\xde\x11\xde\x11"),
    )
    start = _tail_start(size_bytes)
    return next((name for name, at, magic in places if at >= start and tail.startswith(magic, at - start)), None)


def _has_uberblock(labels: bytes) -> bool:
    """Whether the second half of a ZFS label has an uberblock; there is one in every KiB, in either byte order."""
    magics = (struct.pack("<Q", 0x00BAB10C), struct.pack(">Q", 0x00BAB10C))
    return any(
        labels[at : at + 8] in magics
        for label in (0, _TAIL_STEP)
        for at in range(label + _TAIL_STEP // 2, label + _TAIL_STEP, KIB)
    )


def _fat(head: bytes) -> Signature | None:
    if head[510:512] != b"\x55\xaa" or head[:1] not in (b"\xeb", b"\xe9"):
        return None
    sector_bytes, _cluster, _reserved, fats = struct.unpack_from("<HBHB", head, 11)
    if sector_bytes not in (512, 1024, 2048, 4096) or fats not in (1, 2) or head[21] < 0xF0:
        return None
    at = 67 if head[82:87] == b"FAT32" else 39  # the volume's number, then its label
    label = head[at + 4 : at + 15].decode("latin-1").rstrip()
    number = f"{int.from_bytes(head[at : at + 4], 'little'):08X}"
    return Signature("vfat", "" if label == "NO NAME" else label, f"{number[:4]}-{number[4:]}")


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "replace")


def _udev_signature(udev: Mapping[str, str]) -> Signature | None:
    if not udev.get("ID_FS_TYPE"):
        return None
    return Signature(udev["ID_FS_TYPE"], _plain(udev.get("ID_FS_LABEL_ENC", "")), udev.get("ID_FS_UUID", ""))


def _uses_of_signature(signature: Signature | None) -> tuple[str, ...]:
    """What a device belongs to, by what stands on it, whether or not that is running now."""
    fs = signature.fs if signature else ""
    known = {
        "LVM2_member": "LVM member",
        "LVM1_member": "LVM member",
        "crypto_LUKS": "dm-crypt",
        "zfs_member": "ZFS member",
        "swap": "swap",
        "swsuspend": "swap (a hibernated system)",
        "bcache": "bcache member",
        "ceph_bluestore": "Ceph member",
        "stratis": "Stratis member",
        "drbd": "DRBD member",
        "VMFS_volume_member": "VMFS member",
    }
    if fs in known:
        return (known[fs],)
    return ("RAID member",) if fs.endswith("_raid_member") else ()
