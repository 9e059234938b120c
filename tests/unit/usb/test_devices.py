from __future__ import annotations

import os
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.process import run
from livebuilder.sizes import KIB, MIB
from livebuilder.usb.blockdevice import BlockDevice, is_candidate
from livebuilder.usb.devices import describe, device_by_number, disks_holding, list_devices
from livebuilder.usb.plan import StickIdentity, plan_stick
from livebuilder.usb.stick import make_stick_image
from tests.support.sysfs import (
    CAPTURES,
    KINGSTON_DISK,
    KINGSTON_SYSFS,
    SATA_DISK,
    SATA_SYSFS,
    Capture,
    capture,
    mounts,
    partition,
    write_tree,
)


def found_in(tmp_path: Path, one: Capture) -> BlockDevice:
    devices = list_devices(write_tree(tmp_path, one.sysfs), properties=one.properties)
    return next(device for device in devices if device.path == one.path)


@pytest.mark.parametrize("one", CAPTURES, ids=lambda one: one.name)
def test_captures_are_read(tmp_path: Path, one: Capture) -> None:
    device = found_in(tmp_path, one)
    facts = asdict(device)
    assert {name: facts[name] for name in one.facts} == dict(one.facts)
    assert device.uses == one.uses
    assert tuple((v.number, v.size_bytes, v.fs, v.label, v.uses) for v in device.volumes) == one.volumes, (
        "number, size, file system, label, uses"
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a USB 2 stick with FAT and no table", True),
        ("a USB disk that is not removable for SCSI", True),
        ("a card reader without a card", True),
        ("an SD card in a laptop's slot", True),
        ("eMMC, soldered", False),
        ("an NVMe disk with the system and its swap", False),
        ("a CD drive on SATA", False),
        ("a floppy drive", False),
        ("a loop device", False),
    ],
)
def test_the_list_shows_what_can_be_taken_out(tmp_path: Path, name: str, shown: bool) -> None:
    assert is_candidate(found_in(tmp_path, capture(name))) is shown


def test_a_partition_is_a_device_with_its_disks_identity(tmp_path: Path) -> None:
    parts = partition(KINGSTON_DISK, 1, "8:17", 2048, 4096, name="rootfs_data") + partition(
        KINGSTON_DISK, 2, "8:18", 6144, 2048
    )
    root = write_tree(tmp_path, KINGSTON_SYSFS + parts + mounts("8:18 /mnt ext4 /dev/sdb2"))
    device = device_by_number("8:17", root)
    assert (device.path, device.kind, device.parent) == ("/dev/sdb1", "partition", "/dev/sdb")
    assert (device.serial, device.bus, device.removable) == ("0013729982D5B97196320049", "usb", True)
    assert (device.size_bytes, device.major_minor) == (4096 * 512, "8:17")
    assert [(volume.number, volume.offset_bytes, volume.name) for volume in device.volumes] == [(1, 0, "rootfs_data")]
    assert (device.uses, device.disk_uses) == ((), ("mounted at /mnt",))
    disk = device_by_number("8:16", root)
    assert [volume.offset_bytes for volume in disk.volumes] == [2048 * 512, 6144 * 512]


def test_a_number_without_a_device_is_a_leftover(tmp_path: Path) -> None:
    with pytest.raises(LivebuilderError, match="no block device 8:32"):
        device_by_number("8:32", write_tree(tmp_path, KINGSTON_SYSFS))


def test_a_hidden_device_is_not_listed(tmp_path: Path) -> None:
    root = write_tree(tmp_path, KINGSTON_SYSFS + f"{KINGSTON_DISK}/hidden = 1\n")
    assert list_devices(root) == ()


def test_a_disk_without_a_size_attribute_has_a_medium_of_unknown_size(tmp_path: Path) -> None:
    root = write_tree(tmp_path, KINGSTON_SYSFS)
    (root / "sys/class/block/sdb/size").unlink()
    (device,) = list_devices(root)
    assert (device.medium, device.size_bytes) == (True, 0)


def test_a_stick_cannot_write_to_the_terminal_by_its_name(tmp_path: Path) -> None:
    root = write_tree(tmp_path, KINGSTON_SYSFS)
    (root / "sys/class/block/sdb/device/model").write_bytes(b"evil\x1b[2J \xff\n")
    (device,) = list_devices(root)
    assert device.model == "Kingston evil_[2J \N{REPLACEMENT CHARACTER}"


def test_swap_is_found_by_a_link_to_it(tmp_path: Path) -> None:
    root = write_tree(tmp_path, KINGSTON_SYSFS + partition(KINGSTON_DISK, 1, "8:17", 2048, 4096))
    (root / "dev/disk").mkdir(parents=True)
    (root / "dev/disk/swap").symlink_to("../sdb1")
    (root / "proc/swaps").write_text("Filename Type Size Used Priority\n/dev/disk/swap partition 2040 0 -2\n")
    (device,) = list_devices(root)
    assert device.volumes[0].uses == ("swap in use",)


