"""A real rootfs of OpenWrt, which LIVEBUILDER_OPENWRT_ROOTFS names, goes through what the stand-ins go through.

By what every OpenWrt has: its busybox knows no `stat` and no `losetup`. LIVEBUILDER_OPENWRT_KERNEL may name its kernel.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

import pytest

from livebuilder.cache import Cache, cache_root
from livebuilder.openwrt.eras import OverlayBy
from livebuilder.sizes import MIB
from livebuilder.sources.openwrt import OpenwrtRoot, read_openwrt_root
from livebuilder.tree import TYPE_BITS, Kind, is_implied
from livebuilder.vm.machine import Stick
from tests.support.boots import SECONDS, booting, observe, power_off
from tests.support.builds import BuiltImage, run_command
from tests.support.sticks import read_file, stick_image

pytestmark = [pytest.mark.vm, pytest.mark.network, pytest.mark.host("LIVEBUILDER_OPENWRT_ROOTFS")]

_PROFILE = """\
name = "real"
[root]
source = "openwrt"
rootfs = "{rootfs}"
"""
_OWN_KERNEL = """\
[kernel]
image = "{kernel}"
"""
_DEBIANS_KERNEL = """\
[kernel]
flavour = "{flavour}"
[modules]
features = ["usb-storage", "nic"]
"""
_RENAME = (
    "uci set system.@system[0].hostname=kept && uci commit system"
    " || sed -i \"s/\\(option hostname\\).*/\\1 'kept'/\" /etc/config/system"
)
_LIST = (
    "cd /rom && find . -xdev -type f -exec md5sum {} \\; >/overlay/sums;"
    " find . -xdev | while read -r p; do ls -lnd \"$p\"; done >/overlay/modes; cp /proc/mounts /overlay/mounts; sync"
)  # fmt: skip
# The LAN, a bridge with an address, as every release configures it by itself.
_UNTIL = "(n=0; until {0} || [ $n = 60 ]; do n=$((n + 1)); sleep 1; done)"
_LAN = _UNTIL.format("ifconfig br-lan 2>/dev/null | grep 'inet addr:'")
# fw3, fw4 and the scripts before them all make this chain; when the LAN comes up they do it once more.
_FIREWALL = _UNTIL.format("(iptables -n -L; nft list ruleset) 2>/dev/null | grep syn_flood")
# kmodloader's modprobe says "already loaded", or nothing; up to 15.05 with a status of 255.
_LOAD_AGAIN = "modprobe $(sed 's/ .*//;q' /proc/modules)"
# What the builder changes, /init adds, or a running system writes into its root.
_OURS = re.compile(r"(etc/(config/fstab|livebuilder|modules(-boot)?\.d)|lib/modules|dev|rom|overlay|lost\+found)(/|$)")


def real_root() -> OpenwrtRoot:
    return read_openwrt_root(Path(os.environ["LIVEBUILDER_OPENWRT_ROOTFS"]), cache=Cache(cache_root()))


def build_real(folder: Path, root: OpenwrtRoot, *settings: str, own_kernel: bool = False) -> BuiltImage:
    text = _PROFILE.format(rootfs=Path(os.environ["LIVEBUILDER_OPENWRT_ROOTFS"]).absolute())
    if own_kernel:
        text += _OWN_KERNEL.format(kernel=Path(os.environ["LIVEBUILDER_OPENWRT_KERNEL"]).absolute())
    else:
        text += _DEBIANS_KERNEL.format(flavour="amd64" if root.release.target == "x86/64" else "686")
    (folder / "real.toml").write_text(text)
    words = [word for setting in settings for word in ("--set", setting)]
    outcome = run_command("build", folder / "real.toml", "-o", folder / "out", *words, timeout_seconds=900)
    assert outcome.status == 0, outcome.stderr
    return BuiltImage(folder / "out")


def prove(
    image: BuiltImage, root: OpenwrtRoot, folder: Path, *, machine: str = "pc-modern", extra: tuple[str, ...] = ()
) -> None:
    """Two days with a stick, and what arrived compared with the archive."""
    stick = stick_image(folder / "stick.img", size_bytes=128 * MIB)
    uuids = set()
    for day in (1, 2):
        log = folder / f"{day}.log"
        words = root.era.cmdline.split()
        with booting(image, *words, machine=machine, sticks=[Stick(stick)], log=log, extra=extra) as session:
            boot, shell = observe(session)
            assert boot.record.storage.state == "persistent", boot.record.storage.reason
            assert (boot.record.root.mode, boot.record.root.device) == ("ext2", "/dev/loop7")
            uuids.add(boot.record.root.uuid)
            assert "NOT KEPT" not in boot.login
            if day == 1:
                assert shell.run(f"({_LIST})", timeout_seconds=SECONDS).status == 0
                assert '"initramfs": true' not in shell.run("ubus call system board 2>/dev/null").output
                assert shell.run(f"({_RENAME})").status == 0
            else:
                assert "kept" in shell.run("cat /etc/config/system").output
                assert "inet addr:" in shell.run(_LAN, timeout_seconds=SECONDS).output
                assert "syn_flood" in shell.run(_FIREWALL, timeout_seconds=SECONDS).output
                assert "failed" not in shell.run(_LOAD_AGAIN).output
            power_off(session)
    assert len(uuids) == 1
    mounts = {line.split()[1]: line.split()[0] for line in (read_file(stick, "mounts") or b"").decode().splitlines()}
    assert (mounts["/"], mounts["/rom"]) == ("overlayfs:/overlay", root.era.root_source)
    assert mounts["/overlay"].startswith("/dev/sd")
    assert_sums(read_file(stick, "sums") or b"", root)
    assert_modes(read_file(stick, "modes") or b"", root)


def assert_sums(listing: bytes, root: OpenwrtRoot) -> None:
    found = dict(line.split("  ./", 1)[::-1] for line in listing.decode("utf-8", "surrogateescape").splitlines())
    expected = {
        entry.path: hashlib.md5(root.tree.content_of(entry).read()).hexdigest()
        for entry in root.tree
        if entry.kind in (Kind.FILE, Kind.HARDLINK) and not _OURS.match(entry.path)
    }
    assert len(expected) > 10
    assert {path: found.get(path) for path in expected} == expected


def assert_modes(listing: bytes, root: OpenwrtRoot) -> None:
    """`ls -lnd` says the same of mode and owner; a root that is all one other user's is root's by now."""
    rows = (line.split(None, 4) for line in listing.decode("utf-8", "surrogateescape").splitlines())
    found = {row[4].partition(" ./")[2].partition(" -> ")[0]: (row[0], row[2], row[3]) for row in rows}
    users = {entry.uid for entry in root.tree if not is_implied(entry) and entry.kind is not Kind.HARDLINK}
    one_user = len(users) == 1 and users != {0}
    for entry in root.tree:
        if entry.kind is Kind.HARDLINK or _OURS.match(entry.path) or entry.path in ("tmp", "root", "etc/shadow"):
            continue
        owner = ("0", "0") if one_user else (str(entry.uid), str(entry.gid))
        mode = stat.filemode(TYPE_BITS[entry.kind] | entry.mode)
        assert found[entry.path] == (mode, *owner), entry.path


def test_a_real_root_with_debians_kernel(tmp_path: Path) -> None:
    root = real_root()
    prove(build_real(tmp_path, root), root, tmp_path)


@pytest.mark.host("LIVEBUILDER_OPENWRT_KERNEL")
def test_a_real_root_with_its_own_kernel(tmp_path: Path) -> None:
    root = real_root()
    image = build_real(tmp_path, root, own_kernel=True)
    if "CONFIG_USB_XHCI_HCD" in root.era.kernel_config:
        prove(image, root, tmp_path)
    else:  # up to 18.06 they know USB 2 and nothing newer, and from 17.01 on they want SSE2
        prove(image, root, tmp_path, machine="pc-2000", extra=("-cpu", "pentium3,+sse2"))


def test_its_login_says_when_nothing_is_kept(tmp_path: Path) -> None:
    image = build_real(tmp_path, real_root())
    with booting(image, "lb.storage=off", machine="pc-modern", log=tmp_path / "boot.log") as session:
        boot, _ = observe(session)
    assert boot.record.storage.state == "volatile"
    assert "CHANGES ARE NOT KEPT: this system runs from memory only" in boot.login


def test_a_squashfs_in_failsafe_has_the_settings_aside(tmp_path: Path) -> None:
    root = real_root()
    if root.era.overlay_by is OverlayBy.HOOK:
        pytest.skip("up to 12.09 there is no squashfs")
    image = build_real(tmp_path, root, "root.mode=squashfs")
    stick = stick_image(
        tmp_path / "stick.img", files={"upper/etc/mine": "kept\n", "upper/etc/config/network": "broken"}
    )
    words = (*root.era.cmdline.split(), "lb.failsafe")
    with booting(image, *words, machine="pc-modern", sticks=[Stick(stick)], log=tmp_path / "boot.log") as session:
        boot, shell = observe(session)
        seen = shell.run("cat /etc/mine /overlay/upper/etc/mine").output
        lan = shell.run(_LAN, timeout_seconds=SECONDS).output
        mounts = shell.run("cat /proc/mounts").output
        power_off(session)
    assert (boot.record.failsafe, boot.record.storage.state, boot.record.root.mode) == (True, "volatile", "squashfs")
    assert "FAILSAFE MODE: CHANGES ARE NOT KEPT" in boot.login
    assert "can't open" in seen and seen.endswith("kept\n")
    assert "inet addr:" in lan
    assert re.search(r"^/dev/sd\S+ /overlay ext4 rw", mounts, re.MULTILINE) and "upperdir=/overlay" not in mounts
