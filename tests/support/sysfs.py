"""Machines as /sys, /proc and udev show them, taken down from real kernels, and a writer that makes trees of them.

A capture is text: `path = value`, `path -> target`, `path : subsystem` (the link every device folder has). Folders
are relative to /sys/devices; a path that begins with `/` is relative to the tree. A folder with a `dev` is a block
device: its links in /sys/class/block come by themselves. `\\n` in a value is a new line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Capture:
    """What the kernel says in `sysfs`, what udev says by number, and the facts that follow (fields of BlockDevice)."""

    name: str
    sysfs: str
    path: str
    facts: Mapping[str, object]
    udev: Mapping[str, str] = field(default_factory=dict)
    uses: tuple[str, ...] = ()
    volumes: tuple[tuple[object, ...], ...] = ()  # number, size in bytes, fs, label, uses

    def properties(self, number: str) -> dict[str, str]:
        """What udev would give for the device with this number."""
        lines = self.udev.get(number, "").split("\n")
        return dict(line.strip().split("=", 1) for line in lines if "=" in line)


def write_tree(root: Path, text: str) -> Path:
    """Make the tree a capture tells of, and return its root."""
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/mountinfo").touch()
    for line in filter(None, (line.strip() for line in text.splitlines())):
        path, how, value = _split(line)
        place = root / path[1:] if path.startswith("/") else root / "sys/devices" / path
        if how == ":":
            place.mkdir(parents=True, exist_ok=True)
            (place / "subsystem").symlink_to(f"/sys/bus/{value}")
        elif how == "->":
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(value)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(bytes.fromhex(value) if how == "=x" else value.replace("\\n", "\n").encode() + b"\n")
            if place.name == "dev":
                _link(root, place.parent)
    return root


def _split(line: str) -> tuple[str, str, str]:
    path, how, *value = line.split(" ", 2)
    assert how in (":", "->", "=", "=x"), line
    return path, how, value[0] if value else ""


def _link(root: Path, folder: Path) -> None:
    blocks = root / "sys/class/block"
    blocks.mkdir(parents=True, exist_ok=True)
    (blocks / folder.name).symlink_to(os.path.relpath(folder, blocks))


def _facts(place: str, *facts: str) -> str:
    """The lines of one folder."""
    return "".join(f"{place}/{fact}\n" for fact in facts)


def _scsi(
    place: str, name: str, dev: str, size: int, *, vendor: str, model: str, removable: int = 1, **more: str
) -> str:
    """The lines of a SCSI disk: `place` is the folder of its SCSI device, `size` in sectors of 512 bytes."""
    disk = f"{place}/block/{name}"
    facts = {"dev": dev, "size": str(size), "removable": str(removable), "ro": "0", **more}
    lines = [f"{disk}/{fact} = {value}" for fact, value in facts.items()]
    lines += [f"{disk}/queue/logical_block_size = 512", f"{disk}/device -> ../../../{Path(place).name}"]
    lines += [f"{place}/vendor = {vendor}", f"{place}/model = {model}", f"{place}/type = 0", f"{place} : scsi"]
    return "\n".join(lines) + "\n"


def _usb(place: str, *, serial: str | None, ids: str) -> str:
    """The lines of a USB device and its first interface."""
    vendor, product = ids.split(":")
    lines = [f"{place}/idVendor = {vendor}", f"{place}/idProduct = {product}", f"{place} : usb"]
    lines += [f"{place}/{Path(place).name}:1.0 : usb"]
    if serial is not None:
        lines.append(f"{place}/serial = {serial}")
    return "\n".join(lines) + "\n"


def partition(disk: str, number: int, dev: str, start: int, size: int, *, name: str = "", infix: str = "") -> str:
    """The lines of a partition; `start` and `size` in sectors of 512 bytes, `name` the GPT name."""
    place = f"{disk}/{Path(disk).name}{infix}{number}"
    uevent = f"DEVTYPE=partition\\nPARTN={number}" + (f"\\nPARTNAME={name}" if name else "")
    facts = {"dev": dev, "partition": number, "start": start, "size": size, "ro": 0, "uevent": uevent}
    return "".join(f"{place}/{fact} = {value}\n" for fact, value in facts.items())


def mounts(*lines: str) -> str:
    """/proc/self/mountinfo of these lines: `number point fs source`."""
    text = ""
    for count, line in enumerate(lines):
        number, point, fs, source = line.split()
        text += f"{20 + count} 1 {number} / {point} rw,relatime shared:{count} - {fs} {source} rw\\n"
    return "/proc/self/mountinfo = " + text + "\n"


def swaps(*paths: str) -> str:
    """/proc/swaps with these."""
    head = "Filename Type Size Used Priority"
    return "/proc/swaps = " + "\\n".join([head, *(f"{path} partition 1048572 0 -2" for path in paths)]) + "\n"


_KINGSTON_USB = "pci0000:00/0000:00:11.0/0000:02:03.0/usb1/1-1"
_KINGSTON = f"{_KINGSTON_USB}/1-1:1.0/host33/target33:0:0/33:0:0:0"
_G3_USB = "platform/soc/3f980000.usb/usb1/1-1/1-1.5"
_G3 = f"{_G3_USB}/1-1.5:1.0/host0/target0:0:0/0:0:0:0"
_BOOK_USB = "pci0000:00/0000:00:02.1/usb1/1-2"
_BOOK = f"{_BOOK_USB}/1-2:1.0/host5/target5:0:0/5:0:0:0"
_READER_USB = "pci0000:00/0000:00:1a.0/usb1/1-1/1-1.3"
_READER = f"{_READER_USB}/1-1.3:1.0/host6/target6:0:0/6:0:0"
_UAS_USB = "pci0000:00/0000:00:14.0/usb2/2-4"
_UAS = f"{_UAS_USB}/2-4:1.0/host4/target4:0:0/4:0:0:0"
_CASE_USB = "pci0000:00/0000:00:1d.7/usb2/2-1"
_CASE = f"{_CASE_USB}/2-1:1.0/host7/target7:0:0/7:0:0:0"
_SD = "pci0000:00/0000:00:1c.3/0000:04:00.0/rtsx_pci_sdmmc.0/mmc_host/mmc0/mmc0:aaaa"
_SD_USB = "pci0000:00/0000:00:14.0/usb1/1-5/1-5:1.0/rtsx_usb_sdmmc.1.auto/mmc_host/mmc0/mmc0:59b4"
_EMMC = "pci0000:00/0000:00:1c.0/mmc_host/mmc1/mmc1:0001"
_NVME = "pci0000:00/0000:00:1d.0/0000:3d:00.0/nvme/nvme0"
_SATA = "pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0"
_SATA2 = "pci0000:00/0000:00:1f.2/ata2/host1/target1:0:0/1:0:0:0"
_CD = "pci0000:00/0000:00:1f.2/ata5/host4/target4:0:0/4:0:0:0"

KINGSTON_SYSFS = _usb(_KINGSTON_USB, serial="0013729982D5B97196320049", ids="0951:1625") + _scsi(
    _KINGSTON, "sdb", "8:16", 7831552, vendor="Kingston", model="DT 101 II       "
)
KINGSTON_DISK = f"{_KINGSTON}/block/sdb"
SATA_SYSFS = (
    _scsi(_SATA, "sda", "8:0", 234441648, vendor="ATA     ", model="INTEL SSDSC2BW12", removable=0)
    + f"{_SATA}/vpd_pg80 =x 00 80 00 14 {b'  BTDA329503FX1207GN'.hex(' ')}\n"
)
SATA_DISK = f"{_SATA}/block/sda"

CAPTURES = (
    Capture(
        "a USB 2 stick with FAT and no table",
        KINGSTON_SYSFS,
        "/dev/sdb",
        {
            "kind": "disk",
            "bus": "usb",
            "model": "Kingston DT 101 II",
            "serial": "0013729982D5B97196320049",
            "size_bytes": 7831552 * 512,
            "removable": True,
            "medium": True,
            "table": "",
            "major_minor": "8:16",
        },
        udev={
            "8:16": r"""ID_BUS=usb
                ID_FS_LABEL_ENC=MYLINUX\x20LIVE
                ID_FS_TYPE=vfat
                ID_FS_USAGE=filesystem
                ID_FS_UUID=3879-A38A
                ID_MODEL_ENC=DT\x20101\x20II\x20\x20\x20\x20\x20\x20\x20
                ID_SERIAL=Kingston_DT_101_II_0013729982D5B97196320049-0:0
                ID_SERIAL_SHORT=0013729982D5B97196320049"""
        },
        volumes=((0, 7831552 * 512, "vfat", "MYLINUX LIVE", ()),),
    ),
    Capture(
        "the same where no udevd runs",
        KINGSTON_SYSFS,
        "/dev/sdb",
        {
            "bus": "usb",
            "model": "Kingston DT 101 II",
            "serial": "0013729982D5B97196320049",
            "removable": True,
            "data": True,
        },
    ),
    Capture(
        "a stick with a DOS table in a Raspberry Pi, mounted",
        _usb(_G3_USB, serial="001CC07CEB39FBB1C91A24D0", ids="0951:1643")
        + _scsi(_G3, "sda", "8:0", 15653984, vendor="Kingston", model="DataTraveler G3 ")
        + partition(f"{_G3}/block/sda", 1, "8:1", 2048, 192512)
        + mounts("179:2 / ext4 /dev/root", r"8:1 /media/my\040stick vfat /dev/sda1"),
        "/dev/sda",
        {"bus": "usb", "serial": "001CC07CEB39FBB1C91A24D0", "table": "dos", "data": True},
        udev={
            "8:0": "ID_PART_TABLE_TYPE=dos\nID_SERIAL_SHORT=001CC07CEB39FBB1C91A24D0",
            "8:1": "ID_FS_TYPE=vfat\nID_FS_LABEL_ENC=BOOT\nID_FS_UUID=47CE-67C0\nID_PART_ENTRY_TYPE=0xc",
        },
        volumes=((1, 192512 * 512, "vfat", "BOOT", ("mounted at /media/my stick",)),),
    ),
    Capture(
        "a USB disk that is not removable for SCSI",
        _usb(_BOOK_USB, serial="574341563533393137353631", ids="1058:1110")
        + _scsi(_BOOK, "sdb", "8:16", 1953458176, vendor="WD      ", model="My Book 1110    ", removable=0)
        + partition(f"{_BOOK}/block/sdb", 1, "8:17", 2048, 1952137428),
        "/dev/sdb",
        {"bus": "usb", "removable": False, "model": "WD My Book 1110", "serial": "574341563533393137353631"},
        udev={"8:17": "ID_FS_TYPE=ntfs\nID_FS_LABEL_ENC=Data"},
        volumes=((1, 1952137428 * 512, "ntfs", "Data", ()),),
    ),
    Capture(
        "a card reader without a card",
        _usb(_READER_USB, serial="058F63666471", ids="058f:6366")
        + _scsi(f"{_READER}:0", "sdc", "8:32", 0, vendor="Multiple", model="Card  Reader    "),
        "/dev/sdc",
        {"bus": "usb", "medium": False, "size_bytes": 0, "data": False, "serial": "058F63666471", "removable": True},
    ),
    Capture(
        "a USB 3 disk driven by uas, with a GPT",
        _usb(_UAS_USB, serial="MSFT30NAA1B2C3D4", ids="152d:0583")
        + _scsi(_UAS, "sdd", "8:48", 488397168, vendor="JMicron ", model="Tech            ", removable=0)
        + partition(f"{_UAS}/block/sdd", 1, "8:49", 2048, 488394752, name="rootfs_data"),
        "/dev/sdd",
        {"bus": "usb", "removable": False, "serial": "MSFT30NAA1B2C3D4", "table": "gpt"},
        udev={"8:48": "ID_PART_TABLE_TYPE=gpt", "8:49": "ID_FS_TYPE=ext4\nID_FS_LABEL_ENC=rootfs_data"},
        volumes=((1, 488394752 * 512, "ext4", "rootfs_data", ()),),
    ),
    Capture(
        "a SATA disk in a USB case, which udev calls ata",
        _usb(_CASE_USB, serial="0123456789ABCDEF", ids="174c:5106")
        + _scsi(_CASE, "sde", "8:64", 312581808, vendor="ST316081", model="5AS             ", removable=0),
        "/dev/sde",
        {"bus": "usb", "serial": "0123456789ABCDEF", "removable": False},
        udev={"8:64": "ID_BUS=ata\nID_ATA=1\nID_SERIAL_SHORT=9RX1CQ3E\nID_MODEL=ST3160815AS"},
    ),
    Capture(
        "a stick whose maker gave it no serial number",
        _usb(_CASE_USB, serial=None, ids="1221:3234")
        + _scsi(_CASE, "sdb", "8:16", 1974271, vendor="USB 2.0", model="Flash Disk"),
        "/dev/sdb",
        {"bus": "usb", "serial": "", "model": "USB 2.0 Flash Disk"},
        udev={"8:16": "ID_BUS=usb\nID_SERIAL=USB_2.0_Flash_Disk-0:0"},
    ),
    Capture(
        "an SD card in a laptop's slot",
        _facts(
            f"{_SD}/block/mmcblk0",
            "dev = 179:0",
            "size = 31116288",
            "ro = 0",
            "removable = 0",
            "device -> ../../../mmc0:aaaa",
        )
        + _facts(_SD, "name = SC16G", "serial = 0x3a9f5ae1", "type = SD")
        + f"{_SD} : mmc\n"
        + partition(f"{_SD}/block/mmcblk0", 1, "179:1", 8192, 31108096, infix="p"),
        "/dev/mmcblk0",
        {"kind": "disk", "bus": "mmc", "model": "SC16G", "serial": "0x3a9f5ae1", "removable": False, "medium": True},
        volumes=((1, 31108096 * 512, "", "", ()),),
    ),
    Capture(
        "an SD card in a reader that is an MMC host on USB, write-protected",
        _facts(
            f"{_SD_USB}/block/mmcblk0",
            "dev = 179:0",
            "size = 15523840",
            "ro = 1",
            "removable = 0",
            "device -> ../../../mmc0:59b4",
        )
        + _facts(_SD_USB, "name = SD8GB", "serial = 0x00000a2c", "type = SD")
        + f"{_SD_USB} : mmc\n"
        + _usb("pci0000:00/0000:00:14.0/usb1/1-5", serial="2010", ids="0bda:0129"),
        "/dev/mmcblk0",
        {"bus": "mmc", "serial": "0x00000a2c", "read_only": True},
    ),
    Capture(
        "eMMC, soldered",
        _facts(
            f"{_EMMC}/block/mmcblk1",
            "dev = 179:8",
            "size = 61071360",
            "ro = 0",
            "removable = 0",
            "device -> ../../../mmc1:0001",
            "mmcblk1boot0/dev = 179:16",
            "mmcblk1boot0/size = 8192",
        )
        + _facts(_EMMC, "name = DF4032", "serial = 0xb15e26a7", "type = MMC")
        + f"{_EMMC} : mmc\n",
        "/dev/mmcblk1",
        {"kind": "disk", "bus": "emmc", "serial": "0xb15e26a7", "removable": False},
    ),
    Capture(
        "the boot area of an eMMC",
        _facts(f"{_EMMC}/block/mmcblk1/mmcblk1boot0", "dev = 179:16", "size = 8192"),
        "/dev/mmcblk1boot0",
        {"kind": "other"},
    ),
    Capture(
        "an NVMe disk with the system and its swap",
        _facts(
            f"{_NVME}/nvme0n1",
            "dev = 259:0",
            "size = 1000215216",
            "ro = 0",
            "removable = 0",
            "device -> ../../nvme0",
        )
        + _facts(_NVME, "model = SAMSUNG MZVLB512HAJQ-000L7              ", "serial = S3TNNX0K312345      ")
        + f"{_NVME} : nvme\n"
        + partition(f"{_NVME}/nvme0n1", 1, "259:1", 2048, 1048576, name="EFI System Partition", infix="p")
        + partition(f"{_NVME}/nvme0n1", 2, "259:2", 1050624, 966658048, infix="p")
        + partition(f"{_NVME}/nvme0n1", 3, "259:3", 967708672, 32505856, infix="p")
        + mounts("259:2 / ext4 /dev/nvme0n1p2", "259:1 /boot/efi vfat /dev/nvme0n1p1")
        + swaps("/dev/nvme0n1p3"),
        "/dev/nvme0n1",
        {
            "kind": "disk",
            "bus": "nvme",
            "model": "SAMSUNG MZVLB512HAJQ-000L7",
            "serial": "S3TNNX0K312345",
            "data": True,
        },
        volumes=(
            (1, 1048576 * 512, "", "", ("mounted at /boot/efi",)),
            (2, 966658048 * 512, "", "", ("mounted at /",)),
            (3, 32505856 * 512, "", "", ("swap in use",)),
        ),
    ),
    Capture(
        "a SATA disk with LVM on it, and the root in that",
        SATA_SYSFS
        + partition(SATA_DISK, 1, "8:1", 2048, 234437632)
        + f"{SATA_DISK}/sda1/holders/dm-0 -> ../../dm-0\n"
        + _facts("virtual/block/dm-0", "dev = 253:0", "size = 209715200", "dm/name = debian-root")
        + mounts("253:0 / ext4 /dev/mapper/debian-root"),
        "/dev/sda",
        {"kind": "disk", "bus": "ata", "model": "INTEL SSDSC2BW12", "serial": "BTDA329503FX1207GN", "removable": False},
        udev={"8:1": "ID_FS_TYPE=LVM2_member\nID_FS_USAGE=raid"},
        volumes=(
            (1, 234437632 * 512, "LVM2_member", "", ("held by dm-0 (debian-root)", "mounted at /", "LVM member")),
        ),
    ),
    Capture(
        "a virtio disk",
        _facts(
            "pci0000:00/0000:00:02.0/virtio1/block/vda",
            "dev = 254:0",
            "size = 4194304",
            "ro = 0",
            "serial = disk-one",
            "device -> ../../../virtio1",
        )
        + "pci0000:00/0000:00:02.0/virtio1 : virtio\npci0000:00/0000:00:02.0/virtio1/vendor = 0x1af4\n"
        + mounts("254:0 / ext4 /dev/vda"),
        "/dev/vda",
        {"kind": "disk", "bus": "virtio", "serial": "disk-one", "model": ""},
        uses=("mounted at /",),
    ),
    Capture(
        "a loop device",
        _facts("virtual/block/loop0", "dev = 7:0", "size = 131072", "loop/backing_file = /srv/a.img"),
        "/dev/loop0",
        {"kind": "loop", "bus": "", "serial": ""},
    ),
    Capture(
        "a stick that a loop device was put over",
        KINGSTON_SYSFS
        + "virtual/block/loop3/dev = 7:3\nvirtual/block/loop3/loop/backing_file = /dev/sdb\n"
        + "virtual/block/loop3/loop3p1/dev = 259:7\nvirtual/block/loop3/loop3p1/partition = 1\n"
        + mounts("259:7 /mnt ext4 /dev/loop3p1"),
        "/dev/sdb",
        {"bus": "usb"},
        uses=("held by loop3", "mounted at /mnt"),
    ),
    Capture(
        "a member of a running RAID with /home on it",
        _scsi(_SATA2, "sdb", "8:16", 1953525168, vendor="ATA     ", model="WDC WD10EZEX-08W", removable=0)
        + f"{_SATA2}/block/sdb/holders/md127 -> ../../md127\nvirtual/block/md127/dev = 9:127\n"
        + "virtual/block/md127/slaves/sdb -> ../../sdb\n"
        + mounts("9:127 /home xfs /dev/md127"),
        "/dev/sdb",
        {"bus": "ata"},
        udev={"8:16": "ID_FS_TYPE=linux_raid_member\nID_SERIAL_SHORT=WD-WCC6Y4ABCDEF"},
        uses=("held by md127", "mounted at /home", "RAID member"),
        volumes=((0, 1953525168 * 512, "linux_raid_member", "", ("RAID member",)),),
    ),
    Capture(
        "the RAID itself",
        "virtual/block/md127/dev = 9:127\nvirtual/block/md127/size = 1953260928\n",
        "/dev/md127",
        {"kind": "raid", "bus": ""},
    ),
    Capture(
        "a device-mapper device",
        _facts("virtual/block/dm-0", "dev = 253:0", "size = 209715200", "dm/name = debian-root"),
        "/dev/dm-0",
        {"kind": "device-mapper"},
    ),
    Capture(
        "a USB disk in a ZFS pool, which no holder tells",
        _usb(_UAS_USB, serial="NA7PXYZ1", ids="0bc2:ab38")
        + _scsi(_UAS, "sdd", "8:48", 3907029167, vendor="Seagate ", model="BUP Slim        ", removable=0)
        + partition(f"{_UAS}/block/sdd", 1, "8:49", 2048, 3907010560, name="zfs-5f0c5c9d9b5d8f0e")
        + partition(f"{_UAS}/block/sdd", 9, "8:57", 3907012608, 16384)
        + mounts("0:43 /tank zfs tank"),
        "/dev/sdd",
        {"bus": "usb", "table": "gpt"},
        udev={
            "8:48": "ID_PART_TABLE_TYPE=gpt\nID_FS_TYPE=zfs_member",
            "8:49": "ID_FS_TYPE=zfs_member\nID_FS_LABEL_ENC=tank",
        },
        uses=("ZFS member",),
        volumes=(
            (0, 3907029167 * 512, "zfs_member", "", ("ZFS member",)),
            (1, 3907010560 * 512, "zfs_member", "tank", ("ZFS member",)),
            (9, 16384 * 512, "", "", ()),
        ),
    ),
    Capture(
        "a stick with an opened LUKS container",
        KINGSTON_SYSFS
        + partition(KINGSTON_DISK, 1, "8:17", 2048, 7829504)
        + f"{KINGSTON_DISK}/sdb1/holders/dm-1 -> ../../dm-1\n"
        "virtual/block/dm-1/dev = 253:1\nvirtual/block/dm-1/dm/name = luks-6d1c\n"
        + mounts("253:1 /media/secret ext4 /dev/mapper/luks-6d1c"),
        "/dev/sdb",
        {"bus": "usb"},
        udev={"8:17": "ID_FS_TYPE=crypto_LUKS\nID_FS_USAGE=crypto"},
        volumes=(
            (1, 7829504 * 512, "crypto_LUKS", "", ("held by dm-1 (luks-6d1c)", "mounted at /media/secret", "dm-crypt")),
        ),
    ),
    Capture(
        "the second stick of a btrfs of two, which mountinfo does not name",
        KINGSTON_SYSFS
        + SATA_SYSFS
        + "/sys/fs/btrfs/6a0b3f57-7e43-4bd2-a1f1-4d5e2b1c9a10/devices/sda -> ../../../../devices/sda\n"
        "/sys/fs/btrfs/6a0b3f57-7e43-4bd2-a1f1-4d5e2b1c9a10/devices/sdb -> ../../../../devices/sdb\n"
        + mounts("0:39 /srv/pool btrfs /dev/sda"),
        "/dev/sdb",
        {"bus": "usb"},
        uses=("mounted at /srv/pool",),
    ),
    Capture(
        "a CD drive on SATA",
        _scsi(_CD, "sr0", "11:0", 2097151, vendor="HL-DT-ST", model="DVDRAM GT51N    ").replace("type = 0", "type = 5"),
        "/dev/sr0",
        {"kind": "cdrom", "bus": "ata", "removable": True},
    ),
    Capture(
        "a floppy drive",
        "platform/floppy.0 : platform\nplatform/floppy.0/block/fd0/dev = 2:0\nplatform/floppy.0/block/fd0/size = 8\n"
        "platform/floppy.0/block/fd0/removable = 1\nplatform/floppy.0/block/fd0/ro = 0\n",
        "/dev/fd0",
        {"kind": "floppy", "bus": "", "serial": "", "removable": True},
    ),
    Capture(
        "zram with swap on it",
        "virtual/block/zram0/dev = 253:0\nvirtual/block/zram0/size = 16777216\n" + swaps("/dev/zram0"),
        "/dev/zram0",
        {"kind": "memory"},
        uses=("swap in use",),
    ),
    Capture(
        "a disk of a kind nobody has heard of",
        "virtual/block/cciss!c0d0/dev = 104:0\nvirtual/block/cciss!c0d0/size = 143305920\n",
        "/dev/cciss/c0d0",
        {"kind": "other"},
    ),
)


def capture(name: str) -> Capture:
    """The capture with this name."""
    return next(one for one in CAPTURES if one.name == name)


def names() -> Iterator[str]:
    """The names of all captures."""
    return (one.name for one in CAPTURES)
