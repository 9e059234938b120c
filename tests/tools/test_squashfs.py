"""Squashfs images that we make, read by squashfs-tools, which had no part in making them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from livebuilder.cache import Cache
from livebuilder.image.squashfs import SquashfsRoot, make_squashfs, padded_size
from livebuilder.process import run
from livebuilder.sizes import KIB, MIB
from livebuilder.sources.squashfs import root_tree_from_squashfs
from livebuilder.tree import Content, Entry, Kind, RootTree, file
from tests.support.rootimages import sample_root
from tests.support.trees import facts, trees

ROOT = sample_root()
EPOCH = 1_500_000_000
_KIND = {"d": Kind.DIRECTORY, "-": Kind.FILE, "l": Kind.SYMLINK, "c": Kind.CHAR, "b": Kind.BLOCK, "p": Kind.FIFO}
_LINE = re.compile(
    r"(?P<mode>\S{10}) (?P<uid>\d+)/(?P<gid>\d+) +(?:(?P<major>\d+), *(?P<minor>\d+)|(?P<size>\d+)) \S+ \S+ "
    r"squashfs-root/(?P<path>.+?)(?: -> (?P<target>.*))?"
)


def made(tmp_path: Path, tree: RootTree = ROOT, *, block_size: int = 256 * KIB, epoch: int = EPOCH) -> SquashfsRoot:
    return make_squashfs(tree, block_size=block_size, epoch=epoch, drivers=(), cache=Cache(tmp_path / "cache"))


def path_of(image: SquashfsRoot) -> Path:
    assert image.content.path is not None
    return image.content.path


def permissions(mode: str) -> int:
    bits = sum(1 << (8 - at) for at, letter in enumerate(mode[1:]) if letter not in "-ST")
    return bits | sum(bit for at, bit in ((3, 0o4000), (6, 0o2000), (9, 0o1000)) if mode[at] in "sStT")


def test_unsquashfs_finds_what_went_in(tmp_path: Path) -> None:
    image = path_of(made(tmp_path))
    listing = run(["unsquashfs", "-lln", image]).stdout.splitlines()
    found = {}
    for line in listing:
        if match := _LINE.fullmatch(line):
            # unsquashfs shows the two halves of the number; Linux puts them together like this (linux/kdev_t.h).
            number = int(match["major"] or 0) << 8 | int(match["minor"] or 0)
            device = (number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00)
            owner = (int(match["uid"]), int(match["gid"]))
            found[match["path"]] = (_KIND[line[0]], permissions(match["mode"]), owner, device, match["target"] or "")
    assert found == {
        path: (fact.kind, fact.mode, fact.owner, fact.device, fact.target) for path, fact in facts(ROOT).items()
    }
    for path in ("lib/large", "bin/busybox", "etc/my dir/same"):
        assert run(["unsquashfs", "-cat", image, path]).stdout_bytes == facts(ROOT)[path].data, path


def test_times_names_of_a_file_and_attributes_are_kept(tmp_path: Path) -> None:
    image = path_of(made(tmp_path))
    folder = tmp_path / "unpacked"
    # Only what an ordinary user can make: no nodes, no owners, no capabilities.
    run(["unsquashfs", "-no-progress", "-user-xattrs", "-d", folder, image, "etc", "bin/sh", "lib"])
    assert (folder / "etc/preinit").stat().st_mtime == ROOT["etc/preinit"].mtime
    assert (folder / "etc/my dir/same").stat().st_ino == (folder / "etc/my dir/a file").stat().st_ino
    found = root_tree_from_squashfs(Content.from_file(image), source=image, cache=Cache(tmp_path / "read"))
    assert facts(found) == facts(ROOT)
    assert {e.path: dict(e.xattrs) for e in found if e.xattrs} == {e.path: dict(e.xattrs) for e in ROOT if e.xattrs}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees())
def test_any_tree_comes_through(tmp_path: Path, tree: RootTree) -> None:
    tree.add(file("always", "there"))
    late = 0x7FFF_FFFF
    image = path_of(made(tmp_path, tree, epoch=late))
    found = root_tree_from_squashfs(Content.from_file(image), source=image, cache=Cache(tmp_path / "read"))
    implied = {e.path for e in tree if e.kind is Kind.DIRECTORY and not e.source}
    assert {p: f for p, f in facts(found).items() if p not in implied} == {
        p: f for p, f in facts(tree).items() if p not in implied
    }


@pytest.mark.parametrize("block_size", [4 * KIB, 128 * KIB, 256 * KIB, MIB])
def test_linux_reads_the_format_and_openwrt_its_padding(tmp_path: Path, block_size: int) -> None:
    image = made(tmp_path, block_size=block_size)
    said = run(["unsquashfs", "-s", path_of(image)]).stdout
    assert "valid SQUASHFS 4:0 superblock" in said and "Compression xz" in said
    assert re.search(rf"^Block size {block_size}$", said, re.MULTILINE)
    (used,) = re.findall(r"^Filesystem size (\d+) bytes", said, re.MULTILINE)
    (inodes,) = re.findall(r"^Number of inodes (\d+)$", said, re.MULTILINE)
    assert (image.bytes_used, image.inodes, image.block_size) == (int(used), int(inodes), block_size)
    data = path_of(image).read_bytes()
    assert len(data) == image.size_bytes == padded_size(image.bytes_used)
    assert not any(data[image.bytes_used :])
    # What checks xz data: none, or CRC32 (header byte 7; xz file format 2.1.1.2), the only ones Linux has.
    assert {data[at + 7] for at in (m.start() for m in re.finditer(rb"\xfd7zXZ\0\0", data))} <= {0, 1}


def test_the_same_tree_gives_the_same_bytes_from_anywhere(tmp_path: Path) -> None:
    first = made(tmp_path / "one")
    other = RootTree(replace(entry, source="elsewhere") for entry in reversed(list(ROOT)))
    assert made(tmp_path / "two", other).content.sha256 == first.content.sha256
    later = RootTree(replace(entry, mtime=EPOCH + number) for number, entry in enumerate(ROOT))
    latest = RootTree(replace(entry, mtime=2 * EPOCH) for entry in ROOT)
    assert made(tmp_path / "three", later).content.sha256 == made(tmp_path / "four", latest).content.sha256
    assert made(tmp_path / "one", epoch=EPOCH + 1).content.sha256 != first.content.sha256


def test_one_that_is_known_is_not_made_again_unless_it_is_short(tmp_path: Path) -> None:
    image = path_of(made(tmp_path))
    inode, data = image.stat().st_ino, image.read_bytes()
    assert path_of(made(tmp_path)).stat().st_ino == inode
    for left in (0, 50, len(data) - 1):
        image.write_bytes(data[:left])
        assert path_of(made(tmp_path)).read_bytes() == data


def test_what_is_counted(tmp_path: Path) -> None:
    drivers = [Entry("loop.ko", Kind.FILE, 0o644, content=Content.from_bytes(bytes(5000)))]
    tree = RootTree([file("a", bytes(5000)), file("b", b"x"), Entry("c", Kind.HARDLINK, 0o644, target="a")])
    image = make_squashfs(tree, block_size=MIB, epoch=0, drivers=drivers, cache=Cache(tmp_path / "cache"))
    assert (image.entries, image.inodes, image.data_bytes) == (2, 3, 12 * KIB)
    assert image.needed_bytes == 8 * KIB + 5 * MIB + 128 * KIB
