"""The sizes of a squashfs, what its superblock says, and how it is made. tests/tools/test_squashfs.py makes some."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebuilder.errors import LivebuilderError
from livebuilder.image.squashfs import Superblock, is_squashfs, padded_size, read_superblock, tar2sqfs_command
from livebuilder.sizes import GIB, KIB, MIB

# Of a squashfs that mksquashfs 4.5.1 made: xz, blocks of 256 KiB, four inodes.
HEAD = bytes.fromhex(
    "68737173 04000000 69000000 00000400 01000000 0400 1200 c000 0100 0400 0000"
    "9100000000000000 6501000000000000 5d01000000000000 ffffffffffffffff"
    "c800000000000000 0501000000000000 4701000000000000 5501000000000000"
)


def test_the_superblock_says_what_went_in() -> None:
    assert read_superblock(HEAD, source="x") == Superblock(4, 0x69, 256 * KIB, "xz", 0x165)
    assert is_squashfs(HEAD) and not is_squashfs(b"squashfs")
    with pytest.raises(LivebuilderError, match=r"root\.ext2 is not a squashfs"):
        read_superblock(bytes(96), source="root.ext2")


@pytest.mark.parametrize(
    ("used", "padded"),
    [
        (1, 64 * KIB + 4 * KIB),
        (64 * KIB - 1, 64 * KIB + 4 * KIB),
        (64 * KIB, 64 * KIB + 4 * KIB),
        (64 * KIB + 1, 128 * KIB + 4 * KIB),
        (7_247_302, 7_278_592),
    ],
)
def test_the_padding_is_what_openwrt_needs(used: int, padded: int) -> None:
    assert padded_size(used) == padded


@given(st.integers(1, 4 * GIB))
def test_behind_the_next_64_kib_there_is_a_page_and_no_room_for_a_file_system(used: int) -> None:
    """mount_root (fstools): it can read 0x43c bytes there, and the smallest ext4 has 60 KiB."""
    overlay_at = -(-used // (64 * KIB)) * 64 * KIB
    assert 0x43C <= padded_size(used) - overlay_at < 60 * KIB
    assert padded_size(used) % (4 * KIB) == 0, "a loop device has whole sectors"


def test_how_tar2sqfs_is_called() -> None:
    words = tar2sqfs_command(Path("/c/image"), block_size=MIB, epoch=1_700_000_000)
    at = words.index("--num-jobs")
    assert int(words[at + 1]) >= 1
    assert words[:at] + words[at + 2 :] == [
        "tar2sqfs", "--quiet", "--no-skip", "--force", "--compressor", "xz",
        "--block-size", "1048576", "--defaults", "uid=0,gid=0,mode=0755,mtime=1700000000", "/c/image",
    ]  # fmt: skip
