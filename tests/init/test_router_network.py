"""initramfs/router/lib/router: which card is the WAN, the LAN's bridge, and what is run for each; no kernel is asked.

tests/tools/test_router_network.py has the same scripts at work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from tests.support.router import Router, wait_for

_CARDS = {"eth0": "8139too", "eth1": "ne2k-pci", "eth2": "e100"}
_LAN_UP = [
    "ip link add br-lan type bridge",
    "ip -4 addr flush dev br-lan",
    "ip addr add 192.168.1.1/24 broadcast + dev br-lan",
    "ip link set br-lan up",
]
_UDHCPC = "udhcpc -f -S -i wan -s /lib/router/udhcpc -x hostname:attic-pc"


@pytest.fixture
def router(router: Router) -> Router:
    (router.root / "tmp/lock").mkdir(exist_ok=True)
    (router.root / "sys/class/net").mkdir(parents=True)
    router.write("proc/sys/kernel/hostname", "attic-pc\n")
    router.write("proc/uptime", "12.34 5.6\n")
    router.write("tmp/run/router/firewall", "state=on\n")
    for listener in (router.root / "etc/hotplug.d/iface").iterdir():
        listener.unlink()
    return router


def _plug(router: Router, *names: str) -> None:
    for name in names:
        number = list(_CARDS).index(name) + 1
        router.write(f"sys/class/net/{name}/address", f"00:16:3e:00:00:0{number}\n")
        # The kernel counts cards as it meets them.
        router.write(f"sys/class/net/{name}/ifindex", f"{number + 8}\n")
        router.write(f"sys/class/net/{name}/device/uevent", f"PCI_CLASS=20000\nDRIVER={_CARDS[name]}\n")


def _configure(router: Router, *options: str) -> None:
    lines = "".join(f"\toption {option}\n" for option in options)
    router.write("etc/config/network", f"config interface lan\n\nconfig interface wan\n{lines}")


def _network(router: Router, text: str) -> str:
    done = router.snippet(f'. "$ROOT/lib/router/network.sh"; config_load network\n{text}')
    assert done.returncode == 0, done
    return done.stdout


def _facts(router: Router, name: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in router.read(f"tmp/run/router/{name}").splitlines())


def _commands_with(router: Router, *wanted: str) -> list[str]:
    """What was run, when what is run in the background has been: all of `wanted`."""
    wait_for(lambda: set(wanted) <= set(router.commands))
    return router.commands


# --- addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.0.0.0", 0), ("192.168.1.1", 0xC0A80101), ("255.255.255.255", 0xFFFFFFFF),
        ("192.168.1", None), ("1.2.3.4.5", None), ("1.2.3.256", None), ("1.2.3.08", None), ("1..2.3", None),
        ("", None), ("a.b.c.d", None), ("1.2.3.4 ", None), ("1.2.3.99999999999999999999", None), ("*.1.1.1", None),
    ],
)  # fmt: skip
def test_an_address_is_a_number(router: Router, text: str, number: int | None) -> None:
    said = _network(router, f"if ipv4 '{text}'; then echo $NUMBER; fi")
    assert said == ("" if number is None else f"{number}\n")


@pytest.mark.parametrize(
    ("mask", "length"),
    [
        ("255.255.255.0", "24"), ("255.255.240.0", "20"), ("255.255.255.255", "32"), ("0.0.0.0", "0"), ("24", "24"),
        ("0", "0"), ("32", "32"), ("33", ""), ("255.0.255.0", ""), ("0.255.255.255", ""), ("", ""), ("x", ""),
    ],
)  # fmt: skip
def test_a_netmask_is_a_length(router: Router, mask: str, length: str) -> None:
    assert _network(router, f"LENGTH=; if prefix_length '{mask}'; then echo $LENGTH; fi").strip() == length


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("192.168.1.1 24", "192.168.1.77 24", True),
        ("192.168.1.1 24", "192.168.2.77 24", False),
        ("192.168.1.1 24", "192.168.0.5 16", True),
        ("192.168.1.1 24", "10.0.0.1 0", True),
        ("192.168.1.1 24", "192.168.1.254 32", True),
        ("10.255.0.1 24", "10.0.0.1 8", True),
        ("192.168.1.1 25", "192.168.1.129 25", False),
    ],
)
def test_networks_overlap(router: Router, one: str, other: str, expected: bool) -> None:
    assert _network(router, f"if overlap {one} {other}; then echo yes; fi") == ("yes\n" if expected else "")


@pytest.mark.parametrize(
    ("wan", "free"),
    [("192.168.1.7 24", "192.168.2.1"), ("10.0.0.1 24", "192.168.1.1"), ("192.168.1.7 23", "192.168.2.1"),
     ("192.168.2.7 22", "192.168.4.1"), ("192.168.9.9 16", "172.16.1.1"), ("128.0.0.1 1", "10.0.1.1")],
)  # fmt: skip
def test_the_next_free_network(router: Router, wan: str, free: str) -> None:
    assert _network(router, f"free_lan {wan}; echo $FREE") == f"{free}\n"


# --- which card is the WAN -----------------------------------------------------------------------------------------


def test_cards_are_hardware_for_cables_in_the_order_of_the_kernel(router: Router) -> None:
    _plug(router, "eth2", "eth0", "eth1")
    router.write("sys/class/net/eth1/ifindex", "100\n")
    for name in ("lo", "br-lan", "tun0"):
        router.write(f"sys/class/net/{name}/ifindex", "1\n")
    _plug(router, "eth2")
    (router.root / "sys/class/net/wlan0/phy80211").mkdir(parents=True)
    (router.root / "sys/class/net/wlan0/device").mkdir()
    assert _network(router, 'find_cards; echo "$CARDS"') == "eth0 eth2 eth1\n"


@pytest.mark.parametrize(
    ("wanted", "card"),
    [("00:16:3E:00:00:02", "eth1"), ("e100", "eth2"), ("eth0", "eth0"), ("ne2k", ""), ("*", ""), ("", "")],
)
def test_a_card_is_named_by_its_address_its_driver_or_its_name(router: Router, wanted: str, card: str) -> None:
    _plug(router, *_CARDS)
    assert _network(router, f"find_card '{wanted}' 'eth0 eth1 eth2' || :; echo \"$CARD\"") == f"{card}\n"


@pytest.mark.parametrize(
    ("options", "kept", "cards", "chosen", "reason"),
    [
        (["device e100"], "00:16:3e:00:00:02", "eth0 eth1 eth2", "config eth2", ""),
        (["device e1000"], None, "eth0 eth1", "config ", "no card is 'e1000', as /etc/config/network wants it"),
        ([], "00:16:3e:00:00:02", "eth0 eth1 eth2", "kept eth1", ""),
        ([], "00:16:3e:00:00:02", "eth1", "kept eth1", ""),
        ([], "00:16:3e:00:00:03", "eth0 eth1", "dhcp ", ""),
        ([], "", "eth0 eth1", "dhcp ", ""),
        ([], None, "eth0 eth1", "dhcp ", ""),
        ([], None, "eth0", " ", "there is only one network card, eth0, which is the LAN"),
        ([], "00:16:3e:00:00:02", "eth0", " ", "there is only one network card, eth0"),
        ([], None, "", " ", "there is no network card"),
        (["proto none"], "00:16:3e:00:00:02", "eth0 eth1", " ", "it is switched off"),
    ],
)
def test_the_choice(router: Router, options: list[str], kept: str | None, cards: str, chosen: str, reason: str) -> None:
    _plug(router, *_CARDS)
    _configure(router, *options)
    if kept is not None:
        router.write("etc/livebuilder/wan", f"{kept}\n")
    said = _network(router, f'CARDS="{cards}"; wan_choose; echo "$CHOSEN $CARD"; echo "$REASON"')
    assert said.splitlines()[0] == chosen
    assert said.splitlines()[1].startswith(reason) and bool(said.splitlines()[1]) == bool(reason)


# --- the boot ------------------------------------------------------------------------------------------------------


def test_one_card_is_the_lan_and_nothing_is_tried(router: Router) -> None:
    _plug(router, "eth0")
    assert router.service("network", "boot").stderr == ""
    assert router.commands == [
        "ip link set lo up", *_LAN_UP,
        "ip link set eth0 master br-lan",
        "ip link set br-lan address 00:16:3e:00:00:01",
        "ip link set eth0 up",
        "logger -t router network: no WAN: there is only one network card, eth0, which is the LAN",
    ]  # fmt: skip
    for tty in ("tty1", "ttyS0"):
        assert router.read(f"dev/{tty}") == "network: no WAN: there is only one network card, eth0, which is the LAN\n"
    assert _facts(router, "wan")["state"] == "none"
    assert _facts(router, "lan") == {
        "state": "up", "address": "192.168.1.1", "prefix": "24", "ports": "eth0", "moved_from": "", "reason": "",
    }  # fmt: skip
    assert router.service("network", "status").stdout == "stopped\n"
    assert not list((router.root / "tmp/lock").iterdir())


def test_the_kept_card_is_the_wan_at_once(router: Router) -> None:
    _plug(router, *_CARDS)
    router.write("etc/livebuilder/wan", "00:16:3e:00:00:02\n")
    router.service("network", "boot")
    commands = _commands_with(router, _UDHCPC, "/lib/router/watch")
    assert [command for command in commands if "eth1" in command or "wan" in command.split()] == [
        "ip link set eth1 down", "ip link set eth1 name wan", "ip link set wan up", _UDHCPC,
    ]  # fmt: skip
    assert _facts(router, "lan")["ports"] == "eth0 eth2"
    facts = _facts(router, "wan")
    assert facts.items() >= {
        "state": "waiting", "proto": "dhcp", "device": "wan", "mac": "00:16:3e:00:00:02", "driver": "ne2k-pci",
        "chosen": "kept", "reason": "asking for an address",
    }.items()  # fmt: skip


@pytest.mark.parametrize("firewall", ["state=off\n", None])
def test_without_a_firewall_the_wan_stays_down(router: Router, firewall: str | None) -> None:
    _plug(router, "eth0", "eth1")
    _configure(router, "device eth1")
    (router.root / "tmp/run/router/firewall").unlink()
    if firewall is not None:
        router.write("tmp/run/router/firewall", firewall)
    router.service("network", "boot")
    assert "ip link set wan up" not in router.commands
    assert not {"udhcpc", "pppd", "/lib/router/watch"} & {command.split()[0] for command in router.commands}
    assert _facts(router, "wan")["state"] == "down"
    assert _facts(router, "wan")["reason"].startswith("the firewall is not in force: /etc/init.d/firewall restart")
    assert _facts(router, "lan")["ports"] == "eth0"


def test_a_kernel_without_bridges_has_the_first_card_for_a_lan(router: Router) -> None:
    _plug(router, "eth0")
    router.failing = "*bridge|*master*"
    router.service("network", "boot")
    assert router.commands[-5:-1] == [
        "ip link set eth0 name br-lan", "ip -4 addr flush dev br-lan",
        "ip addr add 192.168.1.1/24 broadcast + dev br-lan", "ip link set br-lan up",
    ]  # fmt: skip
    assert "this kernel has no bridges" in router.read("dev/tty1")


def test_an_address_that_is_none_leaves_the_router_reachable(router: Router) -> None:
    router.write("etc/config/network", "config interface lan\noption ipaddr 192.168.1.256\n")
    router.service("network", "boot")
    assert _LAN_UP[2] in router.commands
    assert "ipaddr '192.168.1.256'" in router.read("dev/tty1")
    assert _facts(router, "lan")["reason"].endswith("is no address; 192.168.1.1 is used")


def test_an_address_of_the_lan_is_set_anew_and_told(router: Router) -> None:
    _plug(router, "eth0")
    router.service("network", "boot")
    router.record.unlink()
    router.write("etc/hotplug.d/iface/10-tell", 'run tell "$ACTION" "$INTERFACE" "$DEVICE"\n')
    _configure(router)
    router.snippet("config_set network lan ipaddr 10.1.1.1; config_set network lan netmask 255.255.0.0")
    router.service("network", "restart", "lan")
    assert router.commands == [
        "ip -4 addr flush dev br-lan", "ip addr add 10.1.1.1/16 broadcast + dev br-lan", "ip link set br-lan up",
        "tell ifupdate lan br-lan", "ip link set eth0 down", "sleep 2", "ip link set eth0 up",
    ]  # fmt: skip


def test_a_restart_gives_names_and_ports_back(router: Router) -> None:
    _plug(router, "eth0", "eth1")
    _configure(router, "device eth1")
    router.service("network", "boot")
    _commands_with(router, _UDHCPC, "/lib/router/watch")
    router.record.unlink()
    router.service("network", "stop")
    assert [command for command in router.commands if not command.startswith("kill ")] == [
        "ip link set wan down", "ip link set wan name eth%d", "ip link set br-lan down", "ip link del br-lan",
    ]  # fmt: skip
    assert len(router.commands) == 6, "udhcpc and the watcher were ended"
    assert router.service("network", "status").returncode == 3


# --- trying the cards ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("failing", "wan", "chosen"), [("udhcpc*eth0*", "eth1", "dhcp"), ("udhcpc*", "eth1", "guess")])
def test_cards_are_tried_beside_the_boot(router: Router, failing: str, wan: str, chosen: str) -> None:
    _plug(router, "eth0", "eth1")
    router.failing = failing
    router.service("network", "boot")
    assert _facts(router, "wan").items() >= {"state": "waiting", "chosen": ""}.items()
    _commands_with(router, "/lib/router/probe")
    assert router.script("lib/router/probe").stderr == ""
    commands = _commands_with(router, _UDHCPC, "/lib/router/watch")
    tries = [command for command in commands if command.startswith("udhcpc -f -n -q -t 3 -T 3 -i eth")]
    assert sorted(command.split()[9] for command in tries) == ["eth0", "eth1"]
    assert f"ip link set {wan} name wan" in commands
    assert _facts(router, "wan")["chosen"] == chosen
    said = router.root / "dev/tty1"
    assert said.exists() == (chosen == "guess")
    if said.exists():
        assert "eth1 (ne2k-pci, 00:16:3e:00:00:02) is taken for the WAN" in said.read_text()
    assert not (router.root / "etc/livebuilder/wan").exists(), "it is kept when it has an address"


# --- what the provider gives ---------------------------------------------------------------------------------------

_LEASE = {
    "ip": "203.0.113.7",
    "mask": "24",
    "router": "203.0.113.1 203.0.113.2",
    "dns": "192.0.2.1 192.0.2.2",
    "lease": "600",
}


def _wan_waits(router: Router, chosen: str = "guess") -> None:
    router.write("tmp/run/router/lan", "state=up\naddress=192.168.1.1\nprefix=24\nports=eth0\nmoved_from=\n")
    router.write(
        "tmp/run/router/wan", f"state=waiting\nproto=dhcp\ndevice=wan\nmac=00:16:3e:00:00:02\nchosen={chosen}\n"
    )
    router.write("etc/hotplug.d/iface/10-tell", 'run tell "$ACTION" "$INTERFACE" "$DEVICE"\n')


def _report(router: Router, event: str, lease: Mapping[str, str] | None = None) -> list[str]:
    """What udhcpc's script does; this process stands for udhcpc."""
    router.write("tmp/run/router-client.pid", f"{os.getpid()}\n")
    if router.record.exists():
        router.record.unlink()
    done = router.script("lib/router/udhcpc", event, env=lease)
    assert done.stderr == ""
    return [command for command in router.commands if not command.startswith("dhcp6c")]


