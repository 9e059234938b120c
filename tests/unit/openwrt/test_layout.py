"""Where releases are published, and which of their files a disc is made from."""

from __future__ import annotations

import pytest

from livebuilder.errors import LivebuilderError, UsageError
from livebuilder.openwrt.layout import Location, folders_of, parse_sha256sums, targets_of, versions_of

SUM = "0" * 64


@pytest.mark.parametrize(
    ("version", "target", "folder"),
    [
        ("23.05.5", "x86/64", "releases/23.05.5/targets/x86/64"),
        ("24.10.0-rc6", "x86/generic", "releases/24.10.0-rc6/targets/x86/generic"),
        ("23.05-SNAPSHOT", "x86/legacy", "releases/23.05-SNAPSHOT/targets/x86/legacy"),
        ("snapshot", "x86/geode", "snapshots/targets/x86/geode"),
        ("SNAPSHOTS", "x86/64", "snapshots/targets/x86/64"),
        ("17.01.7", "x86/64", "releases/17.01.7/targets/x86/64"),
        ("15.05.1", "x86/generic", "chaos_calmer/15.05.1/x86/generic"),
        ("15.05-rc3", "x86/64", "chaos_calmer/15.05-rc3/x86/64"),
        ("R23.11.1", "x86/64", "releases/R23.11.1/targets/x86/64"),
    ],
)
def test_the_folder(version: str, target: str, folder: str) -> None:
    assert Location(version, target).folder == folder


