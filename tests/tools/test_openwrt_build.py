"""Builds of OpenWrt roots, as far as files tell: what is decided, said and undone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from livebuilder.openwrt.change import ChangeKind
from livebuilder.tree import RootTree, file
from tests.support.builds import BuiltImage, SmallSystem, assert_refused, run_main
from tests.support.debs import member
from tests.support.documents import assert_documented
from tests.support.images import unpack
from tests.support.ipks import KERNEL, ipk, status_of, write_feed
from tests.support.kernels import RELEASE, FakeModule, bzimage, module_bytes
from tests.support.openwrt import openwrt_root, write_archive
from tests.support.rootimages import fat_image, openwrt_disk, packed, squashfs_image
from tests.support.signing import UsignPair
from tests.support.web import Site, serving

pytestmark = pytest.mark.network  # busybox and kernel are Debian's, from the cache once that has them

_PROFILE = """
[root]
source = "openwrt"
rootfs = "openwrt-*-rootfs.tar.gz"
[modules]
features = []
"""
_FOREIGN = """
[kernel]
image = "{system.kernel}"
modules = "{system.modules}"
[initramfs]
busybox = "{system.root}/bin/busybox"
"""
_OWN = """
[kernel]
image = "vmlinuz"
[initramfs]
busybox = "{system.root}/bin/busybox"
"""


@pytest.fixture
def folder(small_system: SmallSystem, tmp_path: Path) -> Path:
    write_archive(openwrt_root("procd"), tmp_path / "openwrt-23.05.5-rootfs.tar.gz", owner=1000)
    (tmp_path / "foreign.toml").write_text(_PROFILE + _FOREIGN.format(system=small_system))
    return tmp_path


def plan(profile: Path, *words: str) -> dict[str, Any]:
    outcome = run_main("build", profile, "--dry-run", "--json", "-o", profile.parent / "out", *words)
    assert outcome.status == 0, outcome.stderr
    return outcome.json  # type: ignore[no-any-return]


def test_what_is_done_to_a_root_is_shown_and_can_be_forbidden(folder: Path) -> None:
    facts = plan(folder / "foreign.toml")
    assert_documented("build --dry-run", facts)
    assert facts["openwrt"]["release"]["version"] == "23.05.5"
    assert facts["openwrt"]["era"] == "22.03, 23.05"
    kinds = {change["kind"] for change in facts["openwrt"]["changes"]}
    assert kinds == {"owners", "devices", "modules", "fstab", "banner"}
    assert any("belonged to 1000:1000" in warning for warning in facts["warnings"])
    keep = f"openwrt.keep={[kind.value for kind in ChangeKind]}"
    assert plan(folder / "foreign.toml", "--set", keep)["openwrt"]["changes"] == []


def test_people_read_the_same(folder: Path) -> None:
    outcome = run_main("build", folder / "foreign.toml", "--dry-run", "-o", folder / "out")
    assert "openwrt   OpenWrt 23.05.5 (r24106-10cc5fcd00) for x86/generic, treated as 22.03, 23.05" in outcome.stdout
    assert "owners    all " in outcome.stdout and "leave" in outcome.stdout


def test_root_on_the_command_line_is_refused(folder: Path) -> None:
    outcome = run_main("build", folder / "foreign.toml", "--dry-run", "--set", "boot.cmdline=root=/dev/sda1")
    assert_refused(outcome, "boot.cmdline", "root= makes OpenWrt look for its settings")


def test_its_own_kernel_takes_gzip_and_the_roots_modules(small_system: SmallSystem, tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(bzimage(config=None))
    root = openwrt_root("procd", version="18.06.1")
    root.remove("lib/modules/4.14.63")
    root.add(file(f"lib/modules/{RELEASE}/tun.ko", module_bytes(FakeModule("tun"))))
    write_archive(RootTree(root), tmp_path / "openwrt-18.06.1-rootfs.tar.gz")
    profile = tmp_path / "own.toml"
    profile.write_text(_PROFILE + _OWN.format(system=small_system))
    facts = plan(profile, "--set", 'modules.extra=["tun"]')
    assert facts["compression"] == "gzip"
    assert not [change for change in facts["openwrt"]["changes"] if change["kind"] == "modules"]
    refused = run_main("build", profile, "--dry-run", "--set", "output.compression=xz")
    assert_refused(refused, "cannot unpack xz")
    assert_refused(run_main("build", profile, "--dry-run", "--set", 'modules.features=["btrfs"]'), "btrfs")


# --- images and packages

KEY = UsignPair.of("feeds")
_PACKAGES = """
packages = {packages}
[openwrt]
feeds = ["feed"]
keys = ["feeds.pub"]
"""


def opkg_root(kernel: str = RELEASE) -> RootTree:
    """The stand-in without package block-mount, with opkg's records, and a module of OpenWrt's own kernel."""
    root = openwrt_root("procd")
    root.remove("lib/modules/4.14.63")
    root.remove("sbin/block")
    names = {"libc": "1.2.4-4", "kernel": KERNEL, "procd": "2023-1", "ppp": "2.4.9-1"}
    paragraphs = [status_of(name, version, Depends="") for name, version in names.items()]
    root.add(file("usr/lib/opkg/status", "".join(f"{text}\n" for text in paragraphs)))
    root.add(file(f"lib/modules/{kernel}/tun.ko", module_bytes(FakeModule("tun"))))
    return root


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    """The folder of a profile, with a signed feed in it: block-mount, what that needs, and a module."""
    kmod = [
        member(f"./lib/modules/{RELEASE}/dummy.ko", module_bytes(FakeModule("dummy"))),
        member("./etc/modules.d/dummy", b"dummy\n"),
    ]
    made = [
        ipk("block-mount", "2024-1", [member("./sbin/block", b"#!/bin/sh\n", mode=0o755)], Depends="libc, libuci"),
        ipk("libuci", "2023-1", [member("./lib/libuci.so", b"\x7fELF")]),
        ipk("kmod-dummy", "1-1", kmod, Depends=f"kernel (={KERNEL})"),
    ]
    write_feed(tmp_path / "feed", made, key=KEY)
    (tmp_path / "feeds.pub").write_bytes(KEY.public)
    return tmp_path


def profile_with(folder: Path, packages: list[str], *, rootfs: str, kernel: str) -> Path:
    path = folder / "attic.toml"
    root = f'name = "attic"\n[root]\nsource = "openwrt"\nrootfs = "{rootfs}"'
    path.write_text(root + _PACKAGES.format(packages=packages) + "[modules]\nfeatures = []\n" + kernel)
    return path


def combined(folder: Path) -> Path:
    """A whole disk's image as OpenWrt packs it: a boot partition with a kernel, and a squashfs."""
    boot = fat_image(folder / "boot.img", {"boot/vmlinuz": bzimage(config=None)})
    disk = openwrt_disk(folder / "disk.img", squashfs_image(folder / "root.img", opkg_root()), boot=boot)
    return packed(folder / "openwrt-23.05.5-x86-generic-generic-squashfs-combined.img.gz", disk.read_bytes())


