"""One table per rule; a row is a device that differs from a good stick in what the row names."""

from __future__ import annotations

import io
import json
import random
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from livebuilder.cli.usb import prepare_stick
from livebuilder.errors import LivebuilderError
from livebuilder.sizes import GIB, MIB
from livebuilder.usb.blockdevice import BlockDevice, Kind, Volume
from livebuilder.usb.constraints import (
    CODES_OF_USES,
    IMPORTANCE,
    LARGE_BYTES,
    SYSTEM_MOUNTS,
    Finding,
    Level,
    Purpose,
    erase_accepted,
    is_our_image,
    judge,
    may_use,
    needs_erase,
    render_devices,
    to_json,
)
from livebuilder.usb.devices import describe, list_devices
from livebuilder.usb.plan import StickIdentity, plan_stick
from livebuilder.usb.stick import make_stick_image
from tests.support.sysfs import CAPTURES, Capture, write_tree

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
KINDS: tuple[Kind, ...] = get_args(Kind)
WRITING: tuple[Purpose, ...] = ("prepare", "write", "adopt", "restore", "reset")
READING: tuple[Purpose, ...] = ("check", "backup", "diff")

STICK = BlockDevice(
    path="/dev/sdb", kind="disk", name="sdb", major_minor="8:16", model="SanDisk Ultra", serial="4C530001230519112345",
    size_bytes=16 * 10**9, bus="usb", removable=True, data=False, group="disk",
)  # fmt: skip
IMAGE = BlockDevice(path="/home/anna/stick.img", kind="image", name="stick.img", size_bytes=64 * MIB, data=False)


def volume(number: int = 1, *uses: str, **facts: Any) -> Volume:
    path = facts.pop("path", f"/dev/sdb{number or ''}")
    return Volume(path=path, number=number, offset_bytes=MIB, size_bytes=8 * 10**9, uses=uses, **facts)


def stick(*volumes: Volume, **facts: Any) -> BlockDevice:
    return replace(STICK, volumes=volumes, data=facts.pop("data", bool(volumes)), **facts)


def part(*uses: str, **facts: Any) -> BlockDevice:
    own = volume(1, *uses, fs="ext4", label="rootfs_data")
    return replace(STICK, path="/dev/sdb1", kind="partition", parent="/dev/sdb", data=True, volumes=(own,), **facts)


def image(**facts: Any) -> BlockDevice:
    return replace(IMAGE, **facts)


def codes(device: BlockDevice, level: Level, **how: Any) -> set[str]:
    return {finding.code for finding in judge(device, **how) if finding.level == level}