@pytest.mark.parametrize(
    ("version", "target", "said"),
    [
        ("", "x86/64", "'' is not a version"),
        ("../etc", "x86/64", "is not a version"),
        ("23.05.5/targets", "x86/64", "is not a version"),
        ("14.07", "x86/generic", "MD5 sums alone"),
        ("10.03.1", "x86/generic", "MD5 sums alone"),
        ("23.05.5", "64", "'64' is not a target for PCs"),
        ("23.05.5", "ath79/generic", "is not a target for PCs"),
        ("23.05.5", "x86/", "is not a target for PCs"),
        ("23.05.5", "x86/../arm", "is not a target for PCs"),
    ],
)
def test_what_is_no_version_or_target(version: str, target: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        Location(version, target)
    assert caught.value.hint


# Names as the eras have them, and what else is in the folder with nearly the same name.
@pytest.mark.parametrize(
    ("version", "target", "rootfs", "kernel", "manifest"),
    [
        (
            "15.05.1", "x86/generic", "openwrt-15.05.1-x86-generic-Generic-rootfs.tar.gz",
            "openwrt-15.05.1-x86-generic-vmlinuz", None,
        ),
        ("15.05.1", "x86/64", "openwrt-15.05.1-x86-64-rootfs.tar.gz", "openwrt-15.05.1-x86-64-vmlinuz", None),
        (
            "17.01.4", "x86/64", "lede-17.01.4-x86-64-generic-rootfs.tar.gz", "lede-17.01.4-x86-64-vmlinuz",
            "lede-17.01.4-x86-64.manifest",
        ),
        (
            "18.06.9", "x86/generic", "openwrt-18.06.9-x86-generic-generic-rootfs.tar.gz",
            "openwrt-18.06.9-x86-generic-vmlinuz", "openwrt-18.06.9-x86-generic.manifest",
        ),
        (
            "21.02.3", "x86/generic", "openwrt-21.02.3-x86-generic-rootfs.tar.gz",
            "openwrt-21.02.3-x86-generic-generic-kernel.bin", "openwrt-21.02.3-x86-generic.manifest",
        ),
        (
            "23.05-SNAPSHOT", "x86/64", "openwrt-23.05-snapshot-r24154-5c7e5c1e37-x86-64-rootfs.tar.gz",
            "openwrt-23.05-snapshot-r24154-5c7e5c1e37-x86-64-generic-kernel.bin", None,
        ),
        ("snapshot", "x86/64", "openwrt-x86-64-rootfs.tar.gz", "openwrt-x86-64-generic-kernel.bin", None),
        ("23.05.5", "x86/64", "attic-23.05.5-x86-64-attic_pc-rootfs.tar.xz", None, None),
    ],
)  # fmt: skip
def test_the_files_of_an_era(version: str, target: str, rootfs: str, kernel: str | None, manifest: str | None) -> None:
    stem = rootfs.partition("-x86-")[0]
    board = target.replace("/", "-")
    decoys = [
        f"{stem}-{board}-generic-initramfs-kernel.bin", f"{stem}-{board}-generic-squashfs-rootfs.img.gz",
        f"{stem}-{board}-rootfs-ext4.img.gz", f"{stem}-{board}-ramfs.bzImage", f"{stem}-x86-xen_domu-vmlinuz",
        f"openwrt-imagebuilder-{version}-{board}.Linux-x86_64.tar.xz", f"packages/{rootfs}", "config.seed",
    ]  # fmt: skip
    there = [name for name in (rootfs, kernel, manifest) if name]
    chosen = Location(version, target).choose(dict.fromkeys([*there, *decoys], SUM))
    expected = {"rootfs": rootfs, "kernel": kernel, "manifest": manifest}
    assert chosen == {role: name for role, name in expected.items() if name}


def test_profiles_json_where_it_is_listed() -> None:
    chosen = Location("snapshot", "x86/64").choose({"openwrt-x86-64-rootfs.tar.gz": SUM, "profiles.json": SUM})
    assert chosen["profiles"] == "profiles.json"


def test_another_version_s_list_is_refused() -> None:
    """A mirror may not pass an old release, which is signed too, off as the one that was asked for."""
    sums = {"openwrt-22.03.0-x86-64-rootfs.tar.gz": SUM, "openwrt-22.03.0-x86-64-ext4-combined.img.gz": SUM}
    with pytest.raises(LivebuilderError, match=r"no rootfs.tar of OpenWrt 23.05.5 for x86/64") as caught:
        Location("23.05.5", "x86/64").choose(sums)
    assert "openwrt-22.03.0-x86-64-ext4-combined.img.gz" in caught.value.message


def test_a_version_is_not_a_pattern() -> None:
    with pytest.raises(LivebuilderError):
        Location("23.05.5", "x86/64").choose({"openwrt-23x05x5-x86-64-rootfs.tar.gz": SUM})


def test_of_several_profiles_the_generic_one_is_taken_else_none() -> None:
    names = [f"openwrt-snap-x86-64-{profile}-rootfs.tar.gz" for profile in ("attic", "cellar")]
    location = Location("snapshot", "x86/64")
    with pytest.raises(LivebuilderError, match=r"several files could be the rootfs: .*attic.*cellar"):
        location.choose(dict.fromkeys(names, SUM))
    assert location.choose(dict.fromkeys(names[:1], SUM))["rootfs"] == names[0]
    generic = "openwrt-snap-x86-64-generic-rootfs.tar.gz"
    assert location.choose(dict.fromkeys([*names, generic], SUM))["rootfs"] == generic


def test_a_list_of_hashes() -> None:
    one, two = "1" * 64, "2" * 64
    assert parse_sha256sums(f"{one} *a b.tar\n{two}  packages/x\n".encode()) == {"a b.tar": one, "packages/x": two}


@pytest.mark.parametrize("line", ["<html>", "0" * 64, f"{'0' * 63} *x", f"{'G' * 64} *x", f"{SUM} *x\n{SUM} *x", ""])
def test_what_is_no_list_of_hashes(line: str) -> None:
    with pytest.raises(LivebuilderError, match="sha256sums is damaged, or is none"):
        parse_sha256sums(f"{line}\n".encode())


URL = "https://openwrt.example/openwrt/releases/"
INDEX = b"""<html><body><h1>Index of /releases/</h1><pre><a href="../">../</a>
<a href='23.05.5/'>x</a> <a href="/openwrt/releases/18.06.9/">x</a> <a href="./24.10.0-rc6/">x</a>
<a href="https://openwrt.example/openwrt/releases/24.10.0/">x</a> <a href="packages-23.05/">x</a>
<a href="faillogs%2d23/">x</a> <a href="23.05.10/">x</a> <a href="notes.txt">x</a> <a href="?C=M;O=A">x</a>
<a href="https://elsewhere.example/21.02.0/">x</a> <a href="/21.02.0/">x</a> <a href="22.03.0/targets/">x</a>
<a href="http://[/">x</a> <a href="%2e%2e/">x</a> <a name="x">x</a> <a href>x</a>"""
FOLDERS = ["23.05.5", "18.06.9", "24.10.0-rc6", "24.10.0", "packages-23.05", "faillogs-23", "23.05.10"]


def test_the_folders_of_an_index_page() -> None:
    assert folders_of(INDEX, URL) == FOLDERS
    assert folders_of(b"\xff<<<a href", URL) == []


def test_the_versions_the_newest_first() -> None:
    listed = b'{"stable_version": "23.05.5", "versions_list": ["17.01.7", "23.05.5", "23.05-SNAPSHOT", 7]}'
    newest_first = ["24.10.0", "24.10.0-rc6", "23.05.10", "23.05.5", "18.06.9"]
    assert versions_of(FOLDERS, None) == newest_first
    assert versions_of(FOLDERS, listed) == [*newest_first[:-1], "23.05-SNAPSHOT", "18.06.9", "17.01.7"]
    for nothing in (None, b"<html>", b"[]", b'{"versions_list": 7}'):
        assert versions_of([], nothing) == []


def test_the_targets() -> None:
    assert targets_of(["generic", "64"], None) == ["x86/64", "x86/generic"]
    assert targets_of([], b'{"ath79/generic": "mips_24kc", "x86/legacy": "i386"}') == ["x86/legacy"]
    assert targets_of([], b"7") == []