def test_a_combined_image_and_packages_become_a_disc(feed: Path, small_system: SmallSystem, tmp_path: Path) -> None:
    kernel = f'[kernel]\nsource = "files"\n[initramfs]\nbusybox = "{small_system.root}/bin/busybox"\n'
    image = combined(feed)
    profile = profile_with(feed, ["block-mount", "kmod-dummy", "-ppp"], rootfs="*-combined.img.gz", kernel=kernel)
    words = ("build", profile, "--offline", "--set", 'modules.extra=["dummy", "tun"]')
    outcome = run_main(*words, "-o", tmp_path / "out")
    assert outcome.status == 0, outcome.stderr
    built = BuiltImage(tmp_path / "out")
    assert built.kernel.read_bytes() == bzimage(config=None)
    unpack(built.initramfs, tmp_path / "root", tmp_path / "scratch")
    root = tmp_path / "root"
    assert "option label 'rootfs_data'" in (root / "etc/config/fstab").read_text(), "block-mount is there now"
    status = (root / "usr/lib/opkg/status").read_text()
    assert "Package: block-mount\nVersion: 2024-1\n" in status and "Package: ppp\n" not in status
    assert (root / "usr/lib/opkg/info/block-mount.list").read_text() == "/sbin/block\n"
    assert {path.name for path in (root / f"lib/modules/{RELEASE}").glob("*.ko")} == {"dummy.ko", "tun.ko"}
    manifest = (built.folder / "openwrt-23.05.5-x86-generic-attic.manifest").read_text()
    assert [line.split(" - ")[0] for line in manifest.splitlines()] == [
        "block-mount", "kernel", "kmod-dummy", "libc", "libuci", "procd",
    ]  # fmt: skip
    assert built.profiles["profiles"]["attic"]["device_packages"] == ["block-mount", "kmod-dummy"]
    assert_documented("manifest.json", built.manifest)
    assert str(tmp_path) not in (built.folder / "manifest.json").read_text()
    added = built.manifest["openwrt"]["packages"]
    assert [(one["name"], one["wanted"]) for one in added["install"]] == [
        ("libuci", False), ("block-mount", True), ("kmod-dummy", True),
    ]  # fmt: skip
    assert (added["feeds"][0]["url"], added["feeds"][0]["signature"]["key"], added["remove"]) == (
        "feed", "feeds.pub", ["ppp"],
    )  # fmt: skip
    again = plan(profile, "--set", f"kernel.image={image}", "--set", 'modules.extra=["dummy"]')
    assert again["kernel"] == {"release": RELEASE, "source": str(image)}, "named twice it is the same"


