"""Archives made by GNU tar and bsdtar, read by us."""

import itertools
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from livebuilder.cache import Cache
from livebuilder.process import run
from livebuilder.sources.archive import root_tree_from_archive
from livebuilder.sources.directory import root_tree_from_directory
from livebuilder.tree import Entry, Kind, RootTree, file, hardlink, symlink
from tests.support.trees import UNPRIVILEGED_KINDS, assert_bsdtar_reads, facts, trees, write_tree

LONG = RootTree(
    [
        file("d" * 90 + "/" + "e" * 90 + "/" + "f" * 90, b"beyond 100 bytes", mode=0o4755),
        file("g" * 255, b"the longest name"),
        symlink("s", "t" * 300),
        hardlink("another/" + "n" * 200, "g" * 255),
        file("with space\nand newline", b""),
    ]
)


def read(path: Path) -> RootTree:
    return root_tree_from_archive(path, cache=Cache(path.parent / "cache"))


@pytest.mark.parametrize(
    ("format", "packer"),
    [("gnu", []), ("pax", []), ("gnu", ["-z"]), ("pax", ["-J"]), ("gnu", ["-j"]), ("pax", ["--zstd"]), ("oldgnu", [])],
    ids=lambda value: "".join(value) or "plain",
)
def test_what_gnu_tar_packs_is_what_we_read(tmp_path: Path, format: str, packer: list[str]) -> None:
    root = tmp_path / "root"
    root.mkdir()
    write_tree(LONG, root)
    target = tmp_path / "root.archive"
    run(["tar", "-c", *packer, f"--format={format}", "--owner=:12345", "--group=:70000", "-f", target, "-C", root, "."])
    expected = facts(root_tree_from_directory(root, owner=(12345, 70000)))
    assert len(expected) == 8
    assert facts(read(target)) == expected


@settings(max_examples=20, deadline=None)
@given(trees(kinds=UNPRIVILEGED_KINDS, least_mode=0o700))
def test_every_tree_comes_through_gnu_tar_and_bsdtar(tree: RootTree) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "root"
        root.mkdir()
        write_tree(tree, root)
        (root / "always").touch()
        expected = facts(root_tree_from_directory(root))
        for number, argv in enumerate((["tar", "--format=gnu"], ["tar", "--format=pax"], ["bsdtar", "--format=pax"])):
            target = Path(name) / f"{number}.tar"
            run([*argv, "-cf", target, "-C", root, "."])
            assert facts(read(target)) == expected, argv


def test_device_nodes_are_read_by_a_user_who_could_not_make_them(tmp_path: Path) -> None:
    target = tmp_path / "dev.tar"
    run(["tar", "-cf", target, "--owner=:0", "--group=:5", "--mode=620", "-C", "/dev", "null", "zero"])
    found = {entry.path: (entry.kind, entry.device, entry.mode, entry.uid, entry.gid) for entry in read(target)}
    assert found == {
        "null": (Kind.CHAR, (1, 3), 0o620, 0, 5),
        "zero": (Kind.CHAR, (1, 5), 0o620, 0, 5),
    }


@pytest.mark.parametrize("format", ["pax", "ustar", "gnutar"])
def test_nodes_fifos_and_foreign_owners_come_from_bsdtar(tmp_path: Path, format: str) -> None:
    (tmp_path / "spec").write_text(
        "#mtree\n"
        "./dev type=dir mode=0711 uid=0 gid=0 time=5.0\n"
        "./dev/console type=char mode=0620 uid=0 gid=5 time=1000000000.0 device=native,5,1\n"
        "./dev/sda type=block mode=0660 uid=0 gid=6 time=1000000000.0 device=native,8,300\n"
        "./pipe type=fifo mode=0600 uid=1000 gid=65534 time=7.0\n"
    )
    target = tmp_path / "root.tar"
    run(["bsdtar", f"--format={format}", "-cf", target, f"@{tmp_path / 'spec'}"])
    tree = read(target)
    assert [(e.path, e.kind, e.mode, e.uid, e.gid, e.device) for e in tree] == [
        ("dev", Kind.DIRECTORY, 0o711, 0, 0, (0, 0)),
        ("dev/console", Kind.CHAR, 0o620, 0, 5, (5, 1)),
        ("dev/sda", Kind.BLOCK, 0o660, 0, 6, (8, 300)),
        ("pipe", Kind.FIFO, 0o600, 1000, 65534, (0, 0)),
    ]
    assert_bsdtar_reads(target, tree)


def test_a_root_made_by_the_hosts_user_space_is_the_same_from_folder_and_archive(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    for name, mode in itertools.product(("one", "two"), (0o755, 0o4711)):
        path = root / f"usr/bin/{name}-{mode:o}"
        path.write_bytes(os.urandom(5000))
        path.chmod(mode)
    os.link(root / "usr/bin/one-755", root / "usr/bin/link")
    (root / "bin").symlink_to("usr/bin")
    run(["tar", "-czf", tmp_path / "root.tar.gz", "-C", root, "."])
    assert facts(read(tmp_path / "root.tar.gz")) == facts(root_tree_from_directory(root))


def test_xattrs_and_sparse_files_of_gnu_tar_are_kept(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    noted = root / "noted"
    noted.write_bytes(b"x")
    os.setxattr(noted, "user.note", b"\0\xff=\n1")
    sparse = root / "sparse"
    with sparse.open("wb") as stream:
        for at in (0, 300_000, 900_000):
            stream.seek(at)
            stream.write(b"island")
        stream.truncate(1_000_000)
    for format in ("pax", "gnu"):
        options = ["--xattrs", "--xattrs-include=*"] if format == "pax" else []
        target = tmp_path / f"{format}.tar"
        run(["tar", "-c", "-S", *options, f"--format={format}", "-V", "a label", "-f", target, "-C", root, "."])
        assert target.stat().st_size < 200_000, "tar found the holes"
        tree = read(target)
        assert tree["sparse"].content.read() == sparse.read_bytes()
        assert dict(tree["noted"].xattrs) == ({"user.note": b"\0\xff=\n1"} if format == "pax" else {})


def test_owners_and_times_beyond_what_octal_fields_hold_are_kept(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    expected = replace(Entry("f", Kind.FILE, 0o644), uid=0xFFFF_FFFE, gid=3_000_000_000, mtime=0x7FFF_FFFF)
    os.utime(tmp_path / "f", (expected.mtime, expected.mtime))
    for format in ("gnu", "pax"):
        target = tmp_path / f"{format}.tar"
        owner = [f"--owner=:{expected.uid}", f"--group=:{expected.gid}"]
        run(["tar", f"--format={format}", *owner, "-cf", target, "-C", tmp_path, "f"])
        entry = read(target)["f"]
        assert (entry.uid, entry.gid, entry.mtime) == (expected.uid, expected.gid, expected.mtime)