def test_mounts_of_another_namespace_count(tmp_path: Path) -> None:
    root = write_tree(tmp_path, KINGSTON_SYSFS)
    (root / "proc/1").mkdir(parents=True)
    (root / "proc/1/mountinfo").write_text("30 1 8:16 / /media/stick rw - vfat /dev/sdb rw\n")
    (device,) = list_devices(root)
    assert device.uses == ("mounted at /media/stick",)


def test_without_the_list_of_mounts_nothing_is_said(tmp_path: Path) -> None:
    root = write_tree(tmp_path, KINGSTON_SYSFS)
    (root / "proc/self/mountinfo").unlink()
    with pytest.raises(LivebuilderError, match="what is mounted cannot be told"):
        list_devices(root)


def test_a_swap_whose_name_has_a_folder(tmp_path: Path) -> None:
    disk = "virtual/block/cciss!c0d0/dev = 104:0\n"
    root = write_tree(tmp_path, disk + "/proc/swaps = Filename\\n/dev/cciss/c0d0 partition 8 0 -2\n")
    assert list_devices(root)[0].uses == ("swap in use",)


def test_holders_in_a_ring_come_to_an_end(tmp_path: Path) -> None:
    ring = "virtual/block/dm-0/dev = 253:0\nvirtual/block/dm-0/holders/sdb -> ../../sdb\n"
    root = write_tree(tmp_path, KINGSTON_SYSFS + ring + f"{KINGSTON_DISK}/holders/dm-0 -> ../../dm-0\n")
    assert device_by_number("8:16", root).uses == ("held by dm-0", "held by sdb")


# What stands on a disk: bytes made by the real programs


def _disk(tmp_path: Path, size: int = 8 * MIB) -> tuple[Path, Path]:
    """A tree with the Kingston stick, and the file that is its /dev/sdb."""
    root = write_tree(tmp_path / "tree", KINGSTON_SYSFS)
    node = root / "dev/sdb"
    node.parent.mkdir()
    with node.open("wb") as stream:
        stream.truncate(size)
    return root, node


def test_a_disk_of_zeros_has_no_data(tmp_path: Path) -> None:
    root, _node = _disk(tmp_path)
    (device,) = list_devices(root)
    assert (device.data, device.table, device.volumes) == (False, "", ())


@pytest.mark.parametrize("at", [0, 511, 4096, MIB + 1024, 8 * MIB - 1])
def test_a_byte_where_tables_and_file_systems_begin_is_data(tmp_path: Path, at: int) -> None:
    root, node = _disk(tmp_path)
    with node.open("r+b") as stream:
        stream.seek(at)
        stream.write(b"x")
    (device,) = list_devices(root)
    assert device.data


def test_a_disk_that_cannot_be_read_counts_as_full(tmp_path: Path) -> None:
    (device,) = list_devices(write_tree(tmp_path, KINGSTON_SYSFS))
    assert (device.data, device.readable, device.writable) == (True, False, False)


def test_a_disk_that_fails_while_it_is_read_has_a_problem(tmp_path: Path) -> None:
    root = write_tree(tmp_path, KINGSTON_SYSFS)
    (root / "dev/sdb").mkdir(parents=True)  # opening it works, reading does not
    (device,) = list_devices(root)
    assert (device.data, device.medium) == (True, True)
    assert device.problem in ("Is a directory", "Invalid argument"), "which of them, the file system decides"


def test_inner_disks_are_only_read_when_asked_for(tmp_path: Path) -> None:
    root = write_tree(tmp_path, SATA_SYSFS)
    node = root / "dev/sda"
    node.parent.mkdir()
    node.write_bytes(bytes(8 * MIB))
    run(("mke2fs", "-q", "-F", "-L", "inner", str(node)))
    assert list_devices(root)[0].volumes == ()
    assert [volume.label for volume in device_by_number("8:0", root).volumes] == ["inner"]


def test_the_group_that_may_write(tmp_path: Path) -> None:
    root, node = _disk(tmp_path)
    node.chmod(0o660)
    (device,) = list_devices(root)
    assert device.group == node.group()
    for mode in (0o640, 0o620, 0o606):
        node.chmod(mode)
        (device,) = list_devices(root)
        assert device.group == ""


@pytest.mark.parametrize(
    ("argv", "signature"),
    [
        (("mke2fs", "-q", "-t", "ext4", "-L", "rootfs_data"), ("ext4", "rootfs_data")),
        (("mkfs.vfat", "-n", "KEYS"), ("vfat", "KEYS")),
        (("mkfs.vfat", "-F", "12"), ("vfat", "")),
        (("mkswap", "-q", "-L", "pages"), ("swap", "pages")),
    ],
    ids=lambda value: value[0],
)
def test_a_file_system_without_a_table(tmp_path: Path, argv: tuple[str, ...], signature: tuple[str, str]) -> None:
    root, node = _disk(tmp_path)
    run((*argv, str(node)))
    (device,) = list_devices(root)
    (volume,) = device.volumes
    assert (volume.number, volume.fs, volume.label, device.table) == (0, *signature, "")
    blkid = run(("blkid", "-p", "-o", "export", str(node))).stdout
    assert f"\nTYPE={volume.fs}\n" in blkid
    assert f"\nUUID={volume.uuid}\n" in f"\n{blkid}\n"
    assert device.data
    assert device.uses == (("swap",) if volume.fs == "swap" else ())


