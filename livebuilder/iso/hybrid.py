"""What makes a CD image bootable from a disk: the boot sector isohybrid puts into its first 512 bytes.

Layout (syslinux: utils/isohybrid.c): code, at byte 432 the place of isolinux.bin in 512-byte sectors, at 440 the
disk's id, at 446 four partitions of 16 bytes, at 510 the mark 55 AA.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

BOOT_SECTOR_BYTES = 512


@dataclass(frozen=True, slots=True)
class Partition:
    """One line of the partition table; places and sizes in 512-byte sectors."""

    number: int
    active: bool
    type: int
    start_sector: int
    sectors: int


@dataclass(frozen=True, slots=True)
class Hybrid:
    """The boot sector of a disc. `code` is whose it is; `image_sector` the image it starts, in 512-byte sectors."""

    code: str
    disk_id: int
    image_sector: int | None
    partitions: tuple[Partition, ...]
    gpt: bool


def read_hybrid(data: bytes) -> Hybrid | None:
    """The boot sector in the first 1,024 bytes of a disc; None when there is none."""
    if len(data) < 2 * BOOT_SECTOR_BYTES or data[510:512] != b"\x55\xaa":
        return None
    sector = data[:BOOT_SECTOR_BYTES]
    code = "none"
    if b"isolinux.bin" in sector:
        code = "isohybrid"
    elif b"GRUB" in sector:
        code = "GRUB"
    elif sector[:440].strip(b"\0"):
        code = "other"
    image, disk_id = struct.unpack_from("<I4xI", sector, 432)
    partitions = []
    for number in range(4):
        flag, kind, start, size = struct.unpack_from("<B3xB3xII", sector, 446 + 16 * number)
        if kind or size:
            partitions.append(Partition(number + 1, flag == 0x80, kind, start, size))
    gpt = data[BOOT_SECTOR_BYTES : BOOT_SECTOR_BYTES + 8] == b"EFI PART"
    return Hybrid(code, disk_id, image if code == "isohybrid" else None, tuple(partitions), gpt)
