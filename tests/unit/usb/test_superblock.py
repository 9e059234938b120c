from __future__ import annotations

import struct
from pathlib import Path
from uuid import UUID

import pytest

from livebuilder.usb.superblock import Superblock, parse_superblock, read_superblock

ID = UUID("11111111-2222-4333-8444-555555555555")


def _ext(*, label: bytes = b"rootfs_data", compat: int = 0, incompat: int = 0, ro_compat: int = 0) -> bytes:
    data = bytearray(4096)
    data[1080:1082] = b"\x53\xef"
    struct.pack_into("<3I", data, 1024 + 0x5C, compat, incompat, ro_compat)
    data[1128:1144] = ID.bytes
    data[1144 : 1144 + len(label)] = label
    return bytes(data)


@pytest.mark.parametrize(
    ("compat", "incompat", "ro_compat", "type_"),
    [
        (0, 0, 0, "ext2"),
        (0x38, 0x2, 0x3, "ext2"),
        (0x3C, 0x2, 0x3, "ext3"),
        (0x3C, 0x6, 0x3, "ext3"),  # needs recovery
        (0x3C, 0x242, 0x79, "ext4"),
        (0x38, 0x42, 0x3, "ext4"),  # without a journal
        (0x3C, 0x2, 0x10, "ext4"),
    ],
)
def test_ext_is_told_apart_by_its_features(compat: int, incompat: int, ro_compat: int, type_: str) -> None:
    found = parse_superblock(_ext(compat=compat, incompat=incompat, ro_compat=ro_compat))
    assert found == Superblock(type_, "rootfs_data", str(ID))


def test_a_label_of_16_bytes_has_no_end_mark() -> None:
    found = parse_superblock(_ext(label=b"sixteen_bytes_xx"))
    assert found is not None
    assert found.label == "sixteen_bytes_xx"


@pytest.mark.parametrize("data", [b"", b"\0" * 70000, b"\xeb\x58\x90mkfs.fat" + b"\0" * 500 + b"\x55\xaa"])
def test_what_is_no_storage_is_none(data: bytes) -> None:
    assert parse_superblock(data) is None


def test_a_truncated_superblock_is_no_traceback() -> None:
    whole = _ext(compat=0x4)
    for length in range(0, 1200, 7):
        parse_superblock(whole[:length])


def test_the_offset_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(5000) + _ext())
    assert read_superblock(path) is None
    found = read_superblock(path, offset=5000)
    assert found is not None
    assert found.uuid == str(ID)
