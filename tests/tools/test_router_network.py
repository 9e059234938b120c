"""The router's network at work: its scripts, busybox's programs and nftables in the host's kernel, with real servers.

Every network here is one of its own, which nothing of the host can be reached from. tests/vm has the same in a guest.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from livebuilder.cache import Cache, cache_root
from livebuilder.sources.debian import DebianArchive
from tests.support.router_lab import Lab, Namespace, namespace, router_lab, wait_until
from tests.support.trees import write_tree

pytestmark = pytest.mark.host("networks")

_LAN_CARD, _WAN_CARD = "02:00:00:00:00:01", "02:00:00:00:00:02"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with router_lab(tmp_path, "busybox ash") as lab:
        yield lab


@pytest.fixture
def home() -> Iterator[Namespace]:
    with namespace() as home:
        yield home


@pytest.fixture
def provider() -> Iterator[Namespace]:
    with namespace() as provider:
        yield provider


@contextmanager
def _dhcp(provider: Namespace, folder: Path, network: str) -> Iterator[None]:
    """A provider with a DHCP server, as NETWORK.254."""
    provider.run("ip", "addr", "flush", "dev", "port")
    provider.run("ip", "addr", "add", f"{network}.254/24", "dev", "port")
    (folder / "leases").write_text("")
    (folder / "udhcpd.conf").write_text(
        f"interface port\nstart {network}.20\nend {network}.20\nlease_file {folder}/leases\n"
        f"pidfile {folder}/udhcpd.pid\nmin_lease 10\n"
        f"option subnet 255.255.255.0\noption router {network}.254\noption dns {network}.254\noption lease 10\n"
    )
    log = folder / "udhcpd.log"
    with provider.running("busybox", "udhcpd", "-f", folder / "udhcpd.conf", log=log):
        wait_until(log.read_text, lambda said: "started" in said, 20, "it listens")
        yield


_ASK = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as line:
        line.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        print(line.recv(100).decode(), end="")
except OSError as error:
    print(type(error).__name__)
"""


def _ask(somebody: Namespace, address: str, port: int) -> str:
    """What somebody hears who asks a web server."""
    return somebody.run(sys.executable, "-c", _ASK, address, str(port)).stdout


@contextmanager
def _web_server(somebody: Namespace, folder: Path, port: int) -> Iterator[Path]:
    """A web server, and the log of who has asked it."""
    (folder / "web").mkdir(exist_ok=True)
    log = folder / f"web-{port}.log"
    with somebody.running(sys.executable, "-u", "-m", "http.server", str(port), "-d", folder / "web", log=log):
        yield log


def test_the_rules_are_understood_and_yours_go_in(lab: Lab) -> None:
    rules = lab.router.root / "etc/firewall.nft"
    lab.inside.run("nft", "-c", "-f", rules)
    mine = (
        "chain user_input { tcp dport 443 accept; }\nchain user_dstnat { tcp dport 8080 dnat ip to 192.168.1.50:80; }\n"
        "chain user_forward { ip saddr 192.168.1.66 reject; }\n"
    )
    lab.router.write("etc/nftables.d/mine.nft", mine)
    lab.inside.run("nft", "-c", "-f", rules)
    for _ in range(2):
        assert lab.service("firewall", "start").returncode == 0
    listing = lab.inside.run("nft", "list", "ruleset").stdout
    assert listing.count("tcp dport 443 accept") == 1, "loaded twice, it is there once"
    lab.router.write("etc/nftables.d/mine.nft", "chain user_input { tcp dport accept; }\n")
    assert "the rules of before stay in force: " in lab.service("firewall", "restart").stderr
    assert lab.inside.run("nft", "list", "ruleset").stdout == listing


