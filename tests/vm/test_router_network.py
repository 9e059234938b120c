"""The router's network in one guest with four cards: real drivers, Debian's kernel, a provider on either kind of line.

network0  a provider with DHCP that uses the LAN's own network (QEMU's user-mode network)
lan       a card whose cable leads nowhere
line      a card whose cable leads to "far", unplugged there at first; later that card is given to another network of
far       the same guest, where Debian's pppoe-server and dhcp6s are the provider
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from livebuilder.cache import Cache, cache_root
from livebuilder.sources.debian import DebianArchive
from livebuilder.vm.machine import Stick
from livebuilder.vm.session import Session
from livebuilder.vm.shell import GuestShell
from tests.support.boots import SECONDS, booting, observe, power_off, shows
from tests.support.builds import BuiltImage, run_command
from tests.support.sticks import list_folder, stick_image

pytestmark = [pytest.mark.vm, pytest.mark.network]

_PROFILE = """\
name = "router"
[root]
packages = ["wide-dhcpv6-server"]
files = "files"
[output]
compression = "gzip"
"""
_LAN_CARD, _LINE_CARD, _FAR_CARD, _LATE_CARD = (f"02:00:00:00:00:0{number}" for number in (1, 2, 3, 4))
_CARDS = [
    word
    for name, driver, mac, hub in (
        ("lan", "e1000", _LAN_CARD, 1), ("line", "ne2k_pci", _LINE_CARD, 2),
        ("far", "rtl8139", _FAR_CARD, 2),
    )
    for word in (
        "-netdev", f"hubport,id={name},hubid={hub}", "-device", f"{driver},netdev={name},mac={mac},romfile=",
    )
]  # fmt: skip


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> BuiltImage:
    """The default router, quickly packed, with a provider's programs in it."""
    folder = tmp_path_factory.mktemp("network-image")
    tree = DebianArchive(cache=Cache(cache_root())).root(["pppoe"]).tree
    for name in ("pppoe", "pppoe-server"):
        program = folder / "files/usr/sbin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_bytes(tree[f"usr/sbin/{name}"].content.read())
        program.chmod(0o755)
    (folder / "router.toml").write_text(_PROFILE)
    outcome = run_command("build", folder / "router.toml", "--output", folder / "out", timeout_seconds=900)
    assert outcome.status == 0, outcome.stderr
    return BuiltImage(folder / "out")


def _facts(shell: GuestShell, name: str, **wanted: str) -> dict[str, str]:
    """Wait until these (patterns) are among the facts of `name`, and return them all."""
    file = f"/tmp/run/router/{name}"
    tests = " && ".join(f"grep -qx '{key}={value}' {file}" for key, value in wanted.items()) or "true"
    answer = shell.run(
        f"n=0; until {tests} || [ $n = 60 ]; do n=$((n+1)); sleep 1; done; cat {file}", timeout_seconds=200
    )
    facts = dict(line.split("=", 1) for line in answer.output.splitlines() if "=" in line)
    assert all(re.fullmatch(value, facts.get(key, "")) for key, value in wanted.items()), f"{name}: {facts}"
    return facts


def _run(shell: GuestShell, command: str) -> str:
    answer = shell.run(command, timeout_seconds=SECONDS)
    assert answer.status == 0, f"{command}: {answer}"
    return answer.output


def _card(shell: GuestShell, mac: str) -> str:
    """What the kernel calls the card of that address, which is also the bridge's when it is the first there."""
    return _run(shell, f"cd /sys/class/net; grep -l {mac} eth*/address").split("/")[0]


def test_the_network_of_a_router(image: BuiltImage, tmp_path: Path) -> None:
    stick, log = stick_image(tmp_path / "stick.img"), tmp_path / "boot.log"
    with booting(image, log=log, sticks=[Stick(stick)], extra=_CARDS) as session:
        session.command("set_link", name="far", up=False)  # a bridge with both ends of a cable would be a loop
        boot, shell = observe(session)
        assert boot.record.storage.state == "persistent"
        _first_boot(session, shell)
        _cable(session, shell)
        _later_card(session, shell)
        _delegate(session, shell)
        _dial(shell)
        power_off(session)
    assert list_folder(stick, "upper/etc/livebuilder").keys() >= {"wan"}


def _first_boot(session: Session, shell: GuestShell) -> None:
    """The card with a DHCP server is the WAN, and the LAN gets out of its way; a firewall is in force."""
    wan = _facts(shell, "wan", state="up")
    assert wan.items() >= {
        "proto": "dhcp", "device": "wan", "driver": "8139cp", "chosen": "dhcp", "prefix": "24",
    }.items()  # fmt: skip
    assert wan["address"].startswith("192.168.1.")
    lan = _facts(shell, "lan", address="192.168.2.1", moved_from="192.168.1.1")
    assert sorted(lan["ports"].split()) == sorted(_card(shell, mac) for mac in (_LAN_CARD, _LINE_CARD, _FAR_CARD))
    assert shows(session.text, "the LAN has moved from 192.168.1.1 to 192.168.2.1")
    assert "192.168.2.1/24" in _run(shell, "ip -4 addr show br-lan")
    assert _facts(shell, "firewall") == {"state": "on", "reason": ""}
    rules = _run(shell, "nft list ruleset")
    for rule in (
        "hook input priority filter; policy drop;",
        "hook forward priority filter; policy drop;",
        "masquerade",
    ):
        assert rule in rules
    kernel = (
        "cd /proc/sys/net; cat ipv4/ip_forward ipv4/conf/all/rp_filter netfilter/nf_conntrack_tcp_timeout_established"
    )
    assert _run(shell, kernel).split() == ["1", "1", "7440"]
    assert _facts(shell, "ipv6") == {"state": "off", "prefix": "", "reason": "the provider delegates no prefix"}
    assert _run(shell, "cat /etc/livebuilder/wan").strip() == wan["mac"]