def test_a_lease_is_the_address_the_route_the_names_and_an_event(router: Router) -> None:
    _wan_waits(router)
    assert _report(router, "bound", _LEASE) == [
        "ip -4 addr flush dev wan",
        "ip addr add 203.0.113.7/24 broadcast + dev wan",
        "ip route replace default via 203.0.113.1 dev wan",
        "tell ifup wan wan",
    ]
    assert router.read("tmp/resolv.conf.auto") == "nameserver 192.0.2.1\nnameserver 192.0.2.2\n"
    assert _facts(router, "wan") == {
        "state": "up", "proto": "dhcp", "device": "wan", "mac": "00:16:3e:00:00:02", "chosen": "dhcp",
        "address": "203.0.113.7", "prefix": "24", "gateway": "203.0.113.1", "dns": "192.0.2.1 192.0.2.2",
        "lease_seconds": "600", "since": "12", "reason": "",
    }  # fmt: skip
    assert router.read("etc/livebuilder/wan") == "00:16:3e:00:00:02\n", "the guess was right"

    router.write("proc/uptime", "99.00 5.6\n")
    assert _report(router, "renew", _LEASE) == [], "nothing has changed"
    assert _facts(router, "wan")["since"] == "12"
    assert _report(router, "renew", {**_LEASE, "dns": "192.0.2.3"}) == ["tell ifupdate wan wan"]
    assert _report(router, "renew", {**_LEASE, "dns": "192.0.2.3", "ip": "203.0.113.8"})[1:] == [
        "ip addr add 203.0.113.8/24 broadcast + dev wan",
        "ip route replace default via 203.0.113.1 dev wan",
        "tell ifupdate wan wan",
    ]
    assert _report(router, "deconfig") == ["ip -4 addr flush dev wan", "tell ifdown wan wan"]
    assert router.read("tmp/resolv.conf.auto") == ""
    assert _facts(router, "wan").items() >= {"state": "waiting", "address": "", "since": ""}.items()
    assert _report(router, "leasefail") == []
    assert _facts(router, "wan")["reason"] == "no answer to DHCP"