# (what it is, the device, refusals for prepare, what needs --erase for prepare)
SAFETY: tuple[tuple[str, BlockDevice, str, str], ...] = (
    # What may be used
    ("an empty USB stick", stick(), "", ""),
    ("an SD card in a slot", stick(bus="mmc", removable=False, path="/dev/mmcblk0"), "", ""),
    ("a USB disk that is not removable for SCSI", stick(removable=False), "", ""),
    ("a stick of exactly the limit", stick(size_bytes=LARGE_BYTES), "", ""),
    ("a serial number of one character", stick(serial="7"), "", ""),
    ("a serial number with a space", stick(serial="MY STICK 1"), "", ""),
    ("a stick without a group", stick(group=""), "", ""),
    ("an unknown model", stick(model=""), "", ""),
    ("sectors of 4096 bytes", stick(sector_bytes=4096), "", ""),
    # What needs --erase
    ("a stick with FAT", stick(volume(fs="vfat", label="KEYS")), "", "data"),
    ("FAT without a table", stick(volume(0, fs="vfat")), "", "data"),
    ("NTFS", stick(volume(fs="ntfs")), "", "data"),
    ("a stick made earlier", stick(volume(fs="ext4", label="rootfs_data"), table="gpt"), "", "data"),
    ("a live USB", stick(volume(0, fs="iso9660", label="DEBIAN"), table="dos"), "", "data"),
    ("bytes of an unknown kind", stick(data=True), "", "data"),
    ("a table with an unformatted partition", stick(volume(), table="dos"), "", "data"),
    ("one byte above the limit", stick(size_bytes=LARGE_BYTES + 1), "", "large"),
    ("a USB disk of 1.6 TB", stick(volume(fs="ntfs"), size_bytes=1600 * 10**9, removable=False), "", "data large"),
    ("an inner disk in a hot-plug bay", stick(bus="ata"), "", "inner-bus"),
    ("removable on no known bus", stick(bus=""), "", "inner-bus"),
    ("a ZIP drive on SCSI", stick(volume(fs="vfat"), bus="scsi"), "", "data inner-bus"),
    ("a FireWire disk that says removable", stick(bus="firewire"), "", "inner-bus"),
    # Not a whole disk
    ("a partition", part(), "partition", "data"),
    ("a CD drive", stick(kind="cdrom", path="/dev/sr0"), "not-a-disk", ""),
    ("a CD drive on USB", stick(kind="cdrom", bus="usb", path="/dev/sr1"), "not-a-disk", ""),
    ("a floppy", stick(kind="floppy", bus="", serial="", path="/dev/fd0"), "not-a-disk", ""),
    ("a loop device", stick(kind="loop", bus="", removable=False), "not-a-disk", ""),
    ("a device-mapper device", stick(kind="device-mapper", removable=False), "not-a-disk", ""),
    ("a RAID", stick(kind="raid", bus="", removable=False), "not-a-disk", ""),
    ("zram", stick(kind="memory", bus="", removable=False), "not-a-disk", ""),
    ("a network disk", stick(kind="network", bus="", removable=False), "not-a-disk", ""),
    ("a boot area of eMMC", stick(kind="other", bus="emmc", removable=False), "not-a-disk", ""),
    ("an unknown kind on USB", stick(kind="other"), "not-a-disk", ""),
    # Not removable
    ("a SATA disk", stick(bus="ata", removable=False), "not-removable", ""),
    ("an NVMe disk", stick(bus="nvme", removable=False), "not-removable", ""),
    ("a virtio disk", stick(bus="virtio", removable=False), "not-removable", ""),
    ("soldered eMMC", stick(bus="emmc", removable=False), "not-removable", ""),
    ("an iSCSI disk", stick(bus="scsi", removable=False), "not-removable", ""),
    ("an unknown bus", stick(bus="", removable=False), "not-removable", ""),
    # In use
    ("the root on a stick", stick(volume(1, "mounted at /")), "system", "data"),
    ("the root without a table", stick(volume(0), uses=("mounted at /",)), "system", "data"),
    ("/boot on a stick", stick(volume(1, "mounted at /boot")), "system", "data"),
    ("/boot/efi on a stick", stick(volume(2, "mounted at /boot/efi")), "system", "data"),
    ("/home on a card", stick(volume(3, "mounted at /home"), bus="mmc"), "system", "data"),
    ("the live system's own stick", stick(volume(1, "mounted at /run/live/medium")), "system", "data"),
    ("the root in LUKS", stick(volume(2, "held by dm-0", "mounted at /", "dm-crypt")), "held system dm-crypt", "data"),
    ("a stick a desktop mounted", stick(volume(1, "mounted at /media/anna/KEYS", fs="vfat")), "mounted", "data"),
    ("mounted below /home", stick(volume(1, "mounted at /home/anna/stick")), "mounted", "data"),
    ("mounted twice", stick(volume(1, "mounted at /mnt", "mounted at /srv/x")), "mounted", "data"),
    ("mounted without a table", stick(uses=("mounted at /mnt",)), "mounted", ""),
    ("only the second partition mounted", stick(volume(1), volume(2, "mounted at /mnt")), "mounted", "data"),
    ("swap that is used", stick(volume(2, "swap in use", "swap")), "swap", "data"),
    ("swap that is not used", stick(volume(2, "swap")), "swap", "data"),
    ("a hibernated system", stick(volume(2, "swap (a hibernated system)")), "swap", "data"),
    ("an LVM member", stick(volume(1, "LVM member")), "lvm", "data"),
    ("a whole disk for LVM", stick(uses=("LVM member",), data=True), "lvm", "data"),
    ("an active LVM member", stick(volume(1, "held by dm-0 (vg-root)", "LVM member")), "held lvm", "data"),
    ("a RAID member", stick(volume(1, "RAID member")), "raid", "data"),
    ("a RAID with /srv on it", stick(uses=("held by md0", "mounted at /srv", "RAID member")), "held mounted raid", ""),
    ("a LUKS container", stick(volume(1, "dm-crypt")), "dm-crypt", "data"),
    ("a ZFS member", stick(volume(1, "ZFS member")), "zfs", "data"),
    ("a member of a bcache", stick(uses=("bcache member",)), "held", ""),
    ("a stick under a loop device", stick(uses=("held by loop0",)), "held", ""),
    ("a stick of a btrfs of two", stick(uses=("held by a btrfs file system",)), "held", ""),
    ("a use nobody has heard of", stick(uses=("reserved for later",)), "held", ""),
    # What it is, what is in it, who may write
    ("write-protected", stick(read_only=True), "read-only", ""),
    ("a reader without a card", stick(medium=False, size_bytes=0), "no-medium", ""),
    ("an unknown size", stick(size_bytes=0), "size-unknown", ""),
    ("a negative size", stick(size_bytes=-512), "size-unknown", ""),
    ("an unknown serial number", stick(serial=""), "serial-unknown", ""),
    ("nothing known at all", stick(serial="", bus="", removable=False, size_bytes=0, data=True),
     "serial-unknown not-removable size-unknown", "data"),
    ("a worn-out stick", stick(data=True, problem="Input/output error"), "unreadable", "data"),
    ("no right to read", stick(readable=False, writable=False, data=True), "no-rights", "data"),
    ("no right to write", stick(writable=False), "no-rights", ""),
    ("all at once", stick(volume(1, "mounted at /"), bus="ata", removable=False, read_only=True, size_bytes=10**12),
     "not-removable system read-only", "data large"),
    # Image files
    ("an empty image", image(), "", ""),
    ("a large empty image", image(size_bytes=200 * 10**9), "", ""),
    ("an image in a loop device", image(uses=("held by loop0", "mounted at /mnt")), "held mounted", ""),
    ("an image on a read-only file system", image(read_only=True), "read-only", ""),
    ("an image of somebody else", image(writable=False), "no-rights", ""),
    ("a file of no bytes", image(size_bytes=0), "too-small", ""),
    ("some other file", image(data=True), "", "not-ours"),
)  # fmt: skip


