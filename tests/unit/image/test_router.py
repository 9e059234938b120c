"""livebuilder.image.router: the generated layer of the default root."""

from __future__ import annotations

import re

import pytest

from livebuilder.assets import asset
from livebuilder.errors import LivebuilderError
from livebuilder.image.router import (
    ROUTER_PACKAGES,
    applet_links,
    chosen_packages,
    router_tree,
    service_links,
    set_aside_var,
)
from livebuilder.image.settings import RouterSettings, host_name
from livebuilder.tree import Kind, RootTree, directory, file, hardlink, symlink

_EPOCH = 1_700_000_000


@pytest.fixture(scope="module")
def tree() -> RootTree:
    return router_tree(RouterSettings(hostname="attic-pc"), epoch=_EPOCH)


def test_every_asset_is_in_the_tree(tree: RootTree) -> None:
    home = asset("initramfs/router")
    wanted = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    assert wanted and wanted <= {entry.path for entry in tree}


def test_what_starts_with_a_shebang_can_be_run_and_nothing_else(tree: RootTree) -> None:
    modes = {entry.path: entry.mode for entry in tree if entry.kind is Kind.FILE}
    assert modes.pop("etc/shadow") == modes.pop("etc/dropbear/authorized_keys") == 0o600
    for path, mode in modes.items():
        assert mode == (0o755 if tree[path].content.read().startswith(b"#!") else 0o644), path
    assert modes["etc/preinit"] == modes["lib/livebuilder/unmount"] == 0o755


@pytest.mark.parametrize(
    ("path", "mode"), [("tmp", 0o1777), ("root", 0o700), ("etc/dropbear", 0o700), ("overlay", 0o755), ("rom", 0o755)]
)
def test_mount_points_and_private_folders(tree: RootTree, path: str, mode: int) -> None:
    assert (tree[path].kind, tree[path].mode) == (Kind.DIRECTORY, mode)


def test_what_changes_lives_in_memory(tree: RootTree) -> None:
    assert tree["var"].target == "/tmp"
    assert tree["etc/resolv.conf"].target == "/tmp/resolv.conf"
    assert tree["dev/console"].device == (5, 1)


def test_everything_belongs_to_root_and_has_the_time_given(tree: RootTree) -> None:
    assert {(entry.uid, entry.gid, entry.mtime) for entry in tree} == {(0, 0, _EPOCH)}
    assert tree["etc/livebuilder/epoch"].content.read() == b"1700000000\n"


def test_the_same_facts_give_the_same_tree(tree: RootTree) -> None:
    again = router_tree(RouterSettings(hostname="attic-pc"), epoch=_EPOCH)
    assert [(e.path, e.content.read()) for e in tree] == [(e.path, e.content.read()) for e in again]


@pytest.mark.parametrize(
    ("name", "host"),
    [("attic-pc", "attic-pc"), ("Büro PC_2", "B-ro-PC-2"), ("-x-", "x"), ("'; reboot", "reboot"), ("ä", "livebuilder"),
     ("n" * 80, "n" * 63)],
)  # fmt: skip
def test_host_names(name: str, host: str) -> None:
    assert host_name(name) == host


@pytest.mark.parametrize(
    ("consoles", "ttys"),
    [
        ((), ["tty1", "ttyS0"]),
        (("tty0", "ttyS0,115200n8"), ["tty1", "ttyS0"]),
        (("tty0", "ttyS1,9600n8", "hvc0", "ttyS1"), ["tty1", "ttyS0", "ttyS1", "hvc0"]),
    ],
)
def test_every_console_gets_a_login(consoles: tuple[str, ...], ttys: list[str]) -> None:
    inittab = router_tree(RouterSettings(), epoch=0, consoles=consoles)["etc/inittab"].content.read().decode()
    assert re.findall(r"^(\w+)::askfirst:/lib/router/login$", inittab, re.MULTILINE) == ttys


def test_root_cannot_log_in_with_a_password_as_shipped(tree: RootTree) -> None:
    assert tree["etc/shadow"].content.read().startswith(b"root:*:")


_SERVICE = "#!/bin/sh /etc/rc.common\nSTART=07\nSTOP=93\nstart() { :; }\n"


def test_a_service_of_the_user_is_enabled_too() -> None:
    tree = RootTree([
        file("etc/init.d/mine", _SERVICE, mode=0o755),
        file("etc/init.d/plain", "#!/bin/sh\nSTART=01\n", mode=0o755),
        file("etc/mine", _SERVICE, mode=0o755),
    ])  # fmt: skip
    assert {entry.path: entry.target for entry in service_links(tree)} == {
        "etc/rc.d/S07mine": "../init.d/mine",
        "etc/rc.d/K93mine": "../init.d/mine",
    }


def test_a_service_that_does_not_say_when_is_named() -> None:
    tree = RootTree([file("etc/init.d/mine", "#!/bin/sh /etc/rc.common\nSTART=7\n", mode=0o755, source="files/")])
    with pytest.raises(LivebuilderError, match=r"/etc/init\.d/mine of files/ does not say when to run"):
        list(service_links(tree))


def test_an_applet_gives_way_to_a_program_of_the_root() -> None:
    present = RootTree([file("sbin/mke2fs", b"x"), symlink("usr/bin/vi", "nano")])
    links = {entry.path: entry.target for entry in applet_links(
        ["busybox", "mke2fs", "vi", "ls", "modprobe", "init", "env"], present=present
    )}  # fmt: skip
    assert links == {
        "bin/ls": "/bin/busybox", "sbin/modprobe": "/bin/busybox", "sbin/init": "/bin/busybox",
        "usr/bin/env": "/bin/busybox",
    }  # fmt: skip


def test_packages_are_added_to_the_routers_own_and_taken_out() -> None:
    assert chosen_packages(()) == tuple(sorted(ROUTER_PACKAGES))
    assert set(chosen_packages(("tcpdump", "-ppp", "nftables"))) == {*ROUTER_PACKAGES, "tcpdump"} - {"ppp"}


def test_what_packages_have_in_var_waits_for_the_boot() -> None:
    packages = RootTree([
        directory("run"), directory("var/lib/ntp", mode=0o700), file("var/lib/ntp/drift", b"1"),
        hardlink("var/lib/again", "var/lib/ntp/drift"), symlink("var/run", "/run"), directory("var/empty"),
        directory("run/sshd"), file("etc/varnish", b"2"), symlink("usr/var", "/var"),
    ])  # fmt: skip
    tree = set_aside_var(packages)
    assert {entry.path for entry in tree if not entry.path.startswith("usr/lib/livebuilder/var/")} == {
        "etc", "etc/varnish", "usr", "usr/var", "usr/lib", "usr/lib/livebuilder", "usr/lib/livebuilder/var",
    }  # fmt: skip
    kept = {entry.path.removeprefix("usr/lib/livebuilder/var/"): entry for entry in tree if "/var/" in entry.path}
    assert kept.keys() == {"lib", "lib/ntp", "lib/ntp/drift", "lib/again", "empty", "run", "run/sshd"}
    assert kept["lib/ntp"].mode == 0o700
    assert kept["run"].kind is Kind.DIRECTORY
    tree.verify()
    tree.overlay(router_tree(RouterSettings(), epoch=0))
