"""A root read from a real folder of this host."""

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from loguru import logger

from livebuilder.errors import LivebuilderError
from livebuilder.sources import directory
from livebuilder.sources.directory import root_tree_from_directory
from livebuilder.tree import Kind, RootTree
from tests.support.trees import UNPRIVILEGED_KINDS, facts, trees, write_tree
from tests.support.users import as_ordinary_user


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user of the host can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    said: list[str] = []
    number = logger.add(said.append, level="WARNING", format="{message}")
    yield said
    logger.remove(number)


@settings(max_examples=40)
@given(trees(kinds=UNPRIVILEGED_KINDS, least_mode=0o700))
def test_what_is_there_is_what_is_read(tree: RootTree) -> None:
    with tempfile.TemporaryDirectory() as name:
        write_tree(tree, Path(name))
        assert facts(root_tree_from_directory(Path(name)), owner=False) == facts(tree, owner=False)


def test_owners_are_kept_as_numbers_or_replaced(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    os.link(tmp_path / "f", tmp_path / "g")
    own = (tmp_path / "f").stat()
    entry = root_tree_from_directory(tmp_path)["f"]
    assert (entry.uid, entry.gid) == (own.st_uid, own.st_gid)
    entry = root_tree_from_directory(tmp_path, owner=(7, 70_000))["f"]
    assert (entry.uid, entry.gid) == (7, 70_000)


def test_a_device_node_is_read_without_being_opened(open_folder: Path) -> None:
    def read() -> tuple[Kind, tuple[int, int], int]:
        # Linux lets everybody make the character device 0:0.
        os.mknod(open_folder / "node", stat.S_IFCHR | 0o600, os.makedev(0, 0))
        entry = root_tree_from_directory(open_folder)["node"]
        return entry.kind, entry.device, entry.mode

    assert as_ordinary_user(read) == (Kind.CHAR, (0, 0), 0o600)


def test_numbers_of_real_devices_are_those_of_the_host() -> None:
    # Not the whole of /dev: it changes while other tests run.
    null = directory._entry("null", "/dev/null", Kind.CHAR, Path("/dev/null").stat(), owner=(0, 0), source="")
    assert (null.kind, null.device) == (Kind.CHAR, (1, 3))


def test_links_say_exactly_what_they_said(tmp_path: Path) -> None:
    for number, target in enumerate(["./x/", "a//b", "/etc/../etc", "gone", "n\nl", os.fsdecode(b"\xff")]):
        os.symlink(target, tmp_path / str(number))  # noqa: PTH211
    tree = root_tree_from_directory(tmp_path)
    assert [e.target for e in tree] == ["./x/", "a//b", "/etc/../etc", "gone", "n\nl", "\udcff"]


def test_a_link_to_a_folder_is_not_walked(tmp_path: Path) -> None:
    (tmp_path / "up").symlink_to("..")
    assert [(e.path, e.kind) for e in root_tree_from_directory(tmp_path)] == [("up", Kind.SYMLINK)]


def test_sockets_are_left_out_with_a_warning(tmp_path: Path, warnings: list[str]) -> None:
    (tmp_path / "d").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "d/s"))
        tree = root_tree_from_directory(tmp_path)
    assert [e.path for e in tree] == ["d"]
    assert len(warnings) == 1
    assert "/d/s" in warnings[0]


def test_no_socket_no_warning(tmp_path: Path, warnings: list[str]) -> None:
    (tmp_path / "f").touch()
    root_tree_from_directory(tmp_path)
    assert warnings == []


def test_extended_attributes_are_kept(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    os.setxattr(tmp_path / "f", "user.note", b"\0\xff")
    assert dict(root_tree_from_directory(tmp_path)["f"].xattrs) == {"user.note": b"\0\xff"}


def test_what_may_not_be_read_is_named_all_at_once(open_folder: Path) -> None:
    for name in ("open", "secret", "shadow"):
        (open_folder / name).write_text("x")
    (open_folder / "locked").mkdir()
    (open_folder / "locked").chmod(0)
    (open_folder / "secret").chmod(0)
    (open_folder / "shadow").chmod(0o200)

    def read() -> tuple[str, str | None]:
        try:
            root_tree_from_directory(open_folder)
        except LivebuilderError as error:
            return error.message, error.hint
        return "nothing was said", None

    message, hint = as_ordinary_user(read)
    (open_folder / "locked").chmod(0o700)
    assert "3 paths" in message
    assert "/locked, /secret, /shadow" in message
    assert hint is not None and "tar -cf root.tar" in hint


@pytest.mark.parametrize(("kind", "reason"), [("missing", "does not exist"), ("file", "not a folder")])
def test_what_is_no_folder_is_refused(tmp_path: Path, kind: str, reason: str) -> None:
    path = tmp_path / "root dir"
    if kind == "file":
        path.touch()
    with pytest.raises(LivebuilderError, match=reason) as caught:
        root_tree_from_directory(path)
    assert str(path) in caught.value.message


def test_a_folder_reached_by_a_link_is_read(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/f").touch()
    (tmp_path / "link").symlink_to("real")
    assert "f" in root_tree_from_directory(tmp_path / "link")
