"""Roots in OpenWrt's shape on Debian's kernel: all of it arrives, settings stay, or the login says they do not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from livebuilder.cache import Cache, cache_root
from livebuilder.kernel.modules import ModuleIndex, module_tree
from livebuilder.openwrt.modules import flatten
from livebuilder.sizes import MIB
from livebuilder.sources.debian import DebianArchive
from livebuilder.tree import Content, RootTree
from livebuilder.vm.machine import Stick
from livebuilder.vm.menu import read_config
from tests.support.boots import SECONDS, Boot, booting, observe, power_off
from tests.support.builds import BuiltImage, run_command, shared_folder
from tests.support.kernel_patch import kernel_without_devtmpfs
from tests.support.openwrt import LIST_FACTS, facts_of, openwrt_root, parse_facts, write_archive
from tests.support.sticks import read_file, stick_image

pytestmark = [pytest.mark.vm, pytest.mark.network]

PROFILE = """\
name = "owrt"
[root]
source = "openwrt"
rootfs = "rootfs*.tar.gz"
[modules]
features = ["usb-storage", "nic"]
[output]
compression = "gzip"
"""
WORD = "fstools_ignore_partname=1"  # on the disc's own command line, too
MEMORY_BYTES = 96 * MIB
# What the builder and /init change on purpose; all else has to arrive as it was.
OURS = ("etc/config/fstab", "etc/livebuilder", "etc/modules-boot.d", "etc/modules.d", "lib/modules", "dev", "overlay",
        "rom", "lost+found")  # fmt: skip


def build(folder: Path, root: RootTree, *, owner: int | None = None, settings: tuple[str, ...] = ()) -> BuiltImage:
    folder.mkdir(exist_ok=True)
    write_archive(root, folder / "rootfs.tar.gz", owner=owner)
    (folder / "owrt.toml").write_text(PROFILE)
    words = [word for setting in settings for word in ("--set", setting)]
    outcome = run_command("build", folder / "owrt.toml", "-o", folder / "out", *words, timeout_seconds=900)
    assert outcome.status == 0, outcome.stderr
    return BuiltImage(folder / "out")


@pytest.fixture(scope="module")
def procd_image(tmp_path_factory: pytest.TempPathFactory) -> BuiltImage:
    folder = shared_folder(tmp_path_factory, "openwrt-procd", lambda folder: build(folder, openwrt_root("procd")))
    return BuiltImage(folder / "out")


def assert_arrived(listing: bytes | None, root: RootTree) -> None:
    """Modes, owners, nodes, links, names and content are those of the input."""
    assert listing
    found, expected = parse_facts(listing.decode()), facts_of(root)
    ours = {path for path in (*found, *expected) if path.startswith(OURS)}
    assert {path: found.get(path) for path in expected.keys() - ours} == {
        path: expected[path] for path in expected.keys() - ours
    }
    assert found.keys() - ours == expected.keys() - ours


def test_three_days_of_a_procd_root(procd_image: BuiltImage, tmp_path: Path) -> None:
    """In the memory of 1998; on the third day there is a new disc, a squashfs with one file in another version."""
    assert WORD in read_config(procd_image.iso)
    stick = stick_image(tmp_path / "stick.img")
    uuids = set()
    for day in (1, 2):
        with booting(
            procd_image, WORD, sticks=[Stick(stick)], memory_bytes=MEMORY_BYTES, log=tmp_path / f"{day}.log"
        ) as session:
            boot, shell = observe(session)
            uuids.add(boot.record.root.uuid)
            if day == 1:
                facts = f"cd /rom; {LIST_FACTS} >/overlay/facts; cat /tmp/preinit.env /tmp/mount_root >/overlay/preinit"
                assert shell.run(f"({facts})", timeout_seconds=SECONDS).status == 0
                mounts = shell.run("cat /proc/mounts").output
                loaded = shell.run("cat /proc/modules; cat /tmp/kmodloader").output
                hardware = shell.run(
                    "cat /tmp/board; ls -l /dev/root /dev/loop7; cat /sys/class/net/eth0/address"
                ).output
                sed = "sed -i \"s/'OpenWrt'/'kept'/\" /etc/config/system"
                assert shell.run(sed).status == 0
            else:
                assert shell.run("hostname").output == "kept\n"
                assert shell.run("echo '# mine' >>/usr/bin/special; echo mine >/usr/bin/mine").status == 0
            assert_persistent(boot)
            power_off(session)
    newer = openwrt_root("procd", version="23.05.6")
    newer.overlay(RootTree([replace(newer["usr/bin/special"], content=Content.from_bytes(b"#!/bin/sh\n# 23.05.6\n"))]))
    image = build(tmp_path / "newer", newer, settings=("root.mode=squashfs",))
    with booting(
        image, WORD, "lb.stale=hide", sticks=[Stick(stick)], memory_bytes=64 * MIB, log=tmp_path / "3.log"
    ) as session:
        third, shell = observe(session)
        assert shell.run("hostname").output == "kept\n"
        found = shell.run("cat /usr/bin/special /usr/bin/mine").output
        power_off(session)
    assert found == "#!/bin/sh\n# 23.05.6\nmine\n"
    assert (third.record.storage.state, third.record.root.mode) == ("persistent", "squashfs")
    old = third.record.image.before
    assert old and old.endswith(" owrt OpenWrt 23.05.5 (r24106-10cc5fcd00) for x86/generic")
    stale = third.record.image.stale
    assert (stale.count, stale.hidden, stale.files) == (1, 1, ["/usr/bin/special"])
    assert read_file(stick, ".livebuilder/aside/usr/bin/special") == b"#!/bin/sh\n# mine\n"
    assert len(uuids) == 1
    assert_arrived(read_file(stick, "facts"), openwrt_root("procd"))
    assert_layout(mounts)
    preinit = (read_file(stick, "preinit") or b"").decode()
    assert "INITRAMFS" not in preinit and "PATH=/usr/sbin:/sbin:/usr/bin:/bin\n" in preinit
    assert "mount_root: mounting /dev/root" in preinit and "unable to determine root device" in preinit
    assert "is mine" not in preinit, "the stick's partition is ours already"
    assert "lan=eth0" in hardware and "loop7" in hardware and re.search(r"^52:54:00", hardware, re.MULTILINE)
    assert "/dev/root: No such file" in hardware
    names = set(re.findall(r"^(\w+) ", loaded, re.MULTILINE))
    assert {"tun", "overlay", "usb_storage", "ext4", "bridge", "8021q"} <= names
    failed = [line for line in loaded.splitlines() if "can't insert" in line and "No such device" not in line]
    assert not failed and "kmodloader: no " not in loaded


def assert_persistent(boot: Boot) -> None:
    assert (boot.record.root.mode, boot.record.root.device) == ("ext2", "/dev/loop7")
    assert boot.record.storage.state == "persistent" and boot.record.warnings == [
        "/dev/sda1 was not checked: this root has no e2fsck"
    ]
    assert "NOT KEPT" not in boot.login


def assert_layout(mounts: str) -> None:
    """As a router of OpenWrt's has it."""
    found = {line.split()[1]: line.split() for line in mounts.splitlines()}
    assert found["/"][0] == "overlayfs:/overlay" and found["/"][2] == "overlay"
    assert (found["/rom"][0], found["/overlay"][0]) == ("/dev/loop7", "/dev/sda1")
    assert found["/dev"][2] == found["/tmp"][2] == "tmpfs"


