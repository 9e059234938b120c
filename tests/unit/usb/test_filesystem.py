from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.sizes import GIB, MIB
from livebuilder.usb.filesystem import (
    FILE_SYSTEMS,
    REFUSED,
    check_command,
    label_command,
    list_command,
    make_commands,
    parse_listing,
)

UUID = "11111111-2222-4333-8444-555555555555"
IMAGE, TREE = Path("/s/volume"), Path("/s/tree")


def _argv(fs: str, *, size_bytes: int = 62 * MIB) -> list[tuple[str, ...]]:
    commands = make_commands(FILE_SYSTEMS[fs], IMAGE, size_bytes=size_bytes, label="rootfs_data", uuid=UUID, tree=TREE)
    return [command.argv for command in commands]


def test_ext4_is_made_by_exactly_these_words() -> None:
    make, fill = make_commands(
        FILE_SYSTEMS["ext4"], IMAGE, size_bytes=62 * MIB, label="rootfs_data", uuid=UUID, tree=TREE
    )
    features = (
        "none,has_journal,ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file"
        ",extent,flex_bg,huge_file,uninit_bg,dir_nlink,extra_isize"
    )
    assert make.argv == (
        "mke2fs", "-q", "-F", "-t", "ext4", "-O", features, "-b", "4096", "-I", "256", "-i", "4096", "-m", "0",
        "-e", "remount-ro", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0",
        "-L", "rootfs_data", "-U", UUID, "/s/volume", "63488k",
    )  # fmt: skip
    assert make.env == {"MKE2FS_CONFIG": "/dev/null"}
    assert fill.argv == ("debugfs", "-w", "-f", "-", "/s/volume")
    assert fill.input_bytes == b"mkdir upper\nmkdir work\nsymlink .fs_state 2\nquit\n"


@pytest.mark.parametrize("fs", ["ext2", "ext3", "ext4"])
def test_no_ext_has_a_feature_that_old_kernels_or_old_e2fsck_refuse(fs: str) -> None:
    argv = _argv(fs)[0]
    features = argv[argv.index("-O") + 1].split(",")
    assert features[0] == "none"
    assert not {"metadata_csum", "metadata_csum_seed", "orphan_file", "64bit"} & set(features)
    assert ("has_journal" in features) == (fs != "ext2")
    assert ("extent" in features) == (fs == "ext4")


@pytest.mark.parametrize(("size_bytes", "every"), [(62 * MIB, "4096"), (512 * MIB, "16384"), (8 * GIB, "16384")])
def test_small_sticks_have_more_inodes(size_bytes: int, every: str) -> None:
    argv = _argv("ext4", size_bytes=size_bytes)[0]
    assert argv[argv.index("-i") + 1] == every


@pytest.mark.parametrize(
    ("fs", "size_bytes", "lazy"),
    [("ext4", 62 * MIB, 0), ("ext4", 4 * GIB, 0), ("ext4", 8 * GIB, 1), ("ext3", 8 * GIB, 0), ("ext2", 8 * GIB, 0)],
)
def test_for_a_used_disk_zeros_are_written_but_for_tables_that_may_wait(fs: str, size_bytes: int, lazy: int) -> None:
    make, _ = make_commands(
        FILE_SYSTEMS[fs], IMAGE, size_bytes=size_bytes, label="rootfs_data", uuid=UUID, tree=TREE, for_used_disk=True
    )  # fmt: skip
    assert make.env == {"MKE2FS_CONFIG": "/dev/null", "UNIX_IO_NOZEROOUT": "1"}
    assert f"lazy_itable_init={lazy},lazy_journal_init=0,nodiscard,root_owner=0:0" in make.argv


def test_f2fs_is_made_and_then_filled() -> None:
    assert _argv("f2fs") == [
        ("mkfs.f2fs", "-q", "-t", "0", "-l", "rootfs_data", "-U", UUID, "/s/volume"),
        ("sload.f2fs", "-f", "/s/tree", "/s/volume"),
    ]


def test_btrfs_is_made_in_one_go_and_mixed_when_small() -> None:
    small = ("mkfs.btrfs", "--quiet", "--mixed", "--nodesize", "4096", "--label", "rootfs_data", "--uuid", UUID,
             "--rootdir", "/s/tree", "/s/volume")  # fmt: skip
    assert _argv("btrfs") == [small]
    assert "--mixed" not in _argv("btrfs", size_bytes=GIB)[0]


def test_every_file_system_has_its_tools_named_and_a_check() -> None:
    assert set(FILE_SYSTEMS) == {"ext2", "ext3", "ext4", "f2fs", "btrfs"}
    for kind in FILE_SYSTEMS.values():
        used = {argv[0] for argv in _argv(kind.name)} | {check_command(kind, IMAGE).argv[0]}
        listing = list_command(kind, IMAGE)
        used |= {listing.argv[0]} if listing else set()
        assert used == set(kind.tools)


def test_the_limits_of_labels() -> None:
    assert {kind.name: kind.label_bytes for kind in FILE_SYSTEMS.values()} == {
        "ext2": 16, "ext3": 16, "ext4": 16, "f2fs": 512, "btrfs": 254
    }  # fmt: skip


def test_what_cannot_be_an_upper_layer_is_refused_with_its_reason() -> None:
    assert not set(REFUSED) & set(FILE_SYSTEMS)
    for name in ("vfat", "exfat", "ntfs"):
        assert "upper layer" in REFUSED[name]


def test_a_listing_of_debugfs_is_read() -> None:
    text = "/2/040755/0/0/.//\n/12/040755/0/1000/upper//\n/14/120777/0/0/.fs_state/1/\n\nnoise / of debugfs\n"
    assert parse_listing(text) == {
        ".": (0o40755, 0, 0), "upper": (0o40755, 0, 1000), ".fs_state": (0o120777, 0, 0)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fs", "argv"),
    [
        ("ext3", ("tune2fs", "-L", "l", "/s/volume")),
        ("f2fs", ("f2fslabel", "/s/volume", "l")),
        ("btrfs", ("btrfs", "filesystem", "label", "/s/volume", "l")),
    ],
)
def test_what_gives_another_label(fs: str, argv: tuple[str, ...]) -> None:
    assert label_command(FILE_SYSTEMS[fs], IMAGE, "l").argv == argv