def test_the_day_of_a_router(lab: Lab, home: Namespace, provider: Namespace, tmp_path: Path) -> None:
    """First boot; the provider takes the LAN's network; its cable is pulled; a restart; a card is plugged in."""
    lab.plug("eth0", _WAN_CARD, provider)
    lab.plug("eth1", _LAN_CARD, home)
    assert lab.service("firewall", "boot").returncode == 0
    with _dhcp(provider, tmp_path, "203.0.113"):
        assert lab.service("network", "boot").returncode == 0
        assert lab.facts("lan")["address"] == "192.168.1.1", "the LAN waits for nobody"
        wan = lab.wait_for("wan", state="up")
        assert wan.items() >= {
            "proto": "dhcp", "device": "wan", "mac": _WAN_CARD, "chosen": "dhcp", "address": "203.0.113.20",
            "prefix": "24", "gateway": "203.0.113.254", "dns": "203.0.113.254", "lease_seconds": "10", "reason": "",
        }.items()  # fmt: skip
        assert lab.facts("lan")["ports"] == "eth1"
        assert lab.router.read("etc/livebuilder/wan") == f"{_WAN_CARD}\n"
        assert lab.address("wan") == ["203.0.113.20/24"]
        assert "default via 203.0.113.254 dev wan" in lab.inside.run("ip", "route").stdout
        _surf(home, provider, tmp_path)
        _clamp(lab, home, provider, tmp_path)
        _knock(lab, home, provider, tmp_path)

    # The provider's network becomes the LAN's: the server refuses the old address, the LAN moves.
    with _dhcp(provider, tmp_path, "192.168.1"):
        os.kill(int(lab.router.read("tmp/run/router-client.pid")), signal.SIGUSR1)  # as when half the lease is over
        lab.wait_for("wan", state="up", address="192.168.1.20")
        assert lab.wait_for("lan", address="192.168.2.1")["moved_from"] == "192.168.1.1"
        assert lab.address("br-lan") == ["192.168.2.1/24"]
        assert "the LAN has moved from 192.168.1.1 to 192.168.2.1" in lab.router.read("dev/ttyS0")

        # The cable.
        provider.run("ip", "link", "set", "port", "down")
        down = lab.wait_for("wan", state="down")
        assert (down["address"], down["reason"]) == ("", "nothing answers at the other end of the cable")
        assert lab.address("wan") == [] and lab.router.read("tmp/resolv.conf.auto") == ""
        provider.run("ip", "link", "set", "port", "up")
        lab.wait_for("wan", state="up", address="192.168.1.20")

        # A restart finds the kept card whatever its name is now, and tries none.
        lab.router.record.unlink()
        assert lab.service("network", "restart").returncode == 0
        assert lab.wait_for("wan", state="up")["chosen"] == "kept"
        assert not any(command.startswith("udhcpc -f -n") for command in lab.router.commands)
        assert lab.facts("lan")["address"] == "192.168.2.1", "it is kept where settings are"

    # A card that comes later, and goes.
    with namespace() as guest:
        lab.plug("eth5", "02:00:00:00:00:05", guest)
        lab.script("lib/router/card", "add", "eth5")
        assert lab.facts("lan")["ports"].split()[1:] == ["eth5"]
        assert "master br-lan" in lab.inside.run("ip", "link", "show", "eth5").stdout
        lab.inside.run("ip", "link", "del", "eth5")
        lab.script("lib/router/card", "remove", "eth5")
        assert "eth5" not in lab.facts("lan")["ports"]


def _surf(home: Namespace, provider: Namespace, folder: Path) -> None:
    """A machine of the LAN reaches a server behind the WAN, which sees the router's address."""
    home.run("ip", "addr", "add", "192.168.1.50/24", "dev", "port")
    home.run("ip", "route", "add", "default", "via", "192.168.1.1")
    with _web_server(provider, folder, 80) as log:
        wait_until(lambda: _ask(home, "203.0.113.254", 80), lambda said: said.startswith("HTTP/"), 20, "an answer")
        wait_until(log.read_text, lambda said: "GET / " in said, 20, "the server's log")
        assert "203.0.113.20 - - " in log.read_text() and "192.168.1.50" not in log.read_text()


_MSS = """
import socket
with socket.create_server(("", 81)) as server:
    line, _ = server.accept()
    line.sendall(b"%d" % line.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
"""


def _clamp(lab: Lab, home: Namespace, provider: Namespace, folder: Path) -> None:
    """A line that carries less than both ends believe: they agree on segments that go through it."""
    lab.inside.run("ip", "link", "set", "wan", "mtu", "1400")
    with provider.running(sys.executable, "-c", _MSS, log=folder / "mss.log"):
        said = wait_until(lambda: _ask(home, "203.0.113.254", 81), str.isdigit, 20, "the size of a segment")
    assert int(said) == 1400 - 40 - 12, "without the headers of IP and TCP, which has the time in it"


def _knock(lab: Lab, home: Namespace, provider: Namespace, folder: Path) -> None:
    """From the WAN nothing is open: neither the router's own address, nor that of the LAN, nor a machine there."""
    provider.run("ip", "route", "add", "192.168.1.0/24", "via", "203.0.113.20")
    with _web_server(lab.inside, folder, 22), _web_server(home, folder, 23):
        wait_until(lambda: _ask(home, "192.168.1.1", 22), lambda said: said.startswith("HTTP/"), 20, "the LAN may")
        wait_until(lambda: _ask(home, "127.0.0.1", 23), lambda said: said.startswith("HTTP/"), 20, "it listens")
        for address, port in (("203.0.113.20", 22), ("192.168.1.1", 22), ("192.168.1.50", 23)):
            assert _ask(provider, address, port) == "ConnectionRefusedError\n", address
    assert provider.run("busybox", "ping", "-c", "1", "-W", "5", "203.0.113.20").returncode == 0
    provider.run("ip", "route", "del", "192.168.1.0/24")