def test_a_gateway_outside_the_network_gets_a_way_to_it(router: Router) -> None:
    _wan_waits(router)
    assert _report(router, "bound", {**_LEASE, "mask": "32"})[2:4] == [
        "ip route replace 203.0.113.1 dev wan",
        "ip route replace default via 203.0.113.1 dev wan",
    ]


def test_name_servers_of_the_settings_come_instead(router: Router) -> None:
    _wan_waits(router)
    _configure(router, "dns '198.51.100.1'")
    _report(router, "bound", _LEASE)
    assert router.read("tmp/resolv.conf.auto") == "nameserver 198.51.100.1\n"


def test_a_card_of_the_settings_is_not_kept(router: Router) -> None:
    _wan_waits(router, chosen="config")
    _report(router, "bound", _LEASE)
    assert not (router.root / "etc/livebuilder/wan").exists()


def test_a_report_of_a_client_that_was_ended_counts_no_more(router: Router) -> None:
    _wan_waits(router)
    router.write("tmp/run/router-client.pid", "4242\n")
    router.script("lib/router/udhcpc", "bound", env=_LEASE)
    assert router.commands == []


def test_the_lan_moves_out_of_the_way_of_the_wan(router: Router) -> None:
    _wan_waits(router)
    _configure(router, "device auto")
    lease = {**_LEASE, "ip": "192.168.1.33", "router": "192.168.1.254"}
    commands = _report(router, "bound", lease)
    assert [command for command in commands if not command.startswith("logger")] == [
        "ip -4 addr flush dev br-lan", "ip addr add 192.168.2.1/24 broadcast + dev br-lan", "ip link set br-lan up",
        "tell ifupdate lan br-lan", "ip link set eth0 down", "sleep 2", "ip link set eth0 up",
        "ip -4 addr flush dev wan", "ip addr add 192.168.1.33/24 broadcast + dev wan",
        "ip route replace default via 192.168.1.254 dev wan", "tell ifup wan wan",
    ]  # fmt: skip
    assert "option ipaddr '192.168.2.1'" in router.read("etc/config/network")
    assert _facts(router, "lan").items() >= {"address": "192.168.2.1", "moved_from": "192.168.1.1"}.items()
    assert "the LAN has moved from 192.168.1.1 to 192.168.2.1" in router.read("dev/tty1")
    assert not any("br-lan" in command for command in _report(router, "renew", lease)), "it moves once"


