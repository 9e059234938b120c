"""Our newc archives read and unpacked by tools that are not ours, and theirs read by us."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from livebuilder.cpio import archive, read_archive
from livebuilder.process import run
from livebuilder.sources.directory import root_tree_from_directory
from livebuilder.tree import Entry, Kind, RootTree, device, directory, file, hardlink, symlink
from tests.support.trees import UNPRIVILEGED_KINDS, Fact, assert_bsdtar_reads, facts, trees, write_tree

GNU_CPIO = ["cpio", "-idm", "--quiet", "--no-absolute-filenames"]
BUSYBOX_CPIO = ["busybox", "cpio", "-idm"]


def packed(tree: RootTree) -> bytes:
    return b"".join(archive(tree))


def test_gnu_cpio_lists_what_the_tree_says() -> None:
    entries = [
        directory("etc", mode=0o711),
        file("etc/a b", "hello", mode=0o4755),
        hardlink("etc/zz", "etc/a b"),
        symlink("etc/link", "../a b"),
        device("dev/console", char=(5, 1), mode=0o620),
        device("dev/sda", block=(8, 300), mode=0o660),
        Entry("pipe", Kind.FIFO, 0o600),
    ]
    tree = RootTree(replace(entry, uid=12345, gid=54321, mtime=1_000_000_000) for entry in entries)
    listing = run(["cpio", "-tv", "--quiet", "--numeric-uid-gid"], input_bytes=packed(tree), env={"TZ": "UTC"}).stdout
    when = "Sep  9  2001"
    found = {" ".join(line.split()) for line in listing.splitlines()}
    assert found == {
        "drwxr-xr-x 2 0 0 0 Jan 1 1970 dev",  # nobody gave it: it is there for what is in it
        *(
            " ".join(line.split())
            for line in [
                f"crw--w---- 1 12345 54321 5, 1 {when} dev/console",
                f"brw-rw---- 1 12345 54321 8, 300 {when} dev/sda",
                f"drwx--x--x 2 12345 54321 0 {when} etc",
                f"-rwsr-xr-x 2 12345 54321 0 {when} etc/a b",
                f"lrwxrwxrwx 1 12345 54321 6 {when} etc/link -> ../a b",
                f"-rwsr-xr-x 2 12345 54321 5 {when} etc/zz",
                f"prw------- 1 12345 54321 0 {when} pipe",
            ]
        ),
    }


@settings(max_examples=25, deadline=None)
@given(trees())
def test_libarchive_reads_every_fact_of_every_tree(tree: RootTree) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "root.cpio"
        path.write_bytes(packed(tree))
        assert_bsdtar_reads(path, tree)


@pytest.mark.parametrize("program", [GNU_CPIO, BUSYBOX_CPIO], ids=["GNU", "busybox"])
def test_what_cpio_unpacks_is_the_tree(program: list[str]) -> None:
    """Busybox's is the one that unpacks the root on the other machine. Times of folders and symlinks are not kept."""
    untimed = {Kind.DIRECTORY, Kind.SYMLINK}

    def told(tree: RootTree) -> dict[str, Fact]:
        found = facts(tree, owner=False).items()
        return {path: fact._replace(mtime=0) if fact.kind in untimed else fact for path, fact in found}

    @settings(max_examples=20, deadline=None)
    @given(trees(kinds=UNPRIVILEGED_KINDS, least_mode=0o700))
    def unpack(tree: RootTree) -> None:
        with tempfile.TemporaryDirectory() as name:
            run(program, input_bytes=packed(tree), cwd=Path(name))
            assert told(root_tree_from_directory(Path(name))) == told(tree)

    unpack()


@pytest.mark.parametrize("program", [GNU_CPIO, BUSYBOX_CPIO], ids=["GNU", "busybox"])
def test_empty_files_of_many_names_stay_one_file(tmp_path: Path, program: list[str]) -> None:
    tree = RootTree([file("m", b"", mode=0o640), hardlink("a", "m"), hardlink("z", "m")])
    run(program, input_bytes=packed(tree), cwd=tmp_path)
    assert len({path.stat().st_ino for path in tmp_path.iterdir()}) == 1
    assert (tmp_path / "a").stat().st_nlink == 3


@settings(max_examples=20, deadline=None)
@given(trees(kinds=UNPRIVILEGED_KINDS, least_mode=0o700))
def test_archives_of_gnu_cpio_and_bsdtar_are_read_as_they_are_meant(tree: RootTree) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "root"
        root.mkdir()
        write_tree(tree, root)
        names = b"".join(os.fsencode(entry.path) + b"\0" for entry in tree)
        expected = facts(root_tree_from_directory(root))
        by_cpio = run(["cpio", "-o", "-0", "-H", "newc", "--quiet"], input_bytes=names, cwd=root).stdout_bytes
        assert facts(read_archive(by_cpio)[0]) == expected
        with_sums = run(["cpio", "-o", "-0", "-H", "crc", "--quiet"], input_bytes=names, cwd=root).stdout_bytes
        assert with_sums.startswith(b"070702")
        assert facts(read_archive(with_sums)[0]) == expected
        by_bsdtar = run(["bsdtar", "-c", "--format=newc", "-f", "-", "-C", root, "."]).stdout_bytes
        assert facts(read_archive(by_bsdtar)[0]) == expected