def test_nobody_answers_so_the_last_card_is_a_guess_until_it_proves_right(
    lab: Lab, home: Namespace, provider: Namespace, tmp_path: Path
) -> None:
    lab.plug("eth0", _LAN_CARD, home)
    lab.plug("eth1", _WAN_CARD, provider)
    lab.service("firewall", "boot")
    lab.service("network", "boot")
    assert lab.wait_for("wan", chosen="guess").items() >= {"state": "waiting", "mac": _WAN_CARD}.items()
    assert "no card gets an address by DHCP; eth1 (" in lab.router.read("dev/ttyS0")
    assert not (lab.router.root / "etc/livebuilder/wan").exists()
    with _dhcp(provider, tmp_path, "203.0.113"):
        assert lab.wait_for("wan", state="up")["chosen"] == "dhcp"
    assert lab.router.read("etc/livebuilder/wan") == f"{_WAN_CARD}\n"


def _unpack_dhcpv6(folder: Path, programs: Path) -> None:
    """Debian's client and server; installed on the host, both would start to work for it."""
    packages = ("wide-dhcpv6-client", "wide-dhcpv6-server")
    folder.mkdir()
    write_tree(DebianArchive(cache=Cache(cache_root()), architecture="amd64").root(packages).tree, folder)
    libraries = ":".join(f"{folder}/{path}/x86_64-linux-gnu" for path in ("lib", "usr/lib"))
    for name in ("dhcp6c", "dhcp6s"):
        command = f"{folder}/lib64/ld-linux-x86-64.so.2 --library-path {libraries} {folder}/usr/sbin/{name}"
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)


# A router's advertisement: for ten minutes the way to everywhere, and a prefix to make an address of.
_ADVERTISEMENT = """
import socket, struct
head = struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 600, 0, 0)
prefix = struct.pack(">BBBBIII", 3, 4, 64, 0xC0, 600, 600, 0) + socket.inet_pton(socket.AF_INET6, "2001:db8:77::")
with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    raw.sendto(head + prefix, ("ff02::1", 0, 0, socket.if_nametoindex("port")))
"""


def _advertise(provider: Namespace, lab: Lab) -> str:
    """The router's default route by then; it is none until both ends have an address of their link."""
    provider.run(sys.executable, "-c", _ADVERTISEMENT, check=False)
    return lab.inside.run("ip", "-6", "route", "show", "default", "dev", "wan").stdout


@pytest.mark.network
@pytest.mark.parametrize("length", [56, 64])
def test_ipv6_is_what_the_provider_delegates(
    lab: Lab, home: Namespace, provider: Namespace, tmp_path: Path, length: int
) -> None:
    lab.plug("eth0", _LAN_CARD, home)
    lab.plug("eth1", _WAN_CARD, provider)
    duid = f"00:03:00:01:{_WAN_CARD}"
    (lab.router.root / "etc/livebuilder/dhcp6c_duid").write_bytes(b"\n\0" + bytes.fromhex(duid.replace(":", "")))
    (tmp_path / "state").mkdir()
    provider.keep("dhcpv6", tmp_path / "state")
    _unpack_dhcpv6(tmp_path / "debian", lab.folder / "bin")
    (tmp_path / "dhcp6s.conf").write_text(
        f"interface port {{ }};\nhost router {{ duid {duid}; prefix 2001:db8:1200::/{length} 4 8; }};\n"
    )
    server = (lab.folder / "bin/dhcp6s", "-f", "-c", tmp_path / "dhcp6s.conf", "-P", tmp_path / "dhcp6s.pid", "port")
    lab.configure("device eth1", "proto static", "ipaddr 203.0.113.20", "gateway 203.0.113.254")
    lab.service("firewall", "boot")
    lab.service("network", "boot")
    wait_until(lambda: _advertise(provider, lab), bool, 20, "the provider's router is known")
    assert lab.facts("ipv6") == {"state": "off", "prefix": "", "reason": "the provider delegates no prefix"}
    assert lab.inside.run("cat", "/proc/sys/net/ipv6/conf/all/forwarding").stdout == "0\n"
    for device in ("wan", "br-lan"):
        assert not any(address.startswith("2001:") for address in lab.address(device, "-6")), device
    with provider.running(*server, log=tmp_path / "dhcp6s.log"):
        assert lab.wait_for("ipv6", state="on")["prefix"] == "2001:0db8:1200:0000::/64"
        assert "2001:db8:1200::1/64" in lab.address("br-lan", "-6")
        route = lab.inside.run("ip", "-6", "route", "get", "2001:db8:1200::77").stdout
        assert " dev br-lan " in route
        assert lab.inside.run("cat", "/proc/sys/net/ipv6/conf/all/forwarding").stdout == "1\n"
        assert "default via fe80::" in lab.inside.run("ip", "-6", "route", "show", "dev", "wan").stdout
    assert lab.wait_for("ipv6", state="off")["reason"] == "the provider has taken its prefix back"
    assert not any(address.startswith("2001:") for address in lab.address("br-lan", "-6"))
    assert lab.inside.run("cat", "/proc/sys/net/ipv6/conf/all/forwarding").stdout == "0\n"
