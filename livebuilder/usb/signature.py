"""What stands on a disk or partition: file systems, and members of something larger, known by their magics. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from uuid import UUID

from livebuilder.sizes import KIB, MIB
from livebuilder.usb.superblock import parse_superblock

_TAIL_STEP = 256 * KIB  # of a ZFS label; the tail read holds two of them and whatever comes after


@dataclass(frozen=True)
class Signature:
    """What a file system, or a member of something larger, says of itself. `fs` is blkid's word for it."""

    fs: str
    label: str = ""
    uuid: str = ""


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
HEAD_BYTES = MIB + 256 * KIB  # a table, every magic above, and the beginning of a partition at 1 MiB


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
    start = tail_start(size_bytes)
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


def tail_start(length: int) -> int:
    """Where the tail of a disk of `length` bytes begins, as `parse_signature()` wants it."""
    return max(0, length // _TAIL_STEP * _TAIL_STEP - 2 * _TAIL_STEP)


def uses_of(signature: Signature | None) -> tuple[str, ...]:
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
