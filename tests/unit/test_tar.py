"""What we write as tar, read by Python's own; that GNU tar reads it too, tests/tools/test_usb_backup.py shows."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given

from livebuilder.errors import LivebuilderError
from livebuilder.tar import write_tar
from livebuilder.tree import Entry, Kind, RootTree, directory, file, hardlink
from tests.support.trees import trees


def written(tree: RootTree, **options: object) -> tarfile.TarFile:
    stream = io.BytesIO()
    write_tar(tree, stream, **options)  # type: ignore[arg-type]
    return tarfile.open(fileobj=io.BytesIO(stream.getvalue()), encoding="utf-8", errors="surrogateescape")


@given(trees())
def test_any_tree_is_read_as_it_was(tree: RootTree) -> None:
    with written(tree) as tar:
        members = {member.name: member for member in tar}
        assert members.keys() == {entry.path for entry in tree}
        names: dict[str, str] = {}
        for entry in tree:
            it = tree[entry.target] if entry.kind is Kind.HARDLINK else entry
            member = members[entry.path]
            assert (member.mode, member.uid, member.gid, member.mtime) == (it.mode, it.uid, it.gid, it.mtime)
            first = names.setdefault(it.path, entry.path)
            if it.kind is Kind.FILE and first != entry.path:
                assert member.islnk() and member.linkname == first
            elif it.kind is Kind.FILE:
                content = tar.extractfile(member)
                assert content is not None and content.read() == it.content.read()
            elif it.kind is Kind.SYMLINK:
                assert member.issym() and member.linkname == it.target
            elif it.kind in (Kind.CHAR, Kind.BLOCK):
                assert (member.devmajor, member.devminor) == it.device
            else:
                assert member.isdir() == (it.kind is Kind.DIRECTORY)


def test_attributes_are_there_and_what_was_asked_for_alone_is_written() -> None:
    tree = RootTree([directory("d"), Entry("d/f", Kind.FILE, 0o600, xattrs={"user.a": b"\xff\0"}), file("g", b"12345")])
    tree.add(hardlink("h", "g"))
    told: list[int] = []
    with written(tree, progress=told.append) as tar:
        assert tar.getmember("d/f").pax_headers["SCHILY.xattr.user.a"].encode("utf-8", "surrogateescape") == b"\xff\0"
    assert sum(told) == 5
    with written(tree, only={"h"}) as tar:
        (member,) = tar
        assert (member.name, member.size) == ("h", 5), "the first name that is written has the content"


def test_what_tar_cannot_carry_is_refused() -> None:
    tree = RootTree([Entry("f", Kind.FILE, 0o600, xattrs={"user.a=b": b""})])
    with pytest.raises(LivebuilderError, match=r"'user\.a=b', which a tar archive cannot carry"):
        write_tar(tree, io.BytesIO())