def test_with_another_kernel_modules_are_left_out(feed: Path, small_system: SmallSystem) -> None:
    write_archive(opkg_root("5.15.167"), feed / "root.tar.gz", owner=1000)
    kernel = _FOREIGN.format(system=small_system)
    profile = profile_with(feed, ["block-mount", "kmod-dummy"], rootfs="root.tar.gz", kernel=kernel)
    facts = plan(profile)
    assert_documented("build --dry-run", facts)
    assert facts["openwrt"]["packages"]["left_out"] == ["kmod-dummy"]
    kinds = [change["kind"] for change in facts["openwrt"]["changes"]]
    assert kinds.count("owners") == 1 and "fstab" in kinds, "packages are root's, and do not hide who the rest is of"
    said = "".join(facts["warnings"])
    assert "whose modules they are: kmod-dummy" in said and said.count("belonged to 1000:1000") == 1
    shown = run_main("build", profile, "--dry-run", "-o", feed / "out").stdout
    assert "install block-mount 2024-1" in shown and "install libuci 2023-1" in shown
    kept = plan(profile, "--set", 'openwrt.keep=["owners"]')
    assert "owners" not in [change["kind"] for change in kept["openwrt"]["changes"]]


def test_who_signed_a_feed_decides(feed: Path, small_system: SmallSystem) -> None:
    root = opkg_root("5.15.167")
    write_archive(root, feed / "root.tar.gz")
    profile = profile_with(feed, ["libuci"], rootfs="root.tar.gz", kernel=_FOREIGN.format(system=small_system))
    (feed / "feeds.pub").write_bytes(UsignPair.of("another").public)
    assert_refused(run_main("build", profile, "--dry-run"), "Packages", "openwrt.hash_only = true")
    facts = plan(profile, "--set", "openwrt.keys=[]", "--set", "openwrt.hash_only=true")
    assert any("not whose they are" in warning for warning in facts["warnings"])
    root.add(file("etc/opkg/keys/feeds", KEY.public))
    write_archive(root, feed / "root.tar.gz")
    facts = plan(profile)
    assert facts["openwrt"]["packages"]["feeds"][0]["signature"]["key"] == "the root's /etc/opkg/keys/feeds"
    assert_refused(run_main("build", profile, "--dry-run", "--set", "openwrt.feeds=[]"), "names no feeds")
    remote = ("--set", 'openwrt.feeds=["http://127.0.0.1:9/releases/23.05.5"]')
    refused = run_main("build", profile, "--dry-run", "--offline", *remote)
    assert_refused(refused, "http://127.0.0.1:9/releases/23.05.5/targets/x86/generic/packages is not in the cache")


