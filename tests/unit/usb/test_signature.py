"""What stands on a disk, by its magics."""

from __future__ import annotations

import struct

import pytest

from livebuilder.sizes import KIB, MIB
from livebuilder.usb.signature import Signature, parse_signature


def _with(size: int, at: int, magic: bytes) -> tuple[bytes, bytes]:
    """Head and tail of a disk that has nothing but `magic`."""
    data = bytearray(size)
    data[at : at + len(magic)] = magic
    tail_from = max(0, size // (256 * KIB) * 256 * KIB - 512 * KIB)
    return bytes(data[: MIB + 256 * KIB]), bytes(data[tail_from:])


_SIZE = 4 * MIB + 12345 * 512
_MD = struct.pack("<I", 0xA92B4EFC)


@pytest.mark.parametrize(
    ("fs", "at", "magic"),
    [
        ("LVM2_member", 512, b"LABELONE"),
        ("crypto_LUKS", 0, b"LUKS\xba\xbe\0\2"),
        ("linux_raid_member", 0, _MD),  # 1.1
        ("linux_raid_member", 4096, _MD),  # 1.2
        ("linux_raid_member", (_SIZE // 512 - 16) // 8 * 8 * 512, _MD),  # 1.0
        ("linux_raid_member", _SIZE // 65536 * 65536 - 65536, _MD),  # 0.90
        ("isw_raid_member", _SIZE - 1024, b"Intel Raid ISM Cfg Sig. 1.0"),
        ("ddf_raid_member", _SIZE - 512, b"\xde\x11\xde\x11"),
        ("zfs_member", 128 * KIB, struct.pack("<Q", 0x00BAB10C)),
        ("zfs_member", 511 * KIB, struct.pack(">Q", 0x00BAB10C)),
        ("zfs_member", _SIZE // (256 * KIB) * 256 * KIB - 128 * KIB, struct.pack("<Q", 0x00BAB10C)),
        ("swap", 4086, b"SWAPSPACE2"),
        ("swap", 65526, b"SWAPSPACE2"),
        ("swsuspend", 4086, b"S1SUSPEND\0"),
        ("xfs", 0, b"XFSB"),
        ("ntfs", 3, b"NTFS    "),
        ("exfat", 3, b"EXFAT   "),
        ("BitLocker", 3, b"-FVE-FS-"),
        ("iso9660", 32769, b"CD001"),
        ("btrfs", 65600, b"_BHRfS_M"),
    ],
)
def test_signatures(fs: str, at: int, magic: bytes) -> None:
    found = parse_signature(*_with(_SIZE, at, magic), size_bytes=_SIZE)
    assert found is not None
    assert found.fs == fs
    assert parse_signature(*_with(_SIZE, at + 4, magic), size_bytes=_SIZE) is None, "elsewhere it means nothing"


def test_a_raid_member_is_not_taken_for_the_file_system_it_holds() -> None:
    head, tail = _with(_SIZE, 1080, b"\x53\xef")
    assert parse_signature(head, tail, size_bytes=_SIZE) == Signature(
        "ext2", "", "00000000-0000-0000-0000-000000000000"
    )
    _, raid_tail = _with(_SIZE, (_SIZE // 512 - 16) // 8 * 8 * 512, _MD)
    assert parse_signature(head, raid_tail, size_bytes=_SIZE) == Signature("linux_raid_member")