def test_a_lan_that_was_set_anew_gets_out_of_the_way_too(router: Router) -> None:
    """A change that is taken back, say, when WAN has changed meanwhile."""
    _wan_waits(router)
    _configure(router, "device auto")
    _report(router, "bound", {**_LEASE, "ip": "192.168.1.33"})
    router.record.unlink()
    for address in ("192.168.1.1", "10.1.1.1"):
        assert router.snippet(f"config_set network lan ipaddr {address}").returncode == 0
        router.service("network", "restart", "lan")
    assert [command for command in router.commands if command.startswith(("ip addr", "tell"))] == [
        "ip addr add 192.168.1.1/24 broadcast + dev br-lan", "ip addr add 192.168.2.1/24 broadcast + dev br-lan",
        "tell ifupdate lan br-lan", "ip addr add 10.1.1.1/24 broadcast + dev br-lan", "tell ifupdate lan br-lan",
    ]  # fmt: skip
    assert _facts(router, "lan").items() >= {"address": "10.1.1.1", "moved_from": ""}.items()


# --- static, PPPoE, what is wrong ----------------------------------------------------------------------------------


def test_a_static_address(router: Router) -> None:
    _plug(router, "eth0", "eth1")
    _configure(
        router, "device eth1", "proto static", "ipaddr 203.0.113.9", "gateway 203.0.113.1", "dns '192.0.2.1 192.0.2.2'"
    )
    router.service("network", "boot")
    assert "ip addr add 203.0.113.9/24 broadcast + dev wan" in router.commands
    assert "ip route replace default via 203.0.113.1 dev wan" in router.commands
    assert router.read("tmp/resolv.conf.auto") == "nameserver 192.0.2.1\nnameserver 192.0.2.2\n"
    assert _facts(router, "wan").items() >= {"state": "up", "chosen": "config", "lease_seconds": ""}.items()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["proto static"], "ipaddr '', netmask '255.255.255.0', gateway '' in /etc/config/network are no addresses"),
        (
            ["proto static", "ipaddr 1.2.3.4", "gateway here"],
            "ipaddr '1.2.3.4', netmask '255.255.255.0', gateway 'here'",
        ),
        (["proto pppoe", "username me"], "option username and option password of wan are missing"),
        (["proto dhpc"], "proto 'dhpc' in /etc/config/network is not dhcp, static, pppoe or none"),
    ],
)
def test_settings_that_cannot_be(router: Router, options: list[str], reason: str) -> None:
    _plug(router, "eth0", "eth1")
    _configure(router, "device eth1", *options)
    router.service("network", "boot")
    assert _facts(router, "wan")["state"] == "down"
    assert _facts(router, "wan")["reason"].startswith(reason)


