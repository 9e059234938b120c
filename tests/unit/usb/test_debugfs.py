"""What debugfs is told, and what it answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.tree import Entry, Kind, RootTree, file, hardlink, symlink
from livebuilder.usb.changes import plan_changes
from livebuilder.usb.debugfs import debugfs_script, parse_attributes, parse_dump, parse_inode, parse_listing


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