def _cable(session: Session, shell: GuestShell) -> None:
    session.command("set_link", name="network0", up=False)
    assert _facts(shell, "wan", state="down")["reason"] == "nothing answers at the other end of the cable"
    session.command("set_link", name="network0", up=True)
    _facts(shell, "wan", state="up")


def _later_card(session: Session, shell: GuestShell) -> None:
    """A card that is plugged in and pulled out again."""
    ports = _facts(shell, "lan")["ports"]
    session.command("netdev_add", type="hubport", id="late", hubid=3)
    session.command("device_add", driver="e1000", netdev="late", id="late-card", mac=_LATE_CARD, romfile="")
    # It gets the name that the WAN's card had.
    assert _facts(shell, "lan", ports=f"{ports} eth[0-3]")["ports"].split()[-1] == _card(shell, _LATE_CARD)
    session.command("device_del", id="late-card")
    _facts(shell, "lan", ports=ports)


def _set_wan(shell: GuestShell, **options: str) -> None:
    """The settings of WAN, and a start with them."""
    commands = " && ".join(f"config_set network wan {name} '{value}'" for name, value in options.items())
    _run(shell, f". /lib/functions.sh; {commands}")
    _run(shell, "/etc/init.d/network restart")


def _far(shell: GuestShell, command: str) -> str:
    """What the provider does, in the network at the other end of the cable."""
    return _run(shell, f"nsenter -n -t $(cat /tmp/far) {command}")


def _delegate_on(shell: GuestShell, device: str, prefix: str) -> None:
    """The provider delegates this prefix to the router on that line, and on no other."""
    host = f"interface {device} {{ }}; host router {{ duid 00:03:00:01:{_LINE_CARD}; prefix {prefix} 60 120; }};"
    _run(shell, f"[ ! -e /tmp/dhcp6s.pid ] || kill $(cat /tmp/dhcp6s.pid); echo '{host}' >/tmp/dhcp6s.conf")
    _far(shell, f"dhcp6s -c /tmp/dhcp6s.conf -P /tmp/dhcp6s.pid {device}")


def _delegate(session: Session, shell: GuestShell) -> None:
    """A provider who delegates a prefix of IPv6 to a static line, and ceases to."""
    _run(shell, "unshare -n sleep 100000 & echo $! >/tmp/far")
    _run(shell, f"ip link set {_card(shell, _FAR_CARD)} netns $(cat /tmp/far)")
    _far(shell, "sh -c 'cd /sys; ip link set $(ip -o link | grep -o \"eth[0-9]\") name far'")
    for command in ("ip link set lo up", "ip link set far up"):
        _far(shell, command)
    session.command("set_link", name="far", up=True)
    _run(shell, r"printf '\n\0\0\3\0\1\2\0\0\0\0\2' >/etc/livebuilder/dhcp6c_duid")
    _delegate_on(shell, "far", "2001:db8:1200::/56")
    _set_wan(shell, device=_LINE_CARD, proto="static", ipaddr="10.8.8.2", gateway="10.8.8.1")
    _facts(shell, "wan", state="up", address="10.8.8.2", chosen="config")
    assert _facts(shell, "ipv6", state="on")["prefix"] == "2001:0db8:1200:0000::/64"
    assert "2001:db8:1200::1/64" in _run(shell, "ip -6 addr show br-lan")
    assert _run(shell, "cat /proc/sys/net/ipv6/conf/all/forwarding") == "1\n"


def _dial(shell: GuestShell) -> None:
    """PPPoE with a password; IPv6 over it once the provider delegates a prefix there."""
    _run(shell, "mkdir -p /etc/ppp; echo 'me@isp * \"a secret\" *' >/etc/ppp/chap-secrets")
    _run(shell, "printf 'require-chap\\nms-dns 192.0.2.53\\n+ipv6\\n' >/etc/ppp/pppoe-server-options")
    _far(shell, "pppoe-server -I far -L 10.9.9.1 -R 10.9.9.2")
    _set_wan(shell, proto="pppoe", username="me@isp", password="a secret")
    wan = _facts(shell, "wan", state="up")
    assert wan.items() >= {
        "proto": "pppoe", "device": "pppoe-wan", "address": "10.9.9.2", "gateway": "10.9.9.1", "dns": "192.0.2.53",
        "mac": _LINE_CARD, "driver": "ne2k-pci", "chosen": "config",
    }.items()  # fmt: skip
    _run(shell, "ping -c 1 10.9.9.1")
    assert "default" in _run(shell, "ip route show dev pppoe-wan")
    assert _run(shell, "cat /tmp/resolv.conf.auto") == "nameserver 192.0.2.53\n"
    assert _facts(shell, "ipv6")["state"] == "off", "the prefix was the other line's"
    assert "2001:" not in _run(shell, "ip -6 addr show br-lan")

    _delegate_on(shell, "ppp0", "2001:db8:3400::/56")
    assert _facts(shell, "ipv6", state="on")["prefix"] == "2001:0db8:3400:0000::/64"
    assert "2001:db8:3400::1/64" in _run(shell, "ip -6 addr show br-lan")
    _far(shell, "ip addr add 2001:db8:ff::1 dev ppp0")
    _far(shell, "ip -6 route add 2001:db8:3400::/56 dev ppp0")
    _far(shell, "ping -c 1 2001:db8:3400::1")
