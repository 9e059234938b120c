"""initramfs/lib/superblock.sh against real file systems; blkid is the witness."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.process import run
from tests.support.init import InitMachine

_MIB = 1 << 20


def _image(path: Path, size: int, *command: str) -> Path:
    with path.open("wb") as stream:
        stream.truncate(size)
    if command:
        run([*command, path])
    return path


def _read(machine: InitMachine, path: Path) -> dict[str, str]:
    done = machine.call(
        'read_superblock "$1" || exit 3; printf "%s\\n%s\\n%s\\n" "$FS_TYPE" "$FS_UUID" "$FS_LABEL"', str(path)
    )
    assert done.returncode == 0, done.stderr
    kind, uuid, label = done.stdout.splitlines()
    return {"TYPE": kind, "UUID": uuid, "LABEL": bytes.fromhex(label).decode()}


def _witness(path: Path) -> dict[str, str]:
    tags = ("TYPE", "UUID", "LABEL")
    return {tag: run(["blkid", "-p", "-s", tag, "-o", "value", path], check=False).stdout.strip() for tag in tags}


_MADE = {
    "ext2": (4 * _MIB, ("mke2fs", "-q", "-t", "ext2", "-L", "rootfs_data")),
    "ext3": (8 * _MIB, ("mke2fs", "-q", "-t", "ext3", "-L", "rootfs_data")),
    "ext4": (8 * _MIB, ("mke2fs", "-q", "-t", "ext4", "-L", "rootfs_data")),
    "ext4 of 4 KiB": (16 * _MIB, ("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-O", "64bit,metadata_csum")),
    "ext label of 16": (4 * _MIB, ("mke2fs", "-q", "-L", "0123456789abcdef")),
    "ext label in UTF-8": (4 * _MIB, ("mke2fs", "-q", "-L", "Gerät '$x")),
    "f2fs": (64 * _MIB, ("mkfs.f2fs", "-q", "-l", "rootfs_data")),
    "f2fs long label": (64 * _MIB, ("mkfs.f2fs", "-q", "-l", "L" * 200)),
    "btrfs": (128 * _MIB, ("mkfs.btrfs", "-q", "-L", "rootfs_data")),
    "btrfs long label": (128 * _MIB, ("mkfs.btrfs", "-q", "-L", "x" * 255)),
}


@pytest.mark.parametrize("case", _MADE)
def test_what_linux_file_systems_say(machine: InitMachine, tmp_path: Path, case: str) -> None:
    size, command = _MADE[case]
    image = _image(tmp_path / "disk", size, *command)
    assert _read(machine, image) == _witness(image)
    assert _witness(image)["TYPE"] == case.split()[0] or case.startswith("ext")


@pytest.mark.parametrize("bits", ["12", "16", "32"])
def test_fat_is_recognised_with_its_label(machine: InitMachine, tmp_path: Path, bits: str) -> None:
    image = _image(tmp_path / "disk", 34 * _MIB if bits == "32" else 8 * _MIB,
                   "mkfs.vfat", "-F", bits, "-s", "1" if bits != "12" else "8", "-n", "ROOTFS_DATA")  # fmt: skip
    found = _read(machine, image)
    assert (found["TYPE"], found["LABEL"]) == ("vfat", "ROOTFS_DATA")


@pytest.mark.parametrize("bits", ["16", "32"])
def test_windows_writes_a_fat_label_into_the_root_folder_only(machine: InitMachine, tmp_path: Path, bits: str) -> None:
    image = _image(tmp_path / "disk", 34 * _MIB, "mkfs.vfat", "-F", bits, "-n", "ROOTFS_DATA")
    data = bytearray(image.read_bytes())
    start = 71 if bits == "32" else 43
    assert data[start : start + 11] == b"ROOTFS_DATA"
    data[start : start + 11] = b"NO NAME    "
    image.write_bytes(data)
    assert _read(machine, image)["LABEL"] == "ROOTFS_DATA"
    image.write_bytes(data.replace(b"ROOTFS_DATA\x08", b"\xe5OOTFS_DATA\x08"))  # the entry deleted
    assert _read(machine, image)["LABEL"] == ""


def test_a_disc_written_onto_a_stick_is_recognised(machine: InitMachine, tmp_path: Path) -> None:
    (tmp_path / "content").mkdir()
    image = tmp_path / "disk"
    run(["xorriso", "-as", "mkisofs", "-quiet", "-V", "ATTIC_PC", "-o", image, tmp_path / "content"])
    found = _read(machine, image)
    assert (found["TYPE"], found["LABEL"]) == ("iso9660", "ATTIC_PC")


@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_a_partition_table_is_no_file_system(machine: InitMachine, tmp_path: Path, label: str) -> None:
    image = _image(tmp_path / "disk", 8 * _MIB)
    run(["sfdisk", "-q", image], input_bytes=f"label: {label}\nstart=2048\n".encode())
    assert _read(machine, image)["TYPE"] == "table"


def test_an_old_boot_sector_does_not_hide_the_file_system_behind_it(machine: InitMachine, tmp_path: Path) -> None:
    image = _image(tmp_path / "disk", 34 * _MIB, "mkfs.vfat", "-n", "OLD")
    first = image.read_bytes()[:512]
    run(["mke2fs", "-q", "-F", "-t", "ext4", "-L", "rootfs_data", image])
    data = bytearray(image.read_bytes())
    data[:512] = first
    image.write_bytes(data)
    found = _read(machine, image)
    assert (found["TYPE"], found["LABEL"]) == ("ext4", "rootfs_data")


def test_an_external_journal_is_nothing_to_mount(machine: InitMachine, tmp_path: Path) -> None:
    image = _image(tmp_path / "disk", 8 * _MIB, "mke2fs", "-q", "-O", "journal_dev", "-L", "rootfs_data")
    assert _witness(image)["TYPE"] == "jbd"
    assert _read(machine, image)["TYPE"] == ""


@pytest.mark.parametrize("content", [b"\0" * 8192, b"\xff" * 8192, b"short", bytes(range(256)) * 300])
def test_nothing_known_is_not_an_error(machine: InitMachine, tmp_path: Path, content: bytes) -> None:
    image = tmp_path / "disk"
    image.write_bytes(content)
    assert _read(machine, image) == {"TYPE": "", "UUID": "", "LABEL": ""}


def test_a_device_that_cannot_be_read_is_told_apart(machine: InitMachine, tmp_path: Path) -> None:
    assert machine.call('read_superblock "$1"', str(tmp_path / "gone")).returncode != 0
