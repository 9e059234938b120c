"""Whole machines as tests/captures/record.sh took them down: a real kernel, a real udev, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from livebuilder.usb.blockdevice import BlockDevice
from livebuilder.usb.constraints import judge, may_use
from livebuilder.usb.devices import list_devices
from tests.support.sysfs import write_tree

RECORDED = Path(__file__).parents[2] / "captures"

# Linux 6.1 with udev 252 in QEMU: an array, a volume group, swap, an encrypted disk, a mounted stick.
# path: kind, bus, serial, removable, uses of it and its volumes, codes of what speaks against `usb prepare`
QEMU: Mapping[str, tuple[str, str, str, bool, set[str], set[str]]] = {
    "/dev/sda": ("disk", "usb", "LIVEBUILDER1", True, {"mounted at /tmp/stick"}, {"mounted", "data"}),
    "/dev/sdb": ("disk", "virtio", "SCSI0001", False, set(), {"not-removable", "data"}),
    "/dev/sdc": (
        "disk", "ata", "ATA-0001", False, {"held by md127", "mounted at /tmp/home", "RAID member"},
        {"not-removable", "held", "mounted", "raid", "data"},
    ),
    "/dev/sdd": (
        "disk", "ata", "ATA-0002", False, {"held by dm-0 (vg-data)", "mounted at /tmp/data", "LVM member"},
        {"not-removable", "held", "mounted", "lvm", "data"},
    ),
    "/dev/sde": ("disk", "usb", "27842-0000:00:02.0-2", False, set(), {"data"}),
    "/dev/sr0": ("cdrom", "usb", "1-0000:00:02.0-3", True, set(), {"not-a-disk"}),
    "/dev/sr1": ("cdrom", "ata", "QM00003", True, set(), {"not-a-disk"}),
    "/dev/vda": (
        "disk", "virtio", "VBLK0001", False, {"swap in use", "swap"}, {"not-removable", "swap", "data"},
    ),
    "/dev/dm-0": ("device-mapper", "", "", False, {"mounted at /tmp/data"}, {"not-a-disk", "mounted"}),
    "/dev/md127": ("raid", "", "", False, {"mounted at /tmp/home"}, {"not-a-disk", "mounted"}),
    "/dev/mmcblk0": ("disk", "mmc", "0xdeadbeef", False, set(), {"data"}),
    "/dev/nvme0n1": ("disk", "nvme", "NVME0001", False, {"dm-crypt"}, {"not-removable", "dm-crypt", "data"}),
}  # fmt: skip


def recorded(name: str, root: Path) -> dict[str, BlockDevice]:
    """The devices of a recorded machine by path; its tree is written below `root`."""
    udev: dict[str, dict[str, str]] = {}
    tree = []
    for line in (RECORDED / name).read_text().splitlines():
        if line.startswith("udev "):
            _word, number, fact = line.split(" ", 2)
            key, _, value = fact.partition("=")
            udev.setdefault(number, {})[key] = value
        else:
            tree.append(line)
    devices = list_devices(write_tree(root, "\n".join(tree)), properties=lambda number: udev.get(number, {}))
    return {device.path: device for device in devices}


@pytest.fixture(scope="module")
def qemu(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BlockDevice]:
    return recorded("qemu-linux-6.1.txt", tmp_path_factory.mktemp("qemu"))


@pytest.mark.parametrize("path", QEMU)
def test_a_machine_with_one_of_each(qemu: dict[str, BlockDevice], path: str) -> None:
    device = qemu[path]
    kind, bus, serial, removable, uses, codes = QEMU[path]
    assert (device.kind, device.bus, device.serial, device.removable) == (kind, bus, serial, removable)
    assert {*device.uses, *(use for volume in device.volumes for use in volume.uses)} == uses
    assert {finding.code for finding in judge(device, purpose="prepare")} == codes | (
        {"unreadable"} if kind == "disk" else set()
    )


def test_nothing_of_it_may_be_used_but_what_is_meant_for_it(qemu: dict[str, BlockDevice]) -> None:
    assert set(qemu) - set(QEMU) == {f"/dev/loop{number}" for number in range(8)}
    there = {path: replace(device, readable=True, writable=True, problem="") for path, device in qemu.items()}
    usable = {path for path, device in there.items() if may_use(judge(device, purpose="prepare"))}
    assert usable == {"/dev/sde", "/dev/mmcblk0"}


def test_a_small_virtual_machine_without_udev(tmp_path: Path) -> None:
    devices = recorded("firecracker.txt", tmp_path)
    disk = devices["/dev/vda"]
    assert (disk.kind, disk.bus, disk.serial, disk.uses) == ("disk", "virtio", "overlayblk", ("mounted at /",))
    assert devices["/dev/zram0"].kind == "memory"
    assert not any(may_use(judge(device, purpose="prepare")) for device in devices.values())
