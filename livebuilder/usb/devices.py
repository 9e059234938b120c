"""The block devices of this machine, and image files, read into records (`livebuilder.usb.blockdevice`).

Hard facts come from the kernel: sysfs (Documentation/ABI/stable/sysfs-block, Documentation/ABI/testing/sysfs-bus-usb),
/proc/self/mountinfo and /proc/swaps (proc(5)). What stands on a disk is read from the disk where the caller may read
it; otherwise it is what udev (pyudev) knows. Nothing here needs udevd, and nothing here writes.

Every reader takes the folder that stands for `/`, so that a captured tree is read like a running system. Whatever
cannot be read is unknown, never "no": a stick may be pulled out between any two lines, and the rules in
`livebuilder.usb.constraints` refuse what is unknown.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from livebuilder.errors import LivebuilderError
from livebuilder.usb.blockdevice import BlockDevice, Volume, is_candidate
from livebuilder.usb.fdisk import Partition
from livebuilder.usb.layout import Layout, read_layout
from livebuilder.usb.signature import Signature, uses_of
from livebuilder.usb.sysfs import ROOT, SECTOR_BYTES, Sysfs, clean, whole_number
from livebuilder.usb.udev import Properties, plain, udev_properties, udev_signature
from livebuilder.usb.uses import Uses


def list_devices(root: Path = ROOT, *, properties: Properties | None = None) -> tuple[BlockDevice, ...]:
    """All whole block devices, by name. `properties` takes the place of udev's; for another root there are none.

    Raises `LivebuilderError` when the kernel does not say what is mounted.
    """
    machine = _Machine(root, properties)
    sysfs = machine.sysfs
    found = [machine.device(name) for name in sysfs.names() if sysfs.is_shown(name)]
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
    name = machine.sysfs.name_of(number)
    if name is not None:
        if not machine.sysfs.is_partition(name):
            return machine.device(name, even_if_fixed=True)
        disk = machine.device(machine.sysfs.folder(name).parent.name, even_if_fixed=True)
        for volume in disk.volumes:
            if volume.number and volume.path == machine.sysfs.path(name):
                return _as_device(volume, name, disk, machine.sysfs)
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
    below = Uses(Sysfs(root)).below(f"{os.major(number)}:{os.minor(number)}")
    return (os.path.realpath(path), *sorted(below))


class _Machine:
    """What the kernel and udev say of the system whose `/` is `root`, at one moment."""

    def __init__(self, root: Path, properties: Properties | None) -> None:
        self.sysfs = Sysfs(root)
        self.uses = Uses(self.sysfs)
        self._properties = properties or (udev_properties() if root == ROOT else lambda _number: {})

    def device(self, name: str, *, even_if_fixed: bool = False) -> BlockDevice:
        """The record of a whole device. Inner disks are only read when one of them is asked for: they may sleep."""
        sysfs = self.sysfs
        path, number, kind, bus = sysfs.path(name), sysfs.number(name), sysfs.kind(name), sysfs.bus(name)
        udev = self._properties(number)
        sector_bytes = whole_number(sysfs.attribute(name, "queue/logical_block_size")) or 512
        serial = sysfs.serial(name) or udev.get("ID_SERIAL_SHORT", "") or udev.get("ID_SCSI_SERIAL", "")
        device = BlockDevice(
            path=path,
            kind=kind,
            size_bytes=0,
            name=name,
            major_minor=number,
            model=clean(sysfs.model(name) or plain(udev.get("ID_MODEL_ENC", ""))),
            serial=clean(serial),
            sector_bytes=sector_bytes,
            bus=bus or udev.get("ID_BUS", ""),
            removable=sysfs.attribute(name, "removable") == "1",
            uses=tuple(self.uses.of(name)),
            **sysfs.rights(path),
        )
        node = sysfs.node(path)
        layout, medium, problem = None, True, "" if node.exists() else "it has no node in this /dev"
        if device.readable and (is_candidate(device) or (even_if_fixed and kind in ("disk", "loop"))):
            try:
                layout = read_layout(node, sector_bytes=sector_bytes)
            except OSError as error:
                medium = error.errno != errno.ENOMEDIUM
                problem = (error.strerror or str(error)) if medium else ""
        # Only now: opening it is what makes the kernel look for a medium.
        size = whole_number(sysfs.attribute(name, "size"))
        medium = medium and size != 0
        device = replace(
            device,
            size_bytes=(size or 0) * SECTOR_BYTES if medium else 0,
            medium=medium,
            read_only=sysfs.attribute(name, "ro") != "0",
            problem=problem,
        )
        return self.with_layout(device, layout, udev)

    def with_layout(self, device: BlockDevice, layout: Layout | None, udev: Mapping[str, str]) -> BlockDevice:
        """`device` with table and volumes: the kernel's partitions, what was read, else what udev knows."""
        signature = layout.signature if layout else udev_signature(udev)
        table = layout.table if layout else udev.get("ID_PART_TABLE_TYPE", "")
        data = layout.data if layout else device.medium
        found = layout.partitions if layout else {}
        volumes = [] if signature is None else [_whole_volume(device.path, device.size_bytes, signature)]
        names = self.sysfs.partitions(device.name) if device.kind != "image" else []
        parts = {self.sysfs.partition_number(name): name for name in names}
        for number in sorted(parts.keys() | found.keys()):
            signature = layout.signatures.get(number) if layout else None
            volumes.append(self._volume(device, number, parts.get(number), found.get(number), signature))
        uses = (*device.uses, *(use for volume in volumes if volume.number == 0 for use in volume.uses))
        return replace(device, table=table, volumes=tuple(volumes), data=data or bool(parts), uses=_once(uses))

    def _volume(
        self, disk: BlockDevice, number: int, name: str | None, partition: Partition | None, read: Signature | None
    ) -> Volume:
        sysfs = self.sysfs
        udev = self._properties(sysfs.number(name)) if name is not None else {}
        signature = read or udev_signature(udev)
        if name is not None:
            start = (whole_number(sysfs.attribute(name, "start")) or 0) * SECTOR_BYTES
            length = (whole_number(sysfs.attribute(name, "size")) or 0) * SECTOR_BYTES
        else:
            assert partition is not None
            start, length = partition.start_sector * disk.sector_bytes, partition.sectors * disk.sector_bytes
        uses = self.uses.of(name) if name is not None else []
        known_as = sysfs.partition_name(name) if name is not None else ""
        return Volume(
            path=sysfs.path(name) if name is not None else disk.path,
            number=number,
            offset_bytes=start,
            size_bytes=length,
            type=partition.type if partition else udev.get("ID_PART_ENTRY_TYPE", "").removeprefix("0x").upper(),
            name=partition.name if partition else known_as,
            fs=signature.fs if signature else "",
            label=signature.label if signature else "",
            uuid=signature.uuid if signature else "",
            uses=_once((*uses, *uses_of(signature))),
        )


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
        uses=uses_of(signature),
    )