def own_kernel_image(folder: Path) -> BuiltImage:
    """A root with the modules of its own kernel: that is Debian's, made to have no devtmpfs, as OpenWrt's have none."""
    kernel = DebianArchive(cache=Cache(cache_root())).kernel().kernel
    index = ModuleIndex.from_kernel(kernel)
    names = ("loop", "ext4", "overlay", "sd_mod", "usb-storage", "ehci-pci", "tun")
    flat, _ = flatten(module_tree(kernel, index, names), kernel.release, name_limit=None)
    root = openwrt_root("procd", version="18.06.1")
    root.remove("lib/modules/4.14.63")
    root.overlay(RootTree(entry for entry in flat if entry.path.endswith(".ko")))
    folder.mkdir()
    (folder / "vmlinuz").write_bytes(kernel_without_devtmpfs(kernel.image.read()))
    return build(folder, root, settings=(f"kernel.image={folder / 'vmlinuz'}", "modules.features=['usb-storage']"))


def test_without_a_stick_its_login_says_so(tmp_path: Path) -> None:
    """With the root's own kernel, which has no devtmpfs."""
    image = own_kernel_image(tmp_path / "own")
    with booting(image, "lb.settle=0", log=tmp_path / "boot.log") as session:
        boot, shell = observe(session)
        fstab = shell.run("grep enabled /etc/config/fstab; cat /tmp/mount_root").output
        loaded = shell.run("cat /proc/modules; cat /tmp/kmodloader").output
    assert "the kernel has no devtmpfs" in boot.steps
    assert (boot.record.root.mode, boot.record.storage.state) == ("ext2", "volatile")
    assert {"usb_storage", "tun", "ext4"} <= set(re.findall(r"^(\w+) ", loaded, re.MULTILINE))
    assert "CHANGES ARE NOT KEPT: this system runs from memory only" in boot.login
    assert "Why: no stick labelled rootfs_data" in boot.login
    assert "option enabled '0'" in fstab, "OpenWrt's own extroot is not to take what /init left alone"
    assert "block: extroot: root device /dev/loop7" in fstab
    uuid = (boot.record.root.uuid or "").replace("-", "")
    assert f"root UUID {uuid}" in fstab


def test_a_root_of_2013_lays_the_overlay_in_its_preinit(tmp_path: Path) -> None:
    """Also: all of it belonged to the user who made the archive."""
    image = build(tmp_path / "image", openwrt_root("shell"), owner=1000)
    stick = stick_image(tmp_path / "stick.img")
    with booting(image, sticks=[Stick(stick)], log=tmp_path / "boot.log") as session:
        boot, shell = observe(session)
        mounts = shell.run("cat /proc/mounts").output
        said = shell.run("cat /tmp/mount_root /tmp/preinit.env; ls -ld /root /etc/shadow; cat /.extroot.md5sum").output
        assert shell.run("echo kept >/etc/config/kept").status == 0
        power_off(session)
    assert_persistent(boot)
    found = {line.split()[1]: line.split() for line in mounts.splitlines()}
    assert (found["/"][0], found["/rom"][0], found["/overlay"][0]) == ("overlayfs:/overlay", "/dev/root", "/dev/sda1")
    assert found["/tmp"][2] == "tmpfs" and found["/proc"][2] == "proc" and "/rom/proc" not in found
    assert "root device overlayfs:/overlay" in said and "extroot would be tried" not in said
    assert "INITRAMFS" not in said
    assert re.search(r"^drwx------ .* 0 +0 .* /root$|^drwx------ .*root +root .* /root$", said, re.MULTILINE)
    assert re.search(r"^[0-9a-f]{32}$", said, re.MULTILINE)
    assert read_file(stick, "upper/etc/config/kept") == b"kept\n"
    assert read_file(stick, "upper/etc/livebuilder/boot.json") is None
