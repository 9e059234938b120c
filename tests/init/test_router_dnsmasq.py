"""initramfs/router: what dnsmasq is told, by the real dnsmasq's judgement too."""

from __future__ import annotations

import pytest

from livebuilder.process import run
from tests.support.router import Router

_LAN = "config dhcp 'lan'\n\toption start '100'\n\toption limit '150'\n\toption leasetime '12h'\n"
_HOST = "config host\n\toption name 'printer'\n\toption mac '00:11:22:33:44:55'\n\toption ip '192.168.1.20'\n"
_START = "dnsmasq -C /tmp/run/dnsmasq.conf --conf-dir=/etc/dnsmasq.d"


@pytest.fixture
def router(router: Router) -> Router:
    router.write("usr/sbin/dnsmasq", "").chmod(0o755)
    router.write("etc/config/dhcp", _LAN)
    lan(router, "192.168.1.1/24")
    return router


def lan(router: Router, address: str) -> None:
    ip, _, prefix = address.partition("/")
    router.write("tmp/run/router/lan", f"state=up\naddress={ip}\nprefix={prefix}\n")


def configured(router: Router) -> list[str]:
    """The lines dnsmasq gets after a start, which it took for good."""
    assert router.service("dnsmasq", "start").stderr == ""
    return lines_of(router)


def lines_of(router: Router) -> list[str]:
    file = router.root / "tmp/run/dnsmasq.conf"
    run(["dnsmasq", "--test", "-C", file, f"--conf-dir={router.root}/etc/dnsmasq.d"])
    return [line for line in file.read_text().splitlines() if line and line[0] != "#"]


def test_the_default(router: Router) -> None:
    lines = configured(router)
    assert router.commands == [_START]
    assert {"interface=br-lan", "bind-dynamic", "stop-dns-rebind", "resolv-file=/tmp/resolv.conf.auto"} <= {*lines}
    assert {"domain=lan", "local=/lan/", "host-record=router.lan,router,192.168.1.1"} <= {*lines}
    assert {"dhcp-range=192.168.1.100,192.168.1.249,12h", "dhcp-authoritative"} <= {*lines}
    assert "dhcp-leasefile=/etc/livebuilder/dhcp.leases" in lines
    assert "enable-ra" not in lines
    assert router.read("tmp/resolv.conf") == "nameserver 127.0.0.1\n", "the router asks its own cache"


def test_real_dnsmasq_refuses_what_is_wrong(router: Router) -> None:
    """Without this the others would prove little."""
    file = router.write("tmp/run/dnsmasq.conf", "dhcp-range=192.168.1.100,12x,y\n")
    assert run(["dnsmasq", "--test", "-C", file], check=False).returncode != 0


@pytest.mark.parametrize(
    ("address", "start", "limit", "given"),
    [
        ("192.168.2.1/24", "100", "150", "192.168.2.100,192.168.2.249"),
        ("10.1.1.1/24", "2", "1", "10.1.1.2,10.1.1.2"),
        ("10.200.3.4/8", "100", "70000", "10.0.0.100,10.1.17.211"),
        ("192.168.1.1/24", "200", "150", "192.168.1.200,192.168.1.254"),
        ("203.0.113.130/25", "100", "150", "203.0.113.228,203.0.113.254"),
        ("223.255.255.1/30", "1", "2", "223.255.255.1,223.255.255.2"),
    ],
)
def test_the_range_counts_from_the_network(router: Router, address: str, start: str, limit: str, given: str) -> None:
    lan(router, address)
    router.write("etc/config/dhcp", _LAN.replace("'100'", f"'{start}'").replace("'150'", f"'{limit}'"))
    assert f"dhcp-range={given},12h" in configured(router)


@pytest.mark.parametrize(
    ("wrong", "given"),
    [
        ("option start '255'", "192.168.1.1,192.168.1.254,12h"),
        ("option start '0'", "192.168.1.1,192.168.1.254,12h"),
        ("option limit 'ten'", "192.168.1.1,192.168.1.254,12h"),
        ("option leasetime 'a day'", "192.168.1.100,192.168.1.249,12h"),
        ("option leasetime '12hh'", "192.168.1.100,192.168.1.249,12h"),
    ],
)
def test_a_value_that_is_wrong_is_said_and_does_not_stop_it(router: Router, wrong: str, given: str) -> None:
    router.write("etc/config/dhcp", f"{_LAN}\t{wrong}\n")
    done = router.service("dnsmasq", "start")
    assert done.stderr.startswith("dnsmasq: ") and wrong.split("'")[1] in done.stderr
    assert f"dhcp-range={given}" in lines_of(router)


@pytest.mark.parametrize("time", ["infinite", "3600", "45m", "7d"])
def test_lease_times(router: Router, time: str) -> None:
    router.write("etc/config/dhcp", _LAN.replace("12h", time))
    assert f"dhcp-range=192.168.1.100,192.168.1.249,{time}" in configured(router)