def test_the_safety_table_is_long_and_names_every_code() -> None:
    assert len(SAFETY) >= 60
    assert len({name for name, *_rest in SAFETY}) == len(SAFETY)
    named = {code for *_rest, refused, erase in SAFETY for code in (*refused.split(), *erase.split())}
    assert {code for _start, code, _cure in CODES_OF_USES} <= named
    refused = {code for _name, _device, codes, _erase in SAFETY for code in codes.split()}
    assert refused | {"serial-shared", "holds-iso"} == set(IMPORTANCE), "each has its place among the others"


@pytest.mark.parametrize(("device", "refused", "erase"), [row[1:] for row in SAFETY], ids=[row[0] for row in SAFETY])
def test_safety(device: BlockDevice, refused: str, erase: str) -> None:
    findings = judge(device, purpose="prepare")
    assert {finding.code for finding in findings if finding.level == "refuse"} == set(refused.split())
    assert {finding.code for finding in findings if finding.level == "needs-erase"} == set(erase.split())
    assert may_use(findings) == (not refused)
    assert needs_erase(findings) == bool(erase)
    for finding in findings:
        assert "/dev/" in finding.text or device.path in finding.text, "a finding names the device"
        assert finding.text.endswith(finding.text.strip())


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("a USB 2 stick with FAT and no table", ""),
        ("the same where no udevd runs", ""),
        ("a stick with a DOS table in a Raspberry Pi, mounted", "mounted"),
        ("a USB disk that is not removable for SCSI", ""),
        ("a card reader without a card", "no-medium"),
        ("a USB 3 disk driven by uas, with a GPT", ""),
        ("a SATA disk in a USB case, which udev calls ata", ""),
        ("a stick whose maker gave it no serial number", "serial-unknown"),
        ("an SD card in a laptop's slot", ""),
        ("an SD card in a reader that is an MMC host on USB, write-protected", "read-only"),
        ("eMMC, soldered", "not-removable"),
        ("the boot area of an eMMC", "not-a-disk"),
        ("an NVMe disk with the system and its swap", "not-removable system swap"),
        ("a SATA disk with LVM on it, and the root in that", "not-removable system held lvm"),
        ("a virtio disk", "not-removable system"),
        ("a loop device", "not-a-disk"),
        ("a stick that a loop device was put over", "held mounted"),
        ("a member of a running RAID with /home on it", "not-removable held system raid"),
        ("the RAID itself", "not-a-disk"),
        ("a device-mapper device", "not-a-disk"),
        ("a USB disk in a ZFS pool, which no holder tells", "zfs"),
        ("a stick with an opened LUKS container", "held mounted dm-crypt"),
        ("the second stick of a btrfs of two, which mountinfo does not name", "mounted"),
        ("a CD drive on SATA", "not-a-disk"),
        ("a floppy drive", "not-a-disk"),
        ("zram with swap on it", "not-a-disk swap"),
        ("a disk of a kind nobody has heard of", "not-a-disk"),
    ],
)
def test_captures(tmp_path: Path, name: str, refused: str) -> None:
    one: Capture = next(one for one in CAPTURES if one.name == name)
    devices = list_devices(write_tree(tmp_path, one.sysfs), properties=one.properties)
    device = next(device for device in devices if device.path == one.path)
    device = replace(device, readable=True, writable=True, problem="")  # the tree has no nodes
    assert codes(device, "refuse", purpose="prepare") == set(refused.split())