def test_pppoe_dials_with_a_password_that_nobody_else_reads(router: Router) -> None:
    _plug(router, "eth0", "eth1")
    _configure(router, "device eth1", "proto pppoe", "username 'me@isp'", "password 'a \"b\\c'")
    router.service("network", "boot")
    _commands_with(router, "mknod -m 600 /dev/ppp c 108 0", "pppd file /tmp/run/pppoe-options")
    options = router.root / "tmp/run/pppoe-options"
    assert options.stat().st_mode & 0o777 == 0o600
    lines = options.read_text().replace(f"{router.root}/", "/").splitlines()
    assert lines[:7] == [
        "plugin rp-pppoe.so", "nic-wan", "ifname pppoe-wan", 'user "me@isp"', 'password "a \\"b\\\\c"',
        "ip-up-script /lib/router/ppp-up", "ip-down-script /lib/router/ppp-down",
    ]  # fmt: skip
    assert _facts(router, "wan")["reason"] == "dialling"


def test_pppoe_reports_its_address(router: Router) -> None:
    _wan_waits(router)
    router.write("tmp/run/router-client.pid", "77\n")
    up = ("lib/router/ppp-up", "pppoe-wan", "", "0", "203.0.113.7", "203.0.113.1")
    router.script(*up, env={"PPPD_PID": "78"})
    assert router.commands == []
    router.script(*up, env={"PPPD_PID": "77", "DNS1": "192.0.2.1", "DNS2": "192.0.2.2"})
    assert _facts(router, "wan").items() >= {
        "state": "up", "device": "pppoe-wan", "address": "203.0.113.7", "prefix": "32", "gateway": "203.0.113.1",
        "dns": "192.0.2.1 192.0.2.2",
    }.items()  # fmt: skip
    assert "tell ifup wan pppoe-wan" in router.commands
    router.script("lib/router/ppp-down", *up[1:], env={"PPPD_PID": "77"})
    assert router.commands[-1] == "tell ifdown wan pppoe-wan"
    assert _facts(router, "wan").items() >= {"state": "waiting", "device": "wan", "address": ""}.items()


