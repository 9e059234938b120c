"""El Torito: the catalogue of boot images on a CD, and the table that mkisofs-like writers put into an image.

The boot catalogue is a row of 32-byte entries (El Torito 1.0, chapter 2): a validation entry whose sixteen words
sum to zero, the default entry, then sections of further entries, each with a platform of its own::

    validation  0 01   1 platform   4 name   28 checksum   30 55 AA
    entry       0 88 boots, 00 does not   1 media   2 segment   4 system   6 512-byte sectors to load   8 sector
    section     0 90, 91 for the last     1 platform   2 entries   4 name

The boot info table (mkisofs: README.eltorito) is 56 bytes at byte 8 of the image: the sector of the primary
volume descriptor, the image's own sector, its length, and the sum of its 32-bit words from byte 64 on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

CATALOG_BYTES = 2048
BOOT_INFO_BYTES = 64
PLATFORM_BIOS = 0x00
PLATFORM_UEFI = 0xEF

_PLATFORMS = {PLATFORM_BIOS: "BIOS", 0x01: "PowerPC", 0x02: "Mac", PLATFORM_UEFI: "UEFI"}
_MEDIA = {0: "no emulation", 1: "1.2 MB floppy", 2: "1.44 MB floppy", 3: "2.88 MB floppy", 4: "hard disk"}


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One boot image: for which platform, how much of it the firmware loads (in 512-byte sectors), and where it is."""

    platform_id: int
    bootable: bool
    media: str
    load_segment: int
    load_sectors: int
    sector: int

    @property
    def platform(self) -> str:
        """The platform's name."""
        return _PLATFORMS.get(self.platform_id, f"platform {self.platform_id:#04x}")


@dataclass(frozen=True, slots=True)
class BootInfo:
    """The boot info table of an image, and the checksum that the image really has."""

    descriptor_sector: int
    sector: int
    size_bytes: int
    checksum: int
    actual_checksum: int


def read_catalog(data: bytes) -> tuple[tuple[CatalogEntry, ...], tuple[str, ...]]:
    """The entries of a boot catalogue, and what is wrong with it; `data` is all of it that there is."""
    problems: list[str] = []
    validation = data[:32]
    if len(data) < 64 or validation[0] != 1 or validation[30:32] != b"\x55\xaa":
        return (), ("the boot catalogue does not begin with a validation entry",)
    if sum(struct.unpack("<16H", validation)) & 0xFFFF:
        problems.append("the checksum of the boot catalogue is wrong")
    entries = [_entry(data[32:64], validation[1], problems)]
    offset = 64
    last = False
    while not last and offset + 32 <= len(data) and data[offset] in (0x90, 0x91):
        last, platform = data[offset] == 0x91, data[offset + 1]
        count = struct.unpack_from("<H", data, offset + 2)[0]
        offset += 32
        while count and any(data[offset : offset + 32]) and offset + 32 <= len(data):
            if data[offset] != 0x44:  # 44 extends the entry before it
                entries.append(_entry(data[offset : offset + 32], platform, problems))
                count -= 1
            offset += 32
        if count:
            problems.append("a section of the boot catalogue tells of more entries than it has")
    return tuple(entries), tuple(problems)


def _entry(data: bytes, platform: int, problems: list[str]) -> CatalogEntry:
    indicator, media, segment, _, _, sectors, sector = struct.unpack_from("<BBHBBHI", data)
    if indicator not in (0x00, 0x88):
        problems.append(f"an entry of the boot catalogue has the boot indicator {indicator:#04x}")
    name = _MEDIA.get(media & 0x0F, f"media {media & 0x0F}")
    return CatalogEntry(platform, indicator == 0x88, name, segment, sectors, sector)


def read_boot_info(image: bytes, *, sector: int, descriptor_sector: int = 16) -> BootInfo | None:
    """The boot info table of `image`, which stands at `sector`; None when it has none.

    One of its first three numbers is enough to know it, so that a table with a wrong number is seen as such.
    """
    if len(image) < BOOT_INFO_BYTES:
        return None
    table = struct.unpack_from("<4I", image, 8)
    known = (table[0] == descriptor_sector, table[1] == sector, table[2] == len(image))
    if sum(known) < 2 and not known[1]:
        return None
    return BootInfo(table[0], table[1], table[2], table[3], boot_checksum(image))


def boot_checksum(image: bytes) -> int:
    """The sum of the 32-bit little-endian words of `image` behind byte 64, its end filled up with zeros."""
    body = image[BOOT_INFO_BYTES:]
    body += b"\0" * (-len(body) % 4)
    words: tuple[int, ...] = struct.unpack(f"<{len(body) // 4}I", body)
    return sum(words) & 0xFFFF_FFFF