def _as_device(volume: Volume, name: str, disk: BlockDevice, sysfs: Sysfs) -> BlockDevice:
    """A partition as a device of its own, with the identity of the disk it is on."""
    others = (use for other in disk.volumes if other.number != volume.number for use in other.uses)
    return replace(
        disk,
        path=volume.path,
        kind="partition",
        size_bytes=volume.size_bytes,
        name=name,
        major_minor=sysfs.number(name),
        read_only=sysfs.attribute(name, "ro") != "0",
        table="",
        volumes=(replace(volume, offset_bytes=0),),
        uses=volume.uses,
        disk_uses=_once((*disk.uses, *others)),
        parent=disk.path,
        **sysfs.rights(volume.path),
    )


def _image(path: Path, machine: _Machine) -> BlockDevice:
    path = Path(os.path.realpath(path))  # one file, one name
    readable = os.access(path, os.R_OK)
    layout, problem = None, ""
    if readable:
        try:
            layout = read_layout(path, sector_bytes=512)
        except OSError as error:
            problem = error.strerror or str(error)
    size_bytes = path.stat().st_size
    loop = machine.uses.loop_on(str(path))
    device = BlockDevice(
        path=str(path),
        kind="image",
        size_bytes=size_bytes,
        name=path.name,
        read_only=os.statvfs(path).f_flag & os.ST_RDONLY != 0,
        uses=_once((f"held by {loop}", *machine.uses.of(loop))) if loop else (),
        readable=readable,
        writable=os.access(path, os.W_OK),
        problem=problem,
    )
    return machine.with_layout(device, layout, {})