def test_no_capture_is_without_a_verdict() -> None:
    table = next(mark for mark in test_captures.pytestmark if mark.name == "parametrize")  # type: ignore[attr-defined]
    assert {name for name, _refused in table.args[1]} == {one.name for one in CAPTURES}


# What differs by purpose


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_partition_may_be_meant_where_no_table_is_made(purpose: Purpose) -> None:
    assert may_use(judge(part(), purpose=purpose)) is (purpose not in ("prepare", "write"))


@pytest.mark.parametrize("purpose", READING)
@pytest.mark.parametrize(
    "device",
    [
        stick(bus="ata", removable=False),
        stick(serial=""),
        stick(read_only=True),
        stick(writable=False),
        part(read_only=True),
        stick(volume(fs="ext4"), size_bytes=10**12),
    ],
)
def test_reading_hurts_nobody(device: BlockDevice, purpose: Purpose) -> None:
    findings = judge(device, purpose=purpose)
    assert (may_use(findings), needs_erase(findings)) == (True, False)


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize(
    "device",
    [
        stick(volume(1, "mounted at /mnt")),
        stick(volume(1, "mounted at /")),
        stick(uses=("held by dm-0",)),
        stick(medium=False, size_bytes=0),
        stick(size_bytes=0),
        stick(readable=False, writable=False),
        stick(kind="cdrom"),
        part("mounted at /mnt"),
    ],
)
def test_refused_whatever_it_is_for(device: BlockDevice, purpose: Purpose) -> None:
    assert not may_use(judge(device, purpose=purpose))


@pytest.mark.parametrize(
    ("purpose", "erase"),
    [("prepare", True), ("write", True), ("restore", True), ("reset", True),
     ("adopt", False), ("check", False), ("backup", False), ("diff", False)],
)  # fmt: skip
def test_what_loses_data_needs_the_serial_number(purpose: Purpose, erase: bool) -> None:
    device = stick(volume(fs="ext4", label="rootfs_data"))
    assert needs_erase(judge(device, purpose=purpose)) is erase


@pytest.mark.parametrize("purpose", WRITING)
def test_a_partition_beside_the_system_is_not_written(purpose: Purpose) -> None:
    assert "system" in codes(part(disk_uses=("mounted at /",)), "refuse", purpose=purpose)


def test_a_partition_beside_another_in_use_is_told() -> None:
    assert codes(part(disk_uses=("mounted at /mnt",)), "note", purpose="adopt") == {"disk-in-use"}
    assert codes(part(disk_uses=("mounted at /",)), "refuse", purpose="backup") == set()


@pytest.mark.parametrize(("size", "needed", "fits"), [(64 * MIB, 64 * MIB, True), (64 * MIB - 512, 64 * MIB, False)])
@pytest.mark.parametrize("device", [STICK, IMAGE])
def test_what_has_to_fit(device: BlockDevice, size: int, needed: int, fits: bool) -> None:
    found = codes(replace(device, size_bytes=size), "refuse", purpose="write", needed_bytes=needed)
    assert found == (set() if fits else {"too-small"})


@pytest.mark.parametrize(
    ("iso_on", "refused"),
    [
        (("/media/x/router.iso", "/dev/sdb", "/dev/sdb1"), True),
        (("/dev/sdb", "/dev/sdb"), True),
        (("/media/x/router.iso", "/dev/sdb1"), True),
        (("/home/anna/router.iso", "/dev/sda", "/dev/sda1"), False),
        ((), False),
    ],
)
def test_the_disk_with_the_iso_is_not_written(iso_on: tuple[str, ...], refused: bool) -> None:
    device = stick(volume(1, fs="vfat"))
    assert ("holds-iso" in codes(device, "refuse", purpose="write", iso_on=iso_on)) is refused


def test_the_iso_itself_is_not_written() -> None:
    assert "holds-iso" in codes(IMAGE, "refuse", purpose="write", iso_on=(IMAGE.path, "/dev/sda"))


