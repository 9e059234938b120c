"""Roots and kernels out of images that mke2fs, squashfs-tools, dosfstools, mtools and sfdisk made."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from livebuilder.cache import Cache
from livebuilder.errors import LivebuilderError
from livebuilder.process import run
from livebuilder.sizes import KIB, MIB
from livebuilder.sources.image import ImageRoot, root_from_image
from livebuilder.sources.partitions import read_partitions
from livebuilder.tree import Content, Kind, RootTree, file
from tests.support.damage import mutated
from tests.support.rootimages import (
    debugfs,
    disk_image,
    ext_image,
    fat_image,
    kernel_bytes,
    openwrt_disk,
    packed,
    sample_root,
    squashfs_image,
    tar_of,
    with_metadata,
)
from tests.support.trees import Fact, facts

ROOT = sample_root()


def read(path: Path) -> ImageRoot:
    return root_from_image(path, cache=Cache(path.parent / "cache"))


def everything(tree: RootTree) -> dict[str, tuple[Fact, dict[str, bytes]]]:
    """The facts of every path, attributes too."""
    return {path: (fact, dict(tree[path].xattrs)) for path, fact in facts(tree).items()}


def assert_root(found: ImageRoot, tree: RootTree = ROOT) -> None:
    assert everything(found.tree) == everything(tree)


@pytest.mark.parametrize(
    ("fs", "block_size", "features"),
    [
        ("ext2", 1024, ""), ("ext2", 4096, ""), ("ext3", 2048, ""), ("ext4", 1024, ""), ("ext4", 4096, ""),
        ("ext4", 4096, "^64bit,^metadata_csum,^huge_file"), ("ext4", 1024, "^extent,^flex_bg,^64bit"),
        ("ext4", 4096, "bigalloc"),
    ],
)  # fmt: skip
def test_an_ext_image_has_what_went_in(tmp_path: Path, fs: str, block_size: int, features: str) -> None:
    size = 32 * MIB if features == "bigalloc" else 8 * MIB
    image = ext_image(tmp_path / "root.img", ROOT, fs=fs, block_size=block_size, features=features, size_bytes=size)
    assert run(["e2fsck", "-fn", image], check=False).returncode == 0
    found = read(image)
    assert (found.kind, found.kernel, found.found) == ("ext", None, fs)
    assert_root(found)


def test_what_debugfs_says_of_an_ext_image_is_what_we_say(tmp_path: Path) -> None:
    """The reader against e2fsprogs, path by path, on an image that e2fsprogs made of files of this host."""
    image = ext_image(tmp_path / "root.img", ROOT, fs="ext2", block_size=1024)
    tree = read(image).tree
    paths = [entry.path for entry in tree if " " not in entry.path]
    answers = debugfs(image, *(f"stat /{path}" for path in paths)).split("debugfs: stat /")[1:]
    assert len(answers) == len(paths) > 100
    for path, answer in zip(paths, answers, strict=True):
        entry = tree[tree[path].target] if tree[path].kind is Kind.HARDLINK else tree[path]
        fields = dict(reversed(re.findall(r"(Mode|User|Group|Size): +(\d+)", answer)))  # a later "Size" is another
        assert int(fields["Mode"], 8) & 0o7777 == entry.mode, path
        assert (int(fields["User"]), int(fields["Group"])) == (entry.uid, entry.gid), path
        if entry.kind is Kind.FILE:
            assert int(fields["Size"]) == entry.content.size, path
    debugfs(image, f"dump /lib/large {tmp_path}/large")
    assert hashlib.sha256((tmp_path / "large").read_bytes()).hexdigest() == tree["lib/large"].content.sha256


def test_files_in_pieces_sparse_files_and_times_beyond_2038(tmp_path: Path) -> None:
    tree = RootTree([file(f"f{number}", bytes([number + 1]) * 200 * KIB) for number in range(8)])
    image = ext_image(tmp_path / "root.img", tree, fs="ext4", block_size=1024, size_bytes=4 * MIB)
    later = tmp_path / "later"
    later.write_bytes(bytes(range(255, 0, -1)) * 4200)  # larger than any gap that is left by then
    holes = tmp_path / "holes"
    with holes.open("wb") as stream:
        for at in (0, 300_000, 900_000):
            stream.seek(at)
            stream.write(b"island")
        stream.truncate(1_000_000)
    debugfs(image, *(f"rm f{number}" for number in (1, 3, 5, 7)), f"write {later} later", f"write {holes} holes",
            "sif later mtime_extra 1", "sif later mtime @4102444800")  # fmt: skip
    extents = debugfs(image, "dump_extents later")
    assert extents.count("\n") > 4, extents
    found = read(image).tree
    assert found["later"].content.read() == later.read_bytes()
    assert found["holes"].content.read() == holes.read_bytes()
    assert found["later"].mtime == 4102444800
    assert found["f2"].content.path == image, "what lies in one run is read where it stands"
    assert facts(read(image).tree) == facts(found), "from the cache"


@pytest.mark.parametrize(
    "options",
    [("-comp", "xz", "-b", "256K"), ("-comp", "gzip"), ("-comp", "zstd", "-b", "1M"), ("-comp", "lzo", "-nopad")],
    ids=lambda options: options[1],
)
def test_a_squashfs_has_what_went_in(tmp_path: Path, options: tuple[str, ...]) -> None:
    image = squashfs_image(tmp_path / "root.squashfs", ROOT, *options)
    with image.open("ab") as stream:
        stream.write(b"\xde\xad\xc0\xde" * 5000)  # where OpenWrt's overlay begins
    found = read(image)
    assert (found.kind, found.kernel) == ("squashfs", None)
    assert re.fullmatch(rf"squashfs \({options[1]}, \d+\.\d KiB\)", found.found)
    assert_root(found)
    assert_root(read(image))


def test_a_squashfs_with_lzma_is_read_as_squashfs_tools_write_it(tmp_path: Path) -> None:
    run(["tar2sqfs", "-q", "-s", "-c", "lzma", tmp_path / "root.img"], input_bytes=tar_of(ROOT))
    assert_root(read(tmp_path / "root.img"))


def boot_ext(folder: Path, *, fs: str = "ext4") -> Path:
    tree = RootTree([file("boot/vmlinuz", kernel_bytes()), file("boot/grub/grub.cfg", "menu\n")])
    return ext_image(folder / "boot.img", tree, fs=fs, block_size=1024, size_bytes=2 * MIB)


@pytest.mark.parametrize(
    ("boot", "root", "table"),
    [("ext2", "squashfs", "dos"), ("ext4", "ext4", "dos"), ("fat16", "squashfs", "gpt"), ("fat32", "ext4", "gpt"),
     ("fat12", "squashfs", "dos")],
)  # fmt: skip
def test_a_combined_image_gives_kernel_and_root(tmp_path: Path, boot: str, root: str, table: str) -> None:
    files = {"boot/vmlinuz": kernel_bytes(), "efi/boot/bootx64.efi": b"MZ" * 5000, "boot/grub/grub.cfg": b"menu\n"}
    if boot.startswith("fat"):
        first = fat_image(tmp_path / "boot.img", files, bits=int(boot[3:]))
    else:
        first = boot_ext(tmp_path, fs=boot)
    second = tmp_path / "root.img"
    if root == "squashfs":
        squashfs_image(second, ROOT, "-comp", "xz", "-nopad")
    else:
        ext_image(second, ROOT)
    disk = openwrt_disk(tmp_path / "combined.img", second, boot=first, table=table, names=("kernel", "rootfs"))
    name = {"dos": "", "gpt": " 'rootfs'"}[table]
    gz = packed(tmp_path / "openwrt-x86-generic-combined.img.gz", disk.read_bytes())
    assert b"trailing garbage" in run(["gzip", "-t", gz], check=False).stderr_bytes
    for path in (disk, gz):
        found = read(path)
        assert found.kind == "disk"
        assert found.kernel is not None and found.kernel.read() == kernel_bytes()
        assert_root(found)
        assert f"a disk with a {table.upper()} table, partition 1" in found.found
        assert re.search(rf"partition 2{name} of \d+\.\d MiB: {root}", found.found)
    assert_root(read(gz))


@pytest.mark.parametrize("table", ["dos", "gpt"])
def test_partitions_are_those_of_sfdisk(tmp_path: Path, table: str) -> None:
    for number in range(3):
        (tmp_path / f"{number}").write_bytes(bytes(MIB))
    kinds = ("type=c, bootable", "type=83", "type=5") if table == "dos" else (
        'type=uefi, name="EFI System"', 'type=linux, name="rötfs"', "type=21686148-6449-6E6F-744E-656564454649"
    )  # fmt: skip
    volumes = [(kind, tmp_path / f"{number}", (number + 1) * MIB) for number, kind in enumerate(kinds)]
    disk = disk_image(tmp_path / "disk.img", *volumes, table=table)
    said = json.loads(run(["sfdisk", "--json", disk]).stdout)["partitiontable"]
    kind, found = read_partitions(Content.from_file(disk), source="disk.img")
    assert kind == said["label"] == table
    assert [(p.start // 512, p.size // 512, p.type, p.name) for p in found] == [
        (one["start"], one["size"], one["type"], one.get("name", "")) for one in said["partitions"]
    ]
    assert [p.is_extended for p in found] == [False, False, table == "dos"]


@pytest.mark.parametrize("packer", ["gzip", "xz", "zstd", "bzip2", "tar.gz", "tar"])
def test_images_may_be_packed_and_archives_are_roots_too(tmp_path: Path, packer: str) -> None:
    image = squashfs_image(tmp_path / "plain.img", ROOT, "-comp", "gzip")
    if packer.startswith("tar"):
        image.write_bytes(tar_of(ROOT))
    tool = {"tar.gz": "gzip", "tar": "cat"}.get(packer, packer)
    data = run([tool, *(["-c"] if tool != "cat" else [])], input_bytes=image.read_bytes()).stdout_bytes
    given = tmp_path / "given"
    given.write_bytes(data if packer == "xz" or packer.startswith("tar") else with_metadata(data))
    found = read(given)
    assert found.kind == ("tar" if packer.startswith("tar") else "squashfs")
    assert found.found.startswith("tar" if packer.startswith("tar") else f"{packer}, in it squashfs")
    assert_root(found)


def test_two_streams_of_gzip_are_one_image(tmp_path: Path) -> None:
    data = squashfs_image(tmp_path / "plain.img", ROOT, "-comp", "gzip").read_bytes()
    parts = [run(["gzip", "-c"], input_bytes=part).stdout_bytes for part in (data[:90_000], data[90_000:])]
    (tmp_path / "given.gz").write_bytes(with_metadata(b"".join(parts)))
    assert_root(read(tmp_path / "given.gz"))


@pytest.mark.parametrize(
    ("features", "named"),
    [("inline_data", "inline_data"), ("encrypt", "encrypt"), ("meta_bg,^resize_inode", "meta_bg"),
     ("ea_inode", "ea_inode")],
)  # fmt: skip
def test_features_that_are_not_known_are_named(tmp_path: Path, features: str, named: str) -> None:
    run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", features, tmp_path / "root.img", "4m"])
    with pytest.raises(LivebuilderError, match=rf"root\.img has .* features that cannot be read here: .*\b{named}\b"):
        read(tmp_path / "root.img")


def test_an_ext_that_was_not_unmounted_is_refused(tmp_path: Path) -> None:
    image = ext_image(tmp_path / "root.img", ROOT)
    debugfs(image, "feature needs_recovery")
    with pytest.raises(LivebuilderError, match="was not unmounted: its journal must be replayed"):
        read(image)


def test_a_disk_without_a_root_is_told_with_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "swap.img").write_bytes(bytes(MIB))
    volumes = [
        ('type=uefi, name="boot"', fat_image(tmp_path / "fat.img", {"boot/vmlinuz": b"k"}), MIB),
        ('type=linux, name="data"', ext_image(tmp_path / "data.img", RootTree([file("x", "y")]), size_bytes=MIB), MIB),
        ("type=swap", tmp_path / "swap.img", MIB),
    ]
    disk = disk_image(tmp_path / "disk.img", *volumes, table="gpt")
    with pytest.raises(LivebuilderError) as caught:
        read(disk)
    assert caught.value.message == (
        f"{disk} is a disk with a GPT table, partition 1 'boot' of 1.0 MiB: FAT; partition 2 'data' of 1.0 MiB: ext4;"
        " partition 3 of 1.0 MiB: unknown: none of them holds a root"
    )


def test_200_mutated_images_give_a_root_or_a_clear_error(tmp_path: Path) -> None:
    """Sums of gzip and squashfs find most, a reader of ext only what cannot be."""
    small = sample_root(large=20_000)
    ext = ext_image(tmp_path / "ext", small, fs="ext2", block_size=1024, size_bytes=MIB)
    ext4 = ext_image(tmp_path / "ext4", small, fs="ext4", block_size=1024, size_bytes=MIB, features="^has_journal")
    squashfs = squashfs_image(tmp_path / "squashfs", small, "-comp", "xz")
    fat = fat_image(tmp_path / "fat", {"boot/vmlinuz": kernel_bytes(20_000)})
    disk = openwrt_disk(tmp_path / "disk", squashfs, boot=fat, table="gpt", names=("kernel", "rootfs"))
    packed(tmp_path / "gz", disk.read_bytes())
    outcomes = {"root": 0, "error": 0}
    given = tmp_path / "mutated.img"
    for seed in range(200):
        data = (ext, ext4, squashfs, disk, tmp_path / "gz")[seed % 5].read_bytes()
        # The tables of an ext are at its start, those of a disk too: that is where most of the damage goes.
        head = data[: 40 * KIB] if seed % 5 < 2 else data[: 4 * KIB] if seed % 5 == 3 else data
        given.write_bytes(mutated(head, seed // 5) + data[len(head) :] * (seed // 5 % 4 != 0))
        try:
            everything(read(given).tree)
            outcomes["root"] += 1
        except LivebuilderError as error:
            assert "mutated.img" in error.message, error.message
            outcomes["error"] += 1
    assert outcomes["error"] > 60 and outcomes["root"] > 20, outcomes
