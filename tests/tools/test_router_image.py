"""The image of the default router: how large it is, and that what the profile tells it is in it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from livebuilder.process import run
from livebuilder.sizes import MIB
from tests.support.builds import BuiltImage, assert_refused, run_main
from tests.support.images import unpack

pytestmark = [pytest.mark.network, pytest.mark.usefixtures("default_image")]


def test_the_disc_of_the_default_router_is_small(default_image: BuiltImage) -> None:
    assert default_image.iso.stat().st_size <= 24 * MIB


def test_the_default_router_has_its_programs_and_drivers(default_image: BuiltImage, tmp_path: Path) -> None:
    root = tmp_path / "root"
    unpack(default_image.initramfs, root, tmp_path)
    programs = {path.name for folder in ("bin", "sbin", "usr/bin", "usr/sbin") for path in (root / folder).iterdir()}
    assert {"nft", "dnsmasq", "ntpd", "pppd", "dhcp6c", "dropbear", "e2fsck", "busybox", "udhcpc"} <= programs
    assert (root / "usr/lib/pppd/2.4.9/pppoe.so").is_file()
    modules = {path.stem for path in root.rglob("*.ko")}
    assert {"bridge", "nf_tables", "nft_masq", "nft_ct", "pppoe", "iTCO_wdt", "ne2k-pci"} <= modules
    assert "softdog" not in modules
    assert (root / "var").is_symlink() and (root / "usr/lib/livebuilder/var/lib/misc").is_dir()
    assert "@" not in "".join(path.read_text() for path in (root / "etc/config").iterdir())


def test_what_the_profile_tells_the_router_is_in_the_image(tmp_path: Path) -> None:
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "owner", "-f", tmp_path / "id"])
    password = run(["openssl", "passwd", "-6", "secret"]).stdout.strip()
    (tmp_path / "attic.toml").write_text(f"""
name = "attic.pc"
[root]
packages = ["-dnsmasq-base", "-nftables", "-openntpd", "-ppp", "-wide-dhcpv6-client"]
[router]
timezone = "Europe/Berlin"
lan = "10.1.1.1/26"
wan = "via-rhine"
dhcp_range = "10.1.1.10-10.1.1.19"
dns = ["192.0.2.53", "2001:db8::53"]
ssh_keys = ["id.pub"]
root_password_hash = "{password}"
[modules]
features = []
[output]
compression = "none"
""")
    outcome = run_main("--quiet", "build", "--offline", tmp_path / "attic.toml", "-o", tmp_path / "out")
    assert outcome.status == 0, outcome.stderr
    root = tmp_path / "root"
    unpack(BuiltImage(tmp_path / "out").initramfs, root, tmp_path)
    network, dhcp, system = ((root / "etc/config" / name).read_text() for name in ("network", "dhcp", "system"))
    assert "option ipaddr '10.1.1.1'\n\toption netmask '255.255.255.192'\n" in network
    assert "option device 'via-rhine'\n" in network
    assert network.endswith("list dns '192.0.2.53'\n\tlist dns '2001:db8::53'\n")
    assert "option start '10'\n\toption limit '10'\n" in dhcp
    assert "option hostname 'attic-pc'\n\toption timezone 'CET-1CEST,M3.5.0,M10.5.0/3'\n" in system
    keys = root / "etc/dropbear/authorized_keys"
    assert keys.read_text() == (tmp_path / "id.pub").read_text()
    assert (root / "root/.ssh/authorized_keys").readlink() == Path("/etc/dropbear/authorized_keys")
    shadow = root / "etc/shadow"
    assert shadow.read_text().startswith(f"root:{password}:0:")
    assert {stat.S_IMODE(path.stat().st_mode) for path in (keys, shadow)} == {0o600}
    assert not list(root.rglob("pppd")), "taken out"


def test_a_program_that_is_taken_out_and_needed_is_named(tmp_path: Path) -> None:
    words = ("build", "--offline", "-o", tmp_path / "out", "--set", 'root.packages=["-dropbear-bin"]')
    assert_refused(run_main(*words), "etc/init.d/dropbear: dropbear is neither a program of the root nor an applet")