@pytest.mark.parametrize(
    ("other", "shared"),
    [
        (replace(STICK, path="/dev/sdc"), True),
        (replace(STICK, path="/dev/sdc", serial="other"), False),
        (replace(STICK, path="/dev/sdc", medium=False, size_bytes=0), False),  # an empty slot of the same reader
        (STICK, False),
        (part(), False),
    ],
)
def test_two_sticks_with_one_serial_number(other: BlockDevice, shared: bool) -> None:
    assert ("serial-shared" in codes(STICK, "refuse", purpose="prepare", others=[other])) is shared
    assert "serial-shared" not in codes(STICK, "refuse", purpose="backup", others=[other])


# Saying which device is meant


@pytest.mark.parametrize(
    ("typed", "by_option", "by_a_person"),
    [
        ("4C530001230519112345", True, True),
        ("  4C530001230519112345\n", True, True),
        ("2345", False, True),
        ("345", False, False),
        ("12345", False, False),
        ("4c530001230519112345", False, False),
        ("4C53", False, False),
        ("", False, False),
        ("y", False, False),
        ("yes", False, False),
        ("/dev/sdb", False, False),
        ("SanDisk Ultra", False, False),
    ],
)
def test_only_the_serial_number_is_accepted(typed: str, by_option: bool, by_a_person: bool) -> None:
    assert erase_accepted(STICK, typed) is by_option
    assert erase_accepted(STICK, typed, interactive=True) is by_a_person


def test_four_characters_that_fit_two_sticks_are_not_accepted() -> None:
    twin = replace(STICK, path="/dev/sdc", serial="AA2345")
    assert not erase_accepted(STICK, "2345", interactive=True, others=[STICK, twin])
    assert erase_accepted(STICK, "2345", interactive=True, others=[STICK, part()])
    assert erase_accepted(STICK, STICK.serial, interactive=True, others=[twin])


@pytest.mark.parametrize("typed", ["", " ", "1", "2345"])
def test_without_a_serial_number_nothing_is_accepted(typed: str) -> None:
    assert not erase_accepted(replace(STICK, serial=""), typed, interactive=True)


def test_a_short_serial_number_is_typed_whole() -> None:
    device = replace(STICK, serial="2345")
    assert erase_accepted(device, "2345")
    assert not erase_accepted(replace(STICK, serial="45"), "2345", interactive=True)


@pytest.mark.parametrize(("typed", "accepted"), [("stick.img", True), ("/home/anna/stick.img", False), ("", False)])
def test_an_image_is_named_by_its_file_name(typed: str, accepted: bool) -> None:
    assert erase_accepted(IMAGE, typed, interactive=True) is accepted


# Images of ours, made by the real programs


@pytest.mark.parametrize(
    ("how", "ours"),
    [
        ({"table": "gpt"}, True),
        ({"table": "dos"}, True),
        ({"table": "gpt", "fs": "ext2"}, True),
        ({"table": "dos", "label": "cloudimg"}, False),
        ({"table": "gpt", "label": "root"}, False),
    ],
)
def test_an_image_of_ours(tmp_path: Path, how: dict[str, Any], ours: bool) -> None:
    path = tmp_path / "stick.img"
    make_stick_image(path, plan_stick(size_bytes=24 * MIB, identity=StickIdentity.random(), **how))
    device = describe(path)
    assert is_our_image(device) is ours
    assert needs_erase(judge(device, purpose="prepare")) is not ours


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "other"},
        {"label": "other"},
        {"fs": "vfat"},
        {"number": 2},
        {"offset_bytes": 2 * MIB},
    ],
)
def test_an_image_that_is_nearly_ours_is_not(changed: dict[str, Any]) -> None:
    own = replace(volume(1, fs="ext4", label="rootfs_data", name="rootfs_data"), path=IMAGE.path)
    assert is_our_image(image(table="gpt", data=True, volumes=(own,)))
    assert not is_our_image(image(table="gpt", data=True, volumes=(replace(own, **changed),)))
    assert not is_our_image(image(table="gpt", data=True, volumes=(own, replace(own, number=2))))
    assert not is_our_image(image(table="sun", data=True, volumes=(own,)))


# Generated tables