# --- while it runs -------------------------------------------------------------------------------------------------


def test_a_card_plugged_in_later_is_a_port_of_the_lan(router: Router) -> None:
    _plug(router, "eth0")
    router.service("network", "boot")
    _plug(router, "eth1")
    for _ in range(2):
        router.script("lib/router/card", "add", "eth1")
    assert router.commands.count("ip link set eth1 master br-lan") == 1
    assert router.commands.count("ip link set br-lan address 00:16:3e:00:00:01") == 1
    assert _facts(router, "lan")["ports"] == "eth0 eth1"
    assert "eth1 is a part of the LAN now; to make it the WAN: router set wan card eth1" in router.read("dev/tty1")
    router.script("lib/router/card", "remove", "eth0")
    assert _facts(router, "lan")["ports"] == "eth1"


def test_the_kept_card_plugged_in_later_is_the_wan(router: Router) -> None:
    _plug(router, "eth0")
    router.write("etc/livebuilder/wan", "00:16:3e:00:00:02\n")
    router.service("network", "boot")
    _plug(router, "eth1")
    router.script("lib/router/card", "add", "eth1")
    assert "ip link set eth1 name wan" in _commands_with(router, _UDHCPC)
    assert _facts(router, "wan")["chosen"] == "kept"


def test_the_kept_card_displaces_a_guess(router: Router) -> None:
    _plug(router, "eth0", "eth1")
    router.write("etc/livebuilder/wan", "00:16:3e:00:00:03\n")
    router.failing = "udhcpc*-n*"
    router.service("network", "boot")
    router.script("lib/router/probe")
    assert _facts(router, "wan").items() >= {"chosen": "guess", "mac": "00:16:3e:00:00:02"}.items()
    router.write("sys/class/net/wan/address", "00:16:3e:00:00:02\n")
    _plug(router, "eth2")
    router.script("lib/router/card", "add", "eth2")
    assert router.commands.index("ip link set wan name eth%d") < router.commands.index("ip link set eth2 name wan")
    assert _facts(router, "wan").items() >= {"chosen": "kept", "mac": "00:16:3e:00:00:03"}.items()


