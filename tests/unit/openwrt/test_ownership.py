"""What an archive loses, and only that, is put right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from livebuilder.openwrt.change import Change, ChangeKind
from livebuilder.openwrt.ownership import repair_devices, repair_modes, repair_owners
from livebuilder.tree import Kind, RootTree, device, directory, file, hardlink, symlink


def owned(uid: int, gid: int) -> RootTree:
    tree = RootTree(
        [file("bin/busybox", b"elf", mode=0o4755), hardlink("bin/sh", "bin/busybox"), symlink("sbin/init", "x")]
    )
    return RootTree(replace(entry, uid=uid, gid=gid) for entry in tree)


@pytest.mark.parametrize(("gid", "whose"), [(1000, "1000:1000"), (100, "1000:100")])
def test_a_root_of_one_other_user_becomes_roots(gid: int, whose: str) -> None:
    repaired, changes = repair_owners(owned(1000, gid))
    assert {(entry.uid, entry.gid) for entry in repaired} == {(0, 0)}
    assert changes == (Change(ChangeKind.OWNERS, f"all 5 entries belonged to {whose} and now belong to 0:0"),)
    assert repaired["bin/busybox"].mode == 0o4755 and repaired["bin/sh"].target == "bin/busybox"


def test_owners_that_differ_mean_something() -> None:
    tree = owned(0, 0)
    tree.add(replace(file("srv/data", b""), uid=1000))
    assert repair_owners(tree) == (tree, ())
    assert repair_owners(owned(0, 0))[1] == ()


def test_modes_are_repaired_where_they_are_wrong() -> None:
    tree = RootTree([directory("tmp", mode=0o755), file("root/.ssh/key", b""), file("etc/shadow", b"", mode=0o644)])
    repaired, changes = repair_modes(tree)
    assert [(repaired[p].mode, repaired[p].kind) for p in ("tmp", "root", "etc/shadow")] == [
        (0o1777, Kind.DIRECTORY), (0o700, Kind.DIRECTORY), (0o600, Kind.FILE)
    ]  # fmt: skip
    assert [change.text for change in changes] == [
        "/tmp had mode 0755 and now has 1777",
        "/root had mode 0755 and now has 0700",
        "/etc/shadow had mode 0644 and now has 0600",
    ]
    assert repaired["root/.ssh/key"].mode == 0o644
    again, nothing = repair_modes(repaired)
    assert again is repaired and nothing == ()


def test_folders_that_are_missing_are_made_and_links_left_alone() -> None:
    repaired, changes = repair_modes(RootTree([symlink("tmp", "var/tmp")]))
    assert repaired["root"].mode == 0o700
    assert [change.text for change in changes] == ["/root was missing and is made with mode 0700"]


@pytest.mark.parametrize(
    ("tree", "was"),
    [
        (RootTree(), "was missing"),
        (RootTree([file("dev/console", b"")]), "was a file"),
        (RootTree([device("dev/console", char=(4, 0))]), "was a char"),
    ],
)
def test_there_is_a_console(tree: RootTree, was: str) -> None:
    repaired, changes = repair_devices(tree)
    console = repaired["dev/console"]
    assert (console.kind, console.device, console.mode) == (Kind.CHAR, (5, 1), 0o600)
    assert changes == (Change(ChangeKind.DEVICES, f"/dev/console {was} and is now the device (5, 1)"),)
    assert repair_devices(repaired) == (repaired, ())