_USES = (
    *(f"mounted at {point}" for point in (*sorted(SYSTEM_MOUNTS), "/mnt", "/media/a b")),
    *(
        "held by dm-0",
        "held by loop3",
        "swap",
        "swap in use",
        "LVM member",
        "RAID member",
        "dm-crypt",
        "ZFS member",
        "?",
    ),
)
_SIZES = st.sampled_from(
    [*([16 * 10**9] * 8), -1, 0, 512, 64 * MIB, 64 * MIB - 512, LARGE_BYTES, LARGE_BYTES + 512, 2**42]
)
_SERIALS = st.sampled_from(["4C530001230519112345", "2345", "AA2345", "B7", "07A1", "SN 1", "x", "\u00e9", " 2345", ""])
_BUSES = st.sampled_from(["usb", "usb", "usb", "mmc", "emmc", "ata", "nvme", "virtio", "scsi", ""])


@st.composite
def _devices(draw: st.DrawFn) -> BlockDevice:
    name = draw(st.sampled_from(["sda", "sdb", "sdc", "mmcblk0", "nvme0n1"]))
    # One number for all that is seldom wrong: in many devices nothing is, in few everything.
    chances = random.Random(draw(st.integers(0, 2**32)))
    each = chances.choice((0.0, 0.05, 0.3))

    def seldom() -> bool:
        return chances.random() < each

    def uses() -> tuple[str, ...]:
        return tuple(chances.sample(_USES, 2 if seldom() else 1)) if seldom() else ()

    kind = chances.choice(KINDS) if seldom() else "disk"
    return BlockDevice(
        path=f"/dev/{name}", kind=kind, name=name, serial=draw(_SERIALS), size_bytes=draw(_SIZES), bus=draw(_BUSES),
        removable=chances.random() < 0.5, data=chances.random() < 0.5,
        read_only=seldom(), medium=not seldom(), readable=not seldom(), writable=not seldom(),
        problem="Input/output error" if seldom() else "",
        uses=uses(), disk_uses=uses() if kind == "partition" else (), parent="/dev/sdz" if kind == "partition" else "",
        volumes=tuple(volume(number, *uses(), path=f"/dev/{name}{number}") for number in range(chances.randrange(3))),
    )  # fmt: skip


def refused_by_the_contract(
    device: BlockDevice, table: list[BlockDevice], needed_bytes: int, iso_on: tuple[str, ...]
) -> bool:
    """The rules for writing a whole device, as the contract has them, told a second time and more simply."""
    in_use = device.uses or any(volume.uses for volume in device.volumes)
    unusable = bool(device.problem) or device.read_only or not device.readable or not device.writable
    holds_iso = any(path in iso_on for path in (device.path, *(volume.path for volume in device.volumes)))
    if in_use or unusable or holds_iso or device.size_bytes < max(1, needed_bytes):
        return True
    if device.kind == "image":
        return not device.medium
    inner = not device.removable and device.bus not in ("usb", "mmc")
    twins = [other for other in table if other.path != device.path and other.medium and other.serial == device.serial]
    return device.kind != "disk" or inner or not device.serial or not device.medium or bool(twins)


def test_permission_is_never_given_for_a_refused_device() -> None:
    verdicts = {True: 0, False: 0}

    @settings(max_examples=1000, deadline=None)
    @given(
        table=st.lists(_devices(), min_size=1, max_size=3, unique_by=lambda device: device.path),
        purpose=st.sampled_from(["prepare", "write"]),
        needed_bytes=st.sampled_from([0, 64 * MIB, 8 * GIB]),
        iso_on=st.sampled_from([(), ("/home/x.iso", "/dev/sda"), ("/media/x.iso", "/dev/sdb1")]),
    )
    @example(table=[STICK], purpose="prepare", needed_bytes=0, iso_on=())
    def holds(table: list[BlockDevice], purpose: Purpose, needed_bytes: int, iso_on: tuple[str, ...]) -> None:
        for device in table:
            findings = judge(device, purpose=purpose, needed_bytes=needed_bytes, iso_on=iso_on, others=table)
            refused = refused_by_the_contract(device, table, needed_bytes, iso_on)
            assert may_use(findings) is not refused
            verdicts[refused] += 1
            if refused or device.kind == "image":
                continue
            if device.data or device.size_bytes > LARGE_BYTES:
                assert needs_erase(findings)
            for other in table:
                if other.path != device.path and other.serial.strip() != device.serial:
                    assert not erase_accepted(device, other.serial, others=table), "another's serial number"

    holds()
    assert min(verdicts.values()) > 50, "both kinds were generated, or this says nothing"


