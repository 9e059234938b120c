"""Whose system it is, and what the files are called by that."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebuilder import __version__
from livebuilder.build.naming import Identity, identify, openwrt_names, sanitized, short_names
from livebuilder.kernel.image import Kernel
from livebuilder.openwrt.release import Release
from livebuilder.tree import Content, RootTree, file, symlink
from tests.support.kernels import RELEASE, bzimage

KERNEL = Kernel(Content.from_bytes(bzimage()), RELEASE, RootTree(), {}, "test")
KERNEL_64 = replace(KERNEL, config={"CONFIG_X86_64": "y"})
OPENWRT = Release("OpenWrt", "23.05.5", "r24106-10cc5fcd00", "", "x86/legacy", "i386_pentium-mmx")
OURS = f"livebuilder-{__version__}"
ALPINE = 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.19.1\nPRETTY_NAME="Alpine Linux v3.19"\n'


def test_an_openwrt_says_it_all() -> None:
    found = identify(RootTree(), KERNEL_64, release=OPENWRT)
    assert found == Identity("OpenWrt", "23.05.5", "r24106-10cc5fcd00", "legacy", "i386_pentium-mmx")
    assert found.target == "x86/legacy"


@pytest.mark.parametrize(
    ("target", "kernel", "expected"),
    [
        ("", KERNEL, "x86/generic"),
        ("", KERNEL_64, "x86/64"),
        ("ath79/generic", KERNEL_64, "x86/64"),
        ("x86", KERNEL, "x86/generic"),
    ],
)
def test_what_an_openwrt_leaves_out_is_asked_of_the_kernel(target: str, kernel: Kernel, expected: str) -> None:
    old = Release("OpenWrt", "10.03", "r20728", "backfire", target, "")
    found = identify(RootTree(), kernel, release=old)
    assert (found.target, found.architecture) == (expected, "x86_64" if kernel is KERNEL_64 else "i386")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ALPINE, ("alpine", "3.19.1", OURS)),
        ("# a comment\nID='arch'\nBUILD_ID=rolling", ("arch", "", "rolling")),
        ("VERSION_ID=3\n", ("livebuilder", __version__, OURS)),
        ('ID="alpine\n', ("livebuilder", __version__, OURS)),
        ("ID\n", ("livebuilder", __version__, OURS)),
    ],
)
def test_others_say_it_in_os_release(text: str, expected: tuple[str, str, str]) -> None:
    for path in ("etc/os-release", "usr/lib/os-release"):
        found = identify(RootTree([file(path, text)]), KERNEL, release=None)
        assert (found.distribution, found.version, found.revision) == expected
        assert (found.target, found.architecture) == ("x86/generic", "i386")


def test_etc_comes_first_and_may_be_a_link() -> None:
    root = RootTree([file("etc/os-release", "ID=mine\n"), file("usr/lib/os-release", ALPINE)])
    assert identify(root, KERNEL, release=None).distribution == "mine"
    linked = RootTree([symlink("etc/os-release", "../usr/lib/os-release"), file("usr/lib/os-release", ALPINE)])
    assert identify(linked, KERNEL, release=None).distribution == "alpine"
    nowhere = RootTree([symlink("etc/os-release", "../usr/lib/os-release"), file("usr/lib/os-release", b"ID=\xff")])
    assert identify(nowhere, KERNEL, release=None).distribution == "livebuilder"


@pytest.mark.parametrize("release", [OPENWRT, None])
def test_the_user_s_version_comes_first(release: Release | None) -> None:
    assert identify(RootTree([file("etc/os-release", ALPINE)]), KERNEL, release=release, version="7").version == "7"


@pytest.mark.parametrize(
    ("identity", "extra", "prefix"),
    [
        (Identity("OpenWrt", "23.05.5", "r1", "generic", "x"), "", "openwrt-23.05.5-x86-generic-attic_pc"),
        (Identity("OpenWrt", "23.05.5", "r1", "64", "x"), "Kiosk_1", "openwrt-23.05.5-kiosk-1-x86-64-attic_pc"),
        (Identity("OpenWrt", "18.06-SNAPSHOT", "", "geode", "x"), "", "openwrt-18.06-snapshot-x86-geode-attic_pc"),
        (Identity("OpenWrt", "", "r1", "generic", "x"), "", "openwrt-x86-generic-attic_pc"),
        (Identity("My Own/Wrt", "24.10.0-rc1", "", "generic", "x"), "", "my-own-wrt-24.10.0-rc1-x86-generic-attic_pc"),
    ],
)
def test_openwrt_s_names(identity: Identity, extra: str, prefix: str) -> None:
    names = openwrt_names(identity, name="attic_pc", extra=extra)
    assert (names.prefix, names.folder) == (prefix, "")
    assert (names.iso, names.packages) == (f"{prefix}-image.iso", f"{prefix}.manifest")
    assert (names.kernel, names.initramfs) == (f"{prefix}-kernel.bin", f"{prefix}-initramfs.bin")
    nested = openwrt_names(identity, name="attic_pc", extra=extra, nested=True)
    assert nested == replace(names, folder=f"bin/targets/x86/{identity.subtarget}")


def test_short_names() -> None:
    names = short_names(name="attic-pc")
    assert (names.folder, names.iso, names.kernel, names.initramfs) == ("", "attic-pc.iso", "vmlinuz", "initramfs")
    assert (names.prefix, names.packages) == ("attic-pc", "attic-pc.manifest")
    assert short_names(name="attic-pc", extra="Kiosk").iso == "attic-pc-kiosk.iso"


@given(st.text())
def test_whatever_a_root_calls_itself_is_one_name_in_one_folder(word: str) -> None:
    told = sanitized(word)
    assert set(told) <= set("abcdefghijklmnopqrstuvwxyz0123456789.+~-")
    assert not told.startswith((".", "-")) and sanitized(told) == told
    names = openwrt_names(Identity(word, word, "", word, ""), name="x", extra=word, nested=True)
    assert ".." not in names.folder.split("/") and "/" not in names.iso
