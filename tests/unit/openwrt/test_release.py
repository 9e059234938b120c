"""A root says which OpenWrt it is, in the words of its time."""

from __future__ import annotations

import pytest

from livebuilder.openwrt.release import Release, read_release
from livebuilder.tree import RootTree, file, symlink


def root_with(**files: str) -> RootTree:
    paths = {
        "release": "etc/openwrt_release",
        "system": "usr/lib/os-release",
        "version": "etc/openwrt_version",
        "banner": "etc/banner",
        "status": "usr/lib/opkg/status",
    }
    return RootTree(file(paths[name], text) for name, text in files.items())


def lines(**values: str) -> str:
    return "".join(f"{name}='{value}'\n" for name, value in values.items())


RELEASES = {
    "23.05": (
        root_with(
            release=lines(
                DISTRIB_ID="OpenWrt",
                DISTRIB_RELEASE="23.05.5",
                DISTRIB_REVISION="r24106-10cc5fcd00",
                DISTRIB_TARGET="x86/generic",
                DISTRIB_ARCH="i386_pentium4",
                DISTRIB_TAINTS="",
            )
        ),
        Release("OpenWrt", "23.05.5", "r24106-10cc5fcd00", "", "x86/generic", "i386_pentium4"),
    ),
    "17.01, by os-release alone": (
        root_with(
            system='NAME="LEDE"\nVERSION="17.01.4, Reboot"\nID="lede"\nID_LIKE="lede openwrt"\n'
            'BUILD_ID="r3560-79f57e422d"\nLEDE_BOARD="x86/legacy"\nLEDE_ARCH="i386_i486"\n'
        ),
        Release("LEDE", "17.01.4", "r3560-79f57e422d", "", "x86/legacy", "i386_i486"),
    ),
    "14.07, whose architecture only its packages know": (
        root_with(
            release='DISTRIB_ID="OpenWrt"\nDISTRIB_RELEASE="14.07"\nDISTRIB_REVISION="r42625"\n'
            'DISTRIB_CODENAME="barrier_breaker"\nDISTRIB_TARGET="x86/generic"\n',
            status="Architecture: all\n\nPackage: b\nArchitecture: i386\n\nPackage: c\nArchitecture: i386\n",
        ),
        Release("OpenWrt", "14.07", "r42625", "barrier_breaker", "x86/generic", "i386"),
    ),
    "10.03, by version and banner": (
        root_with(
            version="10.03\n",
            banner=" |_____|\n          |__| W I R E L E S S   F R E E D O M\n Backfire (10.03, r20728) -----\n",
        ),
        Release("OpenWrt", "10.03", "r20728", "backfire"),
    ),
    "15.05.1 of the branch, which has its name for a number": (
        root_with(
            release=lines(DISTRIB_ID="OpenWrt", DISTRIB_RELEASE="Chaos Calmer", DISTRIB_CODENAME="chaos_calmer"),
            banner=" |__| W I R E L E S S   F R E E D O M\n CHAOS CALMER (Chaos Calmer, r49630)\n",
            version="15.05.1\n",
        ),
        Release("OpenWrt", "15.05.1", "", "chaos_calmer"),
    ),
    "18.06, by its banner alone": (
        root_with(banner=" -----\n OpenWrt 18.06.1, r7258-5eb055306f\n -----\n"),
        Release("OpenWrt", "18.06.1", "r7258-5eb055306f"),
    ),
    "a snapshot by its revision": (
        root_with(version="r25998-1d62d63\n"),
        Release("OpenWrt", "SNAPSHOT", "r25998-1d62d63"),
    ),
    "something made of it": (
        root_with(system='NAME="ImmortalWrt"\nVERSION="23.05.1"\nID_LIKE="lede openwrt"\nBUILD_ID="r1-2"\n'),
        Release("ImmortalWrt", "23.05.1", "r1-2"),
    ),
}


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_is_recognised(name: str) -> None:
    root, expected = RELEASES[name]
    assert read_release(root) == expected


@pytest.mark.parametrize(
    "root",
    [
        RootTree(),
        root_with(system='NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.20.0\n'),
        root_with(banner="Welcome to my router (1.0, r3)\n"),
        root_with(release="", version="\n"),
    ],
)
def test_other_systems_are_none(root: RootTree) -> None:
    assert read_release(root) is None


def test_links_are_followed_inside_the_root() -> None:
    root = RootTree(
        [symlink("etc/openwrt_release", "../usr/lib/release"), file("usr/lib/release", "DISTRIB_ID='OpenWrt'\n")]
    )
    assert read_release(root) == Release("OpenWrt", "")


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("23.05.5", (23, 5)), ("10.03", (10, 3)), ("18.06-SNAPSHOT", (18, 6)), ("24.10.0-rc2", (24, 10)),
     ("SNAPSHOT", None), ("", None), ("bleeding edge", None)],
)  # fmt: skip
def test_the_numbers_of_a_version(version: str, numbers: tuple[int, int] | None) -> None:
    assert Release("OpenWrt", version).numbers == numbers


def test_a_release_reads_as_a_person_would_say_it() -> None:
    release = Release("OpenWrt", "23.05.5", "r24106-10cc5fcd00", "", "x86/generic", "i386_pentium4")
    assert str(release) == "OpenWrt 23.05.5 (r24106-10cc5fcd00) for x86/generic"
    assert str(Release("OpenWrt", "")) == "OpenWrt of unknown version"
    assert release.to_json()["architecture"] == "i386_pentium4"