def test_no_plan_is_made_for_a_refused_device_and_none_is_opened_but_the_one_whose_serial_number_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole command, from the devices of a machine to the moment where it opens one to write to it."""
    machine: list[BlockDevice] = []
    opened: list[BlockDevice] = []
    counts = {"planned": 0, "opened": 0, "refused": 0}

    def open_target(device: BlockDevice, *, writable: bool, redo: str = "") -> None:
        opened.append(device)
        raise LivebuilderError("it would be written now")

    monkeypatch.setattr("livebuilder.usb.devices.list_devices", lambda: list(machine))
    monkeypatch.setattr("livebuilder.usb.devices.describe", lambda path: {Path(d.path): d for d in machine}[path])
    monkeypatch.setattr("livebuilder.usb.target.open_target", open_target)

    def planned(device: BlockDevice) -> bool:
        with redirect_stdout(io.StringIO()) as said, suppress(LivebuilderError):
            prepare_stick(Path(device.path), dry_run=True, as_json=True)
        return f'"path": "{device.path}"' in said.getvalue()

    @settings(max_examples=1000, deadline=None)
    @given(st.lists(_devices(), min_size=1, max_size=3, unique_by=lambda device: device.path))
    def holds(table: list[BlockDevice]) -> None:
        machine[:] = table
        for device in table:
            refused = refused_by_the_contract(device, table, 0, ())
            roomy = device.size_bytes > 16 * MIB
            assert planned(device) is (not refused and roomy)
            assert not opened, "a dry run opens nothing to write to it"
            own = device.name if device.kind == "image" else device.serial
            for typed in {None, own, *(other.serial for other in table)}:
                with suppress(LivebuilderError):
                    prepare_stick(Path(device.path), erase=typed)
                named = typed is not None and typed.strip() == own
                assert opened == ([device] if named and roomy and not refused else [])
                counts["opened"] += len(opened)
                opened.clear()
            counts["refused" if refused else "planned"] += 1

    holds()
    assert min(counts.values()) > 50, f"too few of a kind were generated for this to say much: {counts}"


# The words


@pytest.mark.parametrize(
    ("device", "purpose", "text"),
    [
        (
            stick(volume(1, "mounted at /media/my stick")),
            "prepare",
            "/dev/sdb1 is mounted at /media/my stick: umount '/media/my stick'",
        ),
        (
            stick(writable=False),
            "prepare",
            "you may not write /dev/sdb: sudo livebuilder usb prepare …, or become a member of its group:"
            " sudo usermod -aG disk $USER, then log in again",
        ),
        (
            stick(readable=False, writable=False, group=""),
            "check",
            "you may not read /dev/sdb: sudo livebuilder usb check …",
        ),
        (
            stick(writable=False, group="root"),
            "prepare",
            "you may not write /dev/sdb: sudo livebuilder usb prepare …",
        ),
        (image(writable=False), "adopt", "you may not write /home/anna/stick.img:"
         " chmod u+rw /home/anna/stick.img, if it is yours"),
        (stick(volume(1, "mounted at /")), "prepare", "/dev/sdb1 is mounted at /: this machine runs from it"),
        (
            stick(volume(1, "LVM member")),
            "prepare",
            "/dev/sdb1 is in use, LVM member: if nothing needs it any more, pvremove /dev/sdb1",
        ),
        (
            stick(volume(1, "held by dm-0", "LVM member")),
            "prepare",
            "/dev/sdb1 is in use, LVM member: stop what uses it first",
        ),
        (stick(serial="", data=True, bus="usb"), "prepare",
         "/dev/sdb has data on it (of an unknown kind): --erase SERIAL if it may be lost"),
        (part(), "prepare", "/dev/sdb1 is a partition: give the whole disk, /dev/sdb"),
        (
            stick(volume(fs="vfat", label="KEYS")),
            "prepare",
            "/dev/sdb has data on it (vfat KEYS): --erase 4C530001230519112345 if it may be lost",
        ),
        (image(data=True), "prepare", "/home/anna/stick.img is not empty and is no stick made by livebuilder:"
         " --erase stick.img if it may be lost"),
    ],
)  # fmt: skip
def test_texts_say_what_to_do(device: BlockDevice, purpose: Purpose, text: str) -> None:
    assert text in [finding.text for finding in judge(device, purpose=purpose)]


def test_no_finding_can_move_the_cursor() -> None:
    device = stick(volume(1, "mounted at /mnt/\x1b[2J", fs="vfat", label="a\r\u202eb"), serial="x\x07")
    assert all(finding.text.isprintable() for finding in judge(device, purpose="prepare"))


def test_refusals_come_first() -> None:
    device = part("mounted at /mnt", disk_uses=("mounted at /srv/x",))
    levels = [finding.level for finding in judge(device, purpose="restore")]
    assert levels == ["refuse", "needs-erase", "note"]


def test_the_table() -> None:
    devices = [
        stick(volume(1, "mounted at /media/KEYS", fs="vfat", label="KEYS"), table="dos"),
        replace(STICK, path="/dev/sdc", serial="EVIL\x1b[2J", model="a\nb"),
        replace(STICK, path="/dev/sdd", size_bytes=0, medium=False, model=""),
        replace(STICK, path="/dev/sde", uses=("mounted at /mnt",), volumes=(volume(0, fs="ext4", label="all"),)),
    ]
    findings = {device.path: judge(device, purpose="prepare") for device in devices}
    assert render_devices(devices, findings).splitlines() == [
        "DEVICE    MODEL          SERIAL                SIZE      BUS  TABLE  MAY BE USED",
        "/dev/sdb  SanDisk Ultra  4C530001230519112345  14.9 GiB  usb  dos    no: mounted",
        "    partition 1, 7.5 GiB, vfat, labelled 'KEYS', mounted at /media/KEYS",
        "    /dev/sdb1 is mounted at /media/KEYS: umount /media/KEYS",
        "/dev/sdc  a?b            EVIL?[2J              14.9 GiB  usb  -      yes",
        "/dev/sdd  -              4C530001230519112345  -         usb  -      no: no-medium",
        "    /dev/sdd has no medium in it: put the card in",
        "/dev/sde  SanDisk Ultra  4C530001230519112345  14.9 GiB  usb  -      no: mounted",
        "    no partition, 7.5 GiB, ext4, labelled 'all', mounted at /mnt",
        "    /dev/sde is mounted at /mnt: umount /mnt",
    ]


def test_only_the_most_important_reason_is_told_unless_all_are_asked_for() -> None:
    root = stick(volume(1, "held by dm-0", "mounted at /", "dm-crypt"), bus="ata", removable=False)
    large = stick(volume(fs="ntfs"), path="/dev/sdc", size_bytes=10**12)
    findings = {device.path: judge(device, purpose="prepare") for device in (root, large)}
    lines = render_devices([root, large], findings).splitlines()
    assert lines[1].endswith("no: system") and lines[4].endswith("with --erase")
    assert lines[3] == "    /dev/sdb1 is mounted at /: this machine runs from it (+3 more: --verbose)"
    assert lines[6].endswith(" if it may be lost (+1 more: --verbose)") and len(lines) == 7
    lines = render_devices([root, large], findings, verbose=True).splitlines()
    assert lines[1].endswith("no: system, not-removable, held, dm-crypt")
    assert [line.strip() for line in lines[3:7]] == [
        finding.text for finding in findings["/dev/sdb"] if finding.level == "refuse"
    ]
    assert len(lines) == 11 and "--verbose" not in "".join(lines)


def test_what_is_empty_is_in_the_table_only_when_all_is_asked_for() -> None:
    empty = [
        stick(kind="loop", name="loop0", path="/dev/loop0", medium=False, size_bytes=0),
        stick(kind="memory", name="zram0", path="/dev/zram0"),
        stick(kind="memory", name="ram15", path="/dev/ram15"),
    ]
    there = [
        stick(kind="loop", name="loop1", path="/dev/loop1"), stick(kind="memory", name="pmem0", path="/dev/pmem0"),
        image(name="ram.img"), stick(medium=False, size_bytes=0),
    ]  # fmt: skip
    findings = {device.path: judge(device, purpose="prepare") for device in (*empty, *there)}
    shown = [line.split()[0] for line in render_devices([*empty, *there], findings).splitlines()[1:] if line[0] == "/"]
    assert shown == [device.path for device in there]
    everything = render_devices([*empty, *there], findings, verbose=True)
    assert all(f"\n{device.path} " in everything for device in (*empty, *there))
    assert len(to_json(empty, findings)) == 3


def test_an_empty_table_says_what_shows_more() -> None:
    assert "--all" in render_devices([], {})


def test_json() -> None:
    findings = {STICK.path: (Finding("needs-erase", "data", "text"),)}
    (found,) = json.loads(json.dumps(to_json([STICK], findings)))
    assert (found["path"], found["size_bytes"], found["may_use"], found["needs_erase"]) == (
        "/dev/sdb", 16 * 10**9, True, True,
    )  # fmt: skip
    assert found["findings"] == [{"level": "needs-erase", "code": "data", "text": "text"}]