@pytest.mark.parametrize("when", ["before", "while cards are tried", "no card"])
def test_a_card_that_the_boot_takes_is_left_to_it(router: Router, when: str) -> None:
    _plug(router, "eth0", "eth1")
    if when != "before":
        router.service("network", "boot")
        _commands_with(router, "/lib/router/probe")
        router.record.unlink()
    router.script("lib/router/card", "add", "tun0" if when == "no card" else "eth1")
    assert router.commands == []


def _watch(router: Router, links: list[str | None], *, prefixes: dict[int, str] | None = None) -> None:
    """Let the watcher look at these states of the cable, one each five seconds (None: the card is gone)."""
    card = router.root / "sys/class/net/wan"
    recorder = router.root.parent / "recorder"
    steps = [f"rm -rf {card}" if link is None else f"mkdir -p {card}; echo {link} >{card}/carrier" for link in links]
    cases = "".join(f"{number}) {step} ;;\n" for number, step in enumerate(steps, 1))
    recorder.write_text(
        '#!/bin/sh\necho "$*" >>"$RECORD"\n[ "$1 $2" = "sleep 5" ] || exit 0\n'
        f'case $(grep -c "^sleep 5$" "$RECORD") in\n{cases}*) exit 1 ;;\nesac\n'
    )
    recorder.chmod(0o755)
    assert router.script("lib/router/watch").stderr == ""


def test_the_watcher_acts_when_the_cable_changes_and_only_then(router: Router) -> None:
    _wan_waits(router)
    _report(router, "bound", _LEASE)
    router.write("tmp/run/router-client.pid", "4242\n")
    router.record.unlink()
    _watch(router, ["1", "1", "0", "0"])
    assert router.commands == [
        *["sleep 5"] * 3, "kill 4242", "ip -4 addr flush dev wan", "tell ifdown wan wan", *["sleep 5"] * 2,
    ]  # fmt: skip
    assert _facts(router, "wan").items() >= {
        "state": "down", "reason": "nothing answers at the other end of the cable", "mac": "00:16:3e:00:00:02",
    }.items()  # fmt: skip
    router.record.unlink()
    _watch(router, ["0", "1", "1"])
    assert "ip link set wan up" in _commands_with(router, _UDHCPC)
    assert _facts(router, "wan")["state"] == "waiting"
    router.record.unlink()
    _watch(router, [None])
    assert _facts(router, "wan")["reason"] == "the card was pulled out"


# --- IPv6 ----------------------------------------------------------------------------------------------------------

_IF_INET6 = (
    "20010db8001234000000000000000001 01 38 00 80       lo\n00000000000000000000000000000001 01 80 10 80       lo\n"
)


def _ipv6(router: Router, *, program: bool = True) -> None:
    for name in ("lo", "wan", "all", "eth0"):
        for key, value in {"disable_ipv6": "0", "autoconf": "1", "accept_ra": "1", "forwarding": "0"}.items():
            router.write(f"proc/sys/net/ipv6/conf/{name}/{key}", f"{value}\n")
    if program:
        router.snippet("")  # makes the recorder
        router.environment["PATH"] = f"{router.root}/usr/sbin:/usr/bin:/bin"
        router.write("usr/sbin/dhcp6c", "").chmod(0o755)


def _kernel(router: Router, device: str, key: str) -> str:
    return router.read(f"proc/sys/net/ipv6/conf/{device}/{key}").strip()


@pytest.mark.parametrize(
    ("options", "kernel", "program", "reason"),
    [
        (["ipv6 off"], True, True, "it is switched off"),
        ([], False, True, "this kernel has none"),
        ([], True, False, "there is no dhcp6c"),
    ],
)
def test_ipv6_is_off_and_says_why(router: Router, options: list[str], kernel: bool, program: bool, reason: str) -> None:
    _wan_waits(router)
    _configure(router, *options)
    if kernel:
        _ipv6(router, program=program)
    router.environment.setdefault("PATH", f"{router.root}/nothing:/usr/bin:/bin")
    _report(router, "bound", _LEASE)
    assert _facts(router, "ipv6")["state"] == "off"
    assert _facts(router, "ipv6")["reason"].startswith(reason)
    if kernel:
        assert _kernel(router, "wan", "disable_ipv6") == "1"
    assert not (router.root / "tmp/run/dhcp6c.conf").exists()