def test_an_image_without_a_kernel_gives_none(folder: Path) -> None:
    profile = folder / "own.toml"
    profile.write_text(_PROFILE + '[kernel]\nsource = "files"\n')
    assert_refused(run_main("build", profile, "--dry-run"), "no kernel is in", "combined")


def test_any_root_may_be_an_image(small_system: SmallSystem, tmp_path: Path) -> None:
    root = openwrt_root("procd")
    root.remove("etc/openwrt_release")
    image = squashfs_image(tmp_path / "root.squashfs", root)
    words = ("--set", "root.source=archive", "--set", f"root.path={image}")
    facts = run_main("build", small_system.profile, "--dry-run", "--json", "-o", tmp_path / "out", *words).json
    assert facts["root"]["entries"] > len(root)


def test_packages_over_http_from_the_roots_own_feeds(feed: Path, small_system: SmallSystem, tmp_path: Path) -> None:
    """A stock root has all that is needed in /etc/opkg. Without the network the same bytes are built again."""
    new = [member("./lib/libuci.so", time.time_ns().to_bytes(8, "big"))]  # the cache knows all others by their hash
    block = ipk("block-mount", "2024-1", [member("./sbin/block", new[0][1], mode=0o755)], Depends="libuci")
    write_feed(feed / "feed", [block, ipk("libuci", "2023-1", new)], key=KEY)
    with serving(Site()) as site:
        site.files = {f"base/{path.name}": path.read_bytes() for path in (feed / "feed").iterdir()}
        root = opkg_root("5.15.167")
        root.add(file("etc/opkg/distfeeds.conf", f"src/gz base {site.address}/base\n"))
        root.add(file("etc/opkg/keys/feeds", KEY.public))
        write_archive(root, feed / "root.tar.gz")
        profile = profile_with(feed, ["block-mount"], rootfs="root.tar.gz", kernel=_FOREIGN.format(system=small_system))
        own = ("--set", "openwrt.feeds=[]", "--set", "openwrt.keys=[]")
        outcome = run_main("build", profile, *own, "-o", tmp_path / "out")
        assert outcome.status == 0, outcome.stderr
        asked = [path for _, path, _ in site.requests]
        packages = {f"{name}_i386_pentium4.ipk" for name in ("block-mount_2024-1", "libuci_2023-1")}
        assert {path.removeprefix("base/") for path in asked} == {"Packages.gz", "Packages.sig", *packages}
    built = BuiltImage(tmp_path / "out")
    (said,) = built.manifest["openwrt"]["packages"]["feeds"]
    assert (said["url"], said["signature"]["key"]) == (f"{site.address}/base", "the root's /etc/opkg/keys/feeds")
    unpack(built.initramfs, tmp_path / "root", tmp_path / "scratch")
    assert (tmp_path / "root/sbin/block").is_file() and (tmp_path / "root/lib/libuci.so").is_file()
    again = run_main("build", profile, *own, "--offline", "-o", tmp_path / "again")
    assert again.status == 0, again.stderr
    assert BuiltImage(tmp_path / "again").iso.read_bytes() == built.iso.read_bytes()