def test_a_network_without_room_gets_names_only(router: Router) -> None:
    lan(router, "192.168.1.1/32")
    assert "is nothing in 192.168.1.1/32" in router.service("dnsmasq", "start").stderr
    assert not any(line.startswith("dhcp-") for line in lines_of(router))


def test_another_dhcp_server_can_be_left_alone(router: Router) -> None:
    router.write("etc/config/dhcp", f"{_LAN}\toption ignore '1'\n")
    lines = configured(router)
    assert not any(line.startswith("dhcp-") for line in lines)
    assert "host-record=router.lan,router,192.168.1.1" in lines


def test_names(router: Router) -> None:
    router.write("etc/config/dhcp", f"config dnsmasq\n\toption domain 'home.arpa'\n{_LAN}")
    router.write("etc/config/system", "config system\n\toption hostname 'attic-pc'\n")
    assert {
        "domain=home.arpa", "local=/home.arpa/", "host-record=router.home.arpa,router,192.168.1.1",
        "host-record=attic-pc.home.arpa,attic-pc,192.168.1.1",
    } <= {*configured(router)}  # fmt: skip


@pytest.mark.parametrize("hostname", ["router", "", "a b", "a,b"])
def test_a_host_name_that_is_none_is_left_out(router: Router, hostname: str) -> None:
    router.write("etc/config/system", f"config system\n\toption hostname '{hostname}'\n")
    assert sum(line.startswith("host-record=") for line in configured(router)) == 1


def test_a_domain_that_is_none(router: Router) -> None:
    router.write("etc/config/dhcp", f"config dnsmasq\n\toption domain 'my lan'\n{_LAN}")
    assert "domain 'my lan' is no name" in router.service("dnsmasq", "start").stderr
    assert "domain=lan" in lines_of(router)


def test_devices_with_an_address_of_their_own(router: Router) -> None:
    more = "config host\n\tlist mac '00:11:22:33:44:66'\n\tlist mac '00:11:22:33:44:77'\n\toption ip '192.168.1.21'\n"
    router.write("etc/config/dhcp", f"{_LAN}{_HOST}{more}")
    assert "dhcp-hostsfile=/tmp/run/dnsmasq.hosts" in configured(router)
    assert router.read("tmp/run/dnsmasq.hosts").splitlines() == [
        "00:11:22:33:44:55,192.168.1.20,printer",
        "00:11:22:33:44:66,00:11:22:33:44:77,192.168.1.21",
    ]
    given = [f"--dhcp-host={line}" for line in router.read("tmp/run/dnsmasq.hosts").splitlines()]
    run(["dnsmasq", "--test", "-C", "/dev/null", *given])


@pytest.mark.parametrize(("state", "announced"), [("on", True), ("off", False)])
def test_ipv6_is_announced_when_there_is_some(router: Router, state: str, announced: bool) -> None:
    router.write("tmp/run/router/ipv6", f"state={state}\nprefix=2001:db8:1::/64\n")
    lines = configured(router)
    assert ("enable-ra" in lines) is announced
    assert ("dhcp-range=::,constructor:br-lan,ra-stateless,ra-names" in lines) is announced


def test_a_mistake_in_somebodys_file_leaves_the_addresses(router: Router) -> None:
    router.failing = "*--conf-dir*"
    done = router.service("dnsmasq", "start")
    assert done.stderr.startswith("dnsmasq: /etc/dnsmasq.d is left out: ")
    assert router.commands == [_START, "dnsmasq -C /tmp/run/dnsmasq.conf"]


def test_when_it_does_not_run_that_is_said(router: Router) -> None:
    router.failing = "dnsmasq*"
    assert "dnsmasq does not run: the lan gets no addresses" in router.service("dnsmasq", "start").stderr


@pytest.mark.parametrize("missing", ["tmp/run/router/lan", "usr/sbin/dnsmasq"])
def test_without_a_lan_or_without_the_program_nothing_happens(router: Router, missing: str) -> None:
    (router.root / missing).unlink()
    done = router.service("dnsmasq", "boot")
    assert (done.returncode, done.stderr, router.commands) == (0, "", [])


def test_it_is_not_started_twice(router: Router) -> None:
    (router.root / "proc/4242").mkdir(parents=True)
    router.write("tmp/run/dnsmasq.pid", "4242\n")
    router.service("dnsmasq", "start")
    assert router.commands == []


@pytest.mark.parametrize(
    ("event", "action"),
    [
        ("ifup lan br-lan", "restart"),
        ("ifupdate lan br-lan", "restart"),
        ("ifdown lan br-lan", "stop"),
        ("ifup wan6 wan", "restart"),
        ("ifup wan wan", None),
    ],
)
def test_it_follows_the_lan(router: Router, event: str, action: str | None) -> None:
    router.snippet(f'. "$ROOT/lib/router/events.sh"; iface_event {event}')
    calls = [command for command in router.commands if command.startswith("/etc/init.d/dnsmasq")]
    assert calls == ([f"/etc/init.d/dnsmasq {action}"] if action else [])