def test_ipv6_is_on_with_a_prefix_and_off_without(router: Router) -> None:
    _wan_waits(router)
    _ipv6(router)
    _report(router, "bound", _LEASE)
    dhcp6c = "dhcp6c -f -c /tmp/run/dhcp6c.conf -p /tmp/run/dhcp6c.pid wan"
    _commands_with(router, dhcp6c)
    assert _facts(router, "ipv6") == {"state": "off", "prefix": "", "reason": "the provider delegates no prefix"}
    assert [_kernel(router, "wan", key) for key in ("disable_ipv6", "autoconf", "accept_ra")] == ["0", "0", "2"]
    assert _kernel(router, "all", "forwarding") == "0"

    router.record.unlink()
    router.write("proc/net/if_inet6", _IF_INET6)
    router.script("lib/router/dhcp6c")
    router.script("lib/router/dhcp6c")
    assert router.commands == [
        "ip addr add 2001:0db8:0012:3400::1/64 dev br-lan", "ip -6 route del 2001:0db8:0012:3400::/64 dev lo",
        "tell ifup wan6 wan",
    ]  # fmt: skip
    assert _facts(router, "ipv6") == {"state": "on", "prefix": "2001:0db8:0012:3400::/64", "reason": ""}
    assert _kernel(router, "all", "forwarding") == "1"

    router.record.unlink()
    router.write("proc/net/if_inet6", _IF_INET6.splitlines()[1] + "\n")
    _watch(router, ["1"])
    assert router.commands == [
        "sleep 5", "ip addr del 2001:0db8:0012:3400::1/64 dev br-lan", "tell ifdown wan6 wan", "sleep 5",
    ]  # fmt: skip
    assert _facts(router, "ipv6")["reason"] == "the provider has taken its prefix back"
    assert _kernel(router, "all", "forwarding") == "0"


# --- the firewall --------------------------------------------------------------------------------------------------


def _firewall(router: Router) -> None:
    (router.root / "tmp/run/router/firewall").unlink()
    router.write("proc/sys/net/ipv4/ip_forward", "0\n")
    router.write("proc/sys/net/netfilter/nf_conntrack_max", "1024\n")
    router.write("proc/meminfo", "MemTotal:         125000 kB\nMemFree: 1 kB\n")


def test_rules_come_before_forwarding_and_forwarding_before_the_rest(router: Router) -> None:
    _firewall(router)
    assert router.service("firewall", "boot").stderr == ""
    assert router.commands == ["nft -f /etc/firewall.nft", "sysctl -e -q -p /etc/sysctl.d/10-router.conf"]
    assert router.read("proc/sys/net/ipv4/ip_forward") == "1\n"
    assert router.read("proc/sys/net/netfilter/nf_conntrack_max") == "7812\n"
    assert _facts(router, "firewall") == {"state": "on", "reason": ""}


def test_without_rules_nothing_is_forwarded_and_it_is_said(router: Router) -> None:
    _firewall(router)
    router.write("proc/sys/net/ipv4/ip_forward", "1\n")
    router.failing = "nft*"
    assert router.service("firewall", "boot").returncode == 1
    assert router.read("proc/sys/net/ipv4/ip_forward") == "0\n"
    assert _facts(router, "firewall")["state"] == "off"
    assert "WAN STAYS CLOSED" in router.read("dev/tty1")


def test_rules_with_a_mistake_leave_those_of_before_in_force(router: Router) -> None:
    _firewall(router)
    router.service("firewall", "boot")
    recorder = router.root.parent / "recorder"
    recorder.write_text("#!/bin/sh\necho 'ssh.nft:1:7-9: Error: syntax error' >&2\necho more >&2\nexit 1\n")
    done = router.service("firewall", "restart")
    assert done.stderr == "firewall: the rules of before stay in force: ssh.nft:1:7-9: Error: syntax error\n"
    assert router.read("proc/sys/net/ipv4/ip_forward") == "1\n"
    assert _facts(router, "firewall")["state"] == "on"


def test_the_firewall_cannot_be_stopped_by_mistake(router: Router) -> None:
    assert "it stays" in router.service("firewall", "stop").stderr
    assert router.commands == []


def test_an_image_without_nftables_and_ppp_says_so(router: Router) -> None:
    for program in ("nft", "pppd"):
        (router.root / "usr/sbin" / program).unlink()
    _firewall(router)
    assert router.service("firewall", "boot").returncode == 1
    assert _facts(router, "firewall")["reason"] == "there is no nft: this image was built without nftables"
    router.write("tmp/run/router/firewall", "state=on\n")
    _plug(router, "eth0", "eth1")
    _configure(router, "device eth1", "proto pppoe", "username me", "password secret")
    router.service("network", "boot")
    assert _facts(router, "wan")["reason"] == "there is no pppd: this image was built without ppp"
