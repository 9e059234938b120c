"""The pure parts of content: which blocks, what has to be done, what debugfs is told and what it answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebuilder.errors import LivebuilderError
from livebuilder.tree import Entry, Kind, RootTree, directory, file, hardlink, symlink
from livebuilder.usb.blockdevice import BlockDevice, Volume
from livebuilder.usb.content import (
    DamagedError,
    debugfs_script,
    differences,
    label_command,
    parse_attributes,
    parse_dump,
    parse_inode,
    parse_listing,
    plan_changes,
    storage_volume,
    used_ranges,
)
from tests.support.trees import trees


@given(trees(), trees())
def test_a_plan_leads_from_any_tree_to_any_other(current: RootTree, wanted: RootTree) -> None:
    tree = RootTree(current)
    for change in plan_changes(current, wanted):
        if change.action == "remove":
            assert not any(entry.parent == change.entry.path for entry in tree), "leaves first"
            tree.remove(change.entry.path)
        elif change.action == "make":
            assert change.entry.path not in tree
            assert not change.entry.parent or change.entry.parent in tree
            tree.add(change.entry)
        else:
            old = tree[change.entry.path]
            assert set(old.xattrs) <= set(change.entry.xattrs), "nothing has to be taken away"
            kept = [entry for entry in tree if entry.path != change.entry.path]
            tree = RootTree([change.entry, *kept])
    assert differences(tree, wanted) == []
    assert plan_changes(wanted, wanted) == ()


def test_only_what_differs_is_touched() -> None:
    tree = RootTree([file("a/b", b"1"), file("a/c", b"2"), directory("d"), file("e", b"")])
    other = RootTree([file("a/b", b"1"), file("a/c", b"3"), directory("d"), file("e", b"")])
    changes = [(change.action, change.entry.path) for change in plan_changes(tree, other)]
    assert changes == [("remove", "a/c"), ("make", "a/c"), ("set", "a")]


def test_differences_are_in_words() -> None:
    found = RootTree([file("a", b"1"), file("b", b"")])
    wanted = RootTree([file("a", b"1", mode=0o600), file("c", b"")])
    assert differences(found, wanted) == [
        "/a differs: '0o644' for '0o600'", "/b should not be there", "/c is missing"
    ]  # fmt: skip


def test_the_script_for_debugfs() -> None:
    wanted = RootTree([Entry("d", Kind.DIRECTORY, 0o755), file('d/-a "b"', b"1"), hardlink("d/z", 'd/-a "b"')])
    lines = debugfs_script(plan_changes(RootTree([symlink("old", "x")]), wanted), wanted, folder=Path("/s p"))
    assert lines == [
        b'rm "/old"',
        b'cd "/"', b'mkdir "d"',
        b'cd "/d"', b'write "/s p/2" "-a ""b"""', b'sif "./-a ""b""" links_count 2',
        b'sif "./-a ""b""" mode 0100644', b'sif "./-a ""b""" uid 0', b'sif "./-a ""b""" gid 0',
        b'sif "./-a ""b""" mtime @0',
        b'mknod "z" p', b'rm "./z"', b'ln "/d/-a ""b""" "z"',
        b'cd "/"', b'sif "./d" mode 040755', b'sif "./d" uid 0', b'sif "./d" gid 0', b'sif "./d" mtime @0',
    ]  # fmt: skip


@pytest.mark.parametrize(
    "entry", [file("a\nb", b""), symlink("a", "\r"), Entry("a", Kind.FIFO, 0, xattrs={"x.y": b""})]
)
def test_what_debugfs_cannot_carry(entry: Entry) -> None:
    wanted = RootTree([entry])
    with pytest.raises(LivebuilderError, match="nothing was changed"):
        debugfs_script(plan_changes(RootTree(), wanted), wanted, folder=Path("/x"))


def test_what_debugfs_answers() -> None:
    listing = b"/2/040755/0/0/.//\n/2/040755/0/0/..//\n/0/000000/0/0//0/\n/13/100644/0/-2/a\n/b/5/\n\n"
    with pytest.raises(ValueError, match="no line"):
        parse_listing(listing)
    assert parse_listing(listing.replace(b"a\n/b", b"a\nb")) == [("a\nb", 13, 0o100644)]
    text = b'Extended attributes:\n  user.a b (3) = "x y"\n  user.empty (0)\n  user.c (2) = 00 01 \n'
    assert parse_attributes(text) == ["user.a b", "user.empty", "user.c"]
    assert parse_attributes(b"") == []
    with pytest.raises(ValueError, match="no line"):
        parse_attributes(b"something else\n")


def test_inodes() -> None:
    text = (
        b"0000  a481 70a2 0500 0000 3571 006b 3571 006b  ........5q.k5q.k\n"
        b"0020  00ff ff7f 0000 0000 feff 0100 0000 0000  5q.k............\n"
        b"0040  0000 0000 0000 0000 0000 0000 0000 0000  ................\n"
        b"*\n"
        b"0160  0000 0000 0000 0000 0100 ffff 0000 0000  ................\n"
        b"0200  2000 0000 0000 0000 0100 0000 0000 0000  ................\n"
        b"0220  0000 0000 0000 0000 0000 0000 0000 0000  ................\n"
        b"*\n\n"
    )
    raw = parse_dump(text)
    assert len(raw) == 256
    inode = parse_inode(raw)
    assert (oct(inode.mode), inode.uid, inode.gid, inode.size) == ("0o100644", 0x1A270, 0xFFFFFFFE, 5)
    assert inode.mtime == 0x7FFFFF00 + 2**32
    assert parse_inode(raw[:128]).mtime == 0x7FFFFF00
    node = parse_inode(raw[:40] + (0x0501).to_bytes(4, "little") + raw[44:])
    assert node.device == (5, 1)


@given(st.binary(min_size=1024, max_size=1024))
def test_a_superblock_of_noise_is_refused_or_understood(noise: bytes) -> None:
    def read(offset: int, length: int) -> bytes:
        return (noise * (length // 1024 + 1))[:length]

    try:
        found = used_ranges(read, size_bytes=64 * 2**20, path="x")
    except (DamagedError, LivebuilderError):
        return
    assert found is None or all(0 <= start < end <= 64 * 2**20 for start, end in found)


def test_label_commands() -> None:
    image = Path("/i")
    assert label_command("ext3", image, "l") == ("tune2fs", "-L", "l", "/i")
    assert label_command("f2fs", image, "l") == ("f2fslabel", "/i", "l")
    assert label_command("btrfs", image, "l") == ("btrfs", "filesystem", "label", "/i", "l")


def test_which_volume_is_meant() -> None:
    def volume(number: int, fs: str, label: str) -> Volume:
        return Volume(path=f"/dev/sdx{number}", number=number, offset_bytes=0, size_bytes=1, fs=fs, label=label)

    def disk(*volumes: Volume) -> BlockDevice:
        return BlockDevice(path="/dev/sdx", kind="disk", size_bytes=9, volumes=volumes)

    vfat, data, right = volume(1, "vfat", "rootfs_data"), volume(2, "ext4", "data"), volume(3, "ext4", "rootfs_data")
    assert storage_volume(disk(vfat, data, right)) is right
    assert storage_volume(disk(vfat, data)) is data
    with pytest.raises(LivebuilderError, match="more than one that could be meant: /dev/sdx2 and /dev/sdx2"):
        storage_volume(disk(data, data))
    with pytest.raises(LivebuilderError, match="only vfat"):
        storage_volume(disk(vfat))