@pytest.mark.parametrize("table", ["gpt", "dos"])
def test_a_prepared_stick(tmp_path: Path, table: str) -> None:
    root, node = _disk(tmp_path)
    make_stick_image(node, plan_stick(size_bytes=24 * MIB, table=table, identity=StickIdentity.random()), force=True)
    (device,) = list_devices(root)
    (volume,) = device.volumes
    assert device.table == table
    assert (volume.number, volume.offset_bytes, volume.fs, volume.label) == (1, MIB, "ext4", "rootfs_data")
    assert volume.name == ("rootfs_data" if table == "gpt" else "")
    image = describe(node)
    assert (image.kind, image.serial, image.size_bytes) == ("image", "", 24 * MIB)
    assert [(v.number, v.offset_bytes, v.fs, v.label, v.name) for v in image.volumes] == [
        (1, MIB, "ext4", "rootfs_data", volume.name)
    ]


def test_logical_partitions_are_found_and_their_container_is_no_volume_with_a_file_system(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    with image.open("wb") as stream:
        stream.truncate(16 * MIB)
    table = b"label: dos\n2048,4096,c\n8192,16384,5\n10240,8192,83\n"
    run(
        ("sfdisk", "--quiet", str(image)),
        input_bytes=table.replace(b"10240,8192,83", b"start=10240, size=8192, type=83"),
    )
    run(("mke2fs", "-q", "-F", "-E", f"offset={10240 * 512}", "-L", "inner", str(image), "4M"))
    device = describe(image)
    assert [(volume.number, volume.type, volume.fs, volume.label) for volume in device.volumes] == [
        (1, "C", "", ""),
        (2, "5", "", ""),
        (5, "83", "ext2", "inner"),
    ]


@pytest.mark.parametrize("size", [0, 1, 512, 4096, 70000, 300 * KIB])
def test_a_tiny_disk_is_no_traceback(tmp_path: Path, size: int) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"\xff" * size)
    device = describe(image)
    assert (device.size_bytes, device.data, device.volumes) == (size, size > 0, ())


# This machine


def test_this_machines_disks_are_all_listed_and_describe_themselves() -> None:
    devices = list_devices()
    here = {path.name for path in Path("/sys/class/block").iterdir() if not (path / "partition").exists()}
    assert {device.name for device in devices} == here
    for device in devices:
        if Path(device.path).exists():
            again = describe(Path(device.path))
            assert (again.path, again.major_minor, again.kind) == (device.path, device.major_minor, device.kind)
            assert (again.serial, again.size_bytes) == (device.serial, device.size_bytes)


def test_the_disk_below_a_file_is_in_use_on_this_machine(tmp_path: Path) -> None:
    paths = disks_holding(tmp_path)
    assert paths[0] == os.path.realpath(tmp_path)
    number = tmp_path.stat().st_dev
    source = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    assert (len(paths) > 1) == source.exists(), "a file system on a disk names it"
    assert all(describe(Path(path)).uses for path in paths[1:] if Path(path).exists())


def test_what_is_neither_disk_nor_file(tmp_path: Path) -> None:
    with pytest.raises(LivebuilderError, match="is a folder"):
        describe(tmp_path)
    with pytest.raises(LivebuilderError, match="special file"):
        describe(Path("/dev/null"))
    with pytest.raises(LivebuilderError, match=re.escape(f"{tmp_path / 'gone'} failed: No such file")):
        describe(tmp_path / "gone")


def test_disks_below_partitions_and_volumes(tmp_path: Path) -> None:
    number = tmp_path.stat().st_dev
    text = (
        SATA_SYSFS
        + partition(SATA_DISK, 1, "8:1", 2048, 4096)
        + f"virtual/block/dm-0/dev = {os.major(number)}:{os.minor(number)}\n"
        + "virtual/block/dm-0/slaves/sda1 -> ../../sda1\n"
    )
    root = write_tree(tmp_path / "tree", text)
    assert disks_holding(root, root) == (str(root), "/dev/dm-0", "/dev/sda", "/dev/sda1")


def test_an_image_called_like_a_disk_is_no_disk(tmp_path: Path) -> None:
    for name in {path.name for path in Path("/sys/class/block").iterdir()} | {"sda", "sdb"}:
        (tmp_path / name).write_bytes(b"")
        device = describe(tmp_path / name)
        assert (device.kind, device.volumes, device.uses) == ("image", (), ())


def test_an_image_is_called_by_its_own_name(tmp_path: Path) -> None:
    iso = tmp_path / "link"
    iso.symlink_to(tmp_path / "image")
    (tmp_path / "image").write_bytes(b"x")
    assert describe(iso).path == str(tmp_path / "image"), "one file, one name"
