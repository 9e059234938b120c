"""The router at work between its provider and a client: three guests, two cables, two days."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from livebuilder.inspection import read_system
from livebuilder.process import run
from livebuilder.sizes import MIB
from livebuilder.vm.accelerator import TCG
from livebuilder.vm.machine import Cable, Stick, machine_named
from livebuilder.vm.peers import NETWORK, PROVIDER_NAME, WAN_MAC, Neighbourhood, Peer, neighbourhood
from livebuilder.vm.routing import ROUTER_NAME, Lease, fetch, leases_given, resolve, wait_for_lease
from livebuilder.vm.shell import Answer
from tests.support.boots import SECONDS, booting, observe, power_off
from tests.support.builds import BuiltImage, run_command
from tests.support.documents import assert_documented
from tests.support.scanner import ALL_PORTS, UDP_PORTS, Found, plugged_in
from tests.support.ssh import wait_for_ssh
from tests.support.sticks import stick_image

pytestmark = [pytest.mark.vm, pytest.mark.network]

HOST_KEY = "/etc/dropbear/dropbear_ed25519_host_key"
PC = "pc-2000"
MEMORY_BYTES = 128 * MIB
FILE_BYTES = 20_000_000
# A DNS server on every card of the router, and the rule that lets the whole Internet at it.
LISTENER_PORT = 4444
LISTENER = (
    f"dnsmasq --conf-file=/dev/null --port={LISTENER_PORT} --no-resolv --no-hosts --address=/{PROVIDER_NAME}/192.0.2.1"
    " --pid-file=/tmp/listener.pid"
)
RULE = f"chain user_input {{ meta l4proto {{ tcp, udp }} th dport {LISTENER_PORT} accept; }}"
SAME_ADDRESS = r"config host\n\toption mac 52:54:00:00:02:02\n\toption ip 10.1.1.20\n"  # for the client
# A day of leases that last twenty minutes and are renewed after ten.
RENEWALS = 144
BATCHES = 12
# Each ends when the answer has come: a second signal before would be taken for impatience and start all over.
_RENEW_ROUTER = (
    "read -r pid </tmp/run/router-client.pid; i=0; while [ $i -lt {count} ]; do ln -f /tmp/run/router/wan /tmp/before;"
    " kill -USR1 $pid; while [ /tmp/run/router/wan -ef /tmp/before ]; do usleep 20000; done; i=$((i+1)); done"
)
_RENEW_CLIENT = (
    "read -r pid </tmp/udhcpc.pid; i=0; while [ $i -lt {count} ]; do n=$(wc -l </tmp/leased); kill -USR1 $pid;"
    " while [ $(wc -l </tmp/leased) = $n ]; do usleep 20000; done; i=$((i+1)); done"
)
# Of /proc/meminfo. What is available says less: it moves by a megabyte with the caches.
_HELD = ("AnonPages", "Shmem", "SUnreclaim", "KernelStack", "PageTables")
WOBBLE_KIB = RENEWALS // 2 * 4  # less than a page for each renewal of half a day


@dataclass(frozen=True)
class Owner:
    """Who has the router: an OpenSSH key."""

    key: Path

    @property
    def public_key(self) -> str:
        return self.key.with_suffix(".pub").read_text().strip()

    def come_to(self, peer: Peer) -> None:
        """Take the key along."""
        text = base64.b64encode(self.key.read_bytes()).decode()
        peer.run(
            f"echo {text} | base64 -d >/tmp/key.openssh; dropbearconvert openssh dropbear /tmp/key.openssh /tmp/key"
        )


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Owner:
    key = tmp_path_factory.mktemp("owner") / "key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "owner", "-f", key])
    return Owner(key)


@pytest.fixture(scope="module")
def owned_image(owner: Owner, tmp_path_factory: pytest.TempPathFactory) -> BuiltImage:
    """The default image, with its owner's key."""
    folder = tmp_path_factory.mktemp("owned")
    outcome = run_command(
        "build", "--output", folder, "--set", f'router.ssh_keys=["{owner.public_key}"]', timeout_seconds=900
    )
    assert outcome.status == 0, outcome.stderr
    return BuiltImage(folder)


def test_two_days_of_a_network(owned_image: BuiltImage, owner: Owner, tmp_path: Path) -> None:
    stick = stick_image(tmp_path / "stick.img")
    start = partial(booting, owned_image, machine=PC, memory_bytes=MEMORY_BYTES, sticks=[Stick(stick)])
    system = read_system(owned_image.iso)
    with neighbourhood(*system, machine=machine_named(PC), logs=tmp_path, accelerator=TCG) as beside:
        with start(log=tmp_path / "first.log", cards=(beside.lan, beside.wan)) as session:
            provider, client = beside.provide(), beside.connect()
            boot, shell = observe(session)
            router = Peer(session, shell)
            assert (boot.record.root.mode, boot.record.storage.state) == ("ext2", "persistent")
            lease = assert_surfing(client, provider, lan="192.168.1", name=PROVIDER_NAME)
            assert resolve(client, "client.lan") == lease.address
            assert_first_status(status(router), lease, leases_given(provider)[-1])
            assert_page(client)
            assert_ssh_from_lan_only(router, client, provider, owner)
            cut_off(router, client)
            assert_closed(router, provider, beside)  # which takes about as long as the router waits for a word
            known = wait_for_status(router, lambda known: known["lan"]["address"] == "192.168.1.1")
            assert not known["settings"]["pending"] and "was not confirmed" in known["settings"]["notice"]
            router.run(f"printf '{SAME_ADDRESS}' >>/etc/config/dhcp")
            cut_off(router, client)
            lease = assert_confirmed_from_the_new_address(router, client)
            power_off(session)

        # The cards are in each other's slots, as after a change in the BIOS.
        with start(log=tmp_path / "second.log", cards=(beside.wan, beside.lan)) as session:
            boot, shell = observe(session)
            router = Peer(session, shell)
            assert boot.record.storage.state == "persistent"
            known = wait_for_wan(router, NETWORK)
            assert (known["wan"]["mac"], known["wan"]["chosen"]) == (WAN_MAC, "kept")
            assert known["lan"]["ports"] == ["eth1"]
            assert [one["address"] for one in known["leases"]] == [lease.address], "before anybody asked"
            assert lease.router == known["lan"]["address"] == "10.1.1.1", "it was confirmed"
            assert ssh(client, lease.router).output == "router\n", "the host key is the same"
            assert_surfing(client, provider, lan="10.1.1", name=PROVIDER_NAME)
            assert_a_day_of_renewals_costs_nothing(router, client, provider)

            session.pull_cable(0)
            wait_for_status(router, lambda known: known["wan"]["state"] == "down")
            provider.run("/peer/provider 10.1.1")
            session.plug_cable(0)
            known = wait_for_wan(router, "10.1.1")
            assert (known["lan"]["address"], known["lan"]["moved_from"]) == ("192.168.1.1", "10.1.1.1")
            assert "the LAN has moved from 10.1.1.1 to 192.168.1.1" in session.text
            replug(client)
            assert_surfing(client, provider, lan="192.168.1", name="10.1.1.1")

            session.unplug("stick0")
            assert_surfing(client, provider, lan="192.168.1", name="10.1.1.1")
            known = wait_for_status(router, lambda known: known["settings"]["state"] == "lost")
            assert "is gone" in known["settings"]["reason"]
            assert "CHANGES ARE NO LONGER KEPT" in router.run("router status")
            assert "no longer kept" in client.run(f"wget -q -O - http://{ROUTER_NAME}/").lower()


def assert_surfing(client: Peer, provider: Peer, *, lan: str, name: str) -> Lease:
    """The client has an address of the network `lan`, and what the provider calls `name` is there for it."""
    lease = wait_for_lease(client, beginning=f"{lan}.")
    assert (lease.router, lease.dns, lease.domain) == (f"{lan}.1", f"{lan}.1", "lan")
    assert resolve(client, ROUTER_NAME) == lease.router
    if name == PROVIDER_NAME:
        assert resolve(client, name) == f"{NETWORK}.1"
    fetched = fetch(client, provider, url=f"http://{name}/file")
    assert (fetched.bytes, fetched.sha256) == (FILE_BYTES, fetched.expected)
    return lease


def status(router: Peer) -> dict[str, Any]:
    return json.loads(router.run("router status --json"))  # type: ignore[no-any-return]


def wait_for_status(router: Peer, holds: Any) -> dict[str, Any]:
    deadline = time.monotonic() + SECONDS
    while not holds(known := status(router)):
        assert time.monotonic() < deadline, known
        time.sleep(1)
    return known


def wait_for_wan(router: Peer, network: str) -> dict[str, Any]:
    return wait_for_status(
        router, lambda known: known["wan"]["state"] == "up" and known["wan"]["address"].startswith(f"{network}.")
    )


def assert_first_status(known: dict[str, Any], lease: Lease, address: str) -> None:
    wan, lan = known["wan"], known["lan"]
    assert (wan["state"], wan["proto"], wan["mac"], wan["chosen"]) == ("up", "dhcp", WAN_MAC, "dhcp")
    assert (wan["address"], wan["prefix"], wan["gateway"], wan["dns"]) == (
        address,
        24,
        f"{NETWORK}.1",
        [f"{NETWORK}.1"],
    )
    assert (lan["address"], lan["ports"], lan["moved_from"]) == (lease.router, ["eth0"], None)
    assert known["settings"]["state"] == "persistent"
    assert [(one["name"], one["address"]) for one in known["leases"]] == [("client", lease.address)]
    assert known["ipv6"]["state"] == "off" and "prefix" in known["ipv6"]["reason"]


def assert_page(client: Peer) -> None:
    page = client.run(f"wget -q -O - http://{ROUTER_NAME}/")
    assert page.startswith("<!doctype html>") and f"{NETWORK}." in page and "Settings are kept" in page


def ssh(peer: Peer, address: str, command: str = "hostname", *, key: str = "/tmp/key") -> Answer:
    """Run a command there, with a key; the host's own key is one that `know_host` has told."""
    return peer.shell.run(f"dbclient -i {key} root@{address} {command} 2>/tmp/ssh", timeout_seconds=60)


def know_host(peer: Peer, host_key: str, *names: str) -> None:
    """Without that the client asks a person."""
    lines = "".join(f"echo {name} {host_key};" for name in names)
    peer.run(f"mkdir -p /root/.ssh; {{ {lines} }} >/root/.ssh/known_hosts")


def assert_ssh_from_lan_only(router: Peer, client: Peer, provider: Peer, owner: Owner) -> None:
    outside = leases_given(provider)[-1]
    wait_for_ssh(router.shell)
    host_key = " ".join(router.run(f"dropbearkey -y -f {HOST_KEY} | grep ^ssh-").split()[:2])
    for peer in (client, provider):
        owner.come_to(peer)
        know_host(peer, host_key, "192.168.1.1", "10.1.1.1", ROUTER_NAME, outside)
    assert (ssh(client, "192.168.1.1").output, ssh(client, ROUTER_NAME).output) == ("router\n", "router\n")
    client.run("dropbearkey -t ed25519 -f /tmp/stranger >/dev/null")
    assert ssh(client, "192.168.1.1", key="/tmp/stranger").status != 0, "not any key will do"
    assert ssh(provider, outside).status != 0 and "refused" in provider.run("cat /tmp/ssh")


def cut_off(router: Peer, client: Peer) -> None:
    """Over ssh the LAN gets another address, and whoever has asked for that is no longer in its network."""
    wait_for_ssh(router.shell)
    said = ssh(client, "192.168.1.1", "router set lan 10.1.1.1/24")
    assert said.status == 0 and "Without this within 60 seconds all is as before: router confirm" in said.output
    known = wait_for_status(router, lambda known: known["lan"]["address"] == "10.1.1.1")
    assert known["settings"]["pending"]


def assert_confirmed_from_the_new_address(router: Peer, client: Peer) -> Lease:
    wait_for_ssh(router.shell, "10.1.1.1")
    replug(client)
    lease = wait_for_lease(client, beginning="10.1.1.")
    assert ssh(client, "10.1.1.1", "router confirm").output == "The change stays.\n"
    assert not status(router)["settings"]["pending"]
    assert lease.address == "10.1.1.20", "always the same, as /etc/config/dhcp has it"
    return lease


def assert_closed(router: Peer, provider: Peer, beside: Neighbourhood) -> None:
    """No port is open to the provider, though a program listens; with a rule of the owner's that one is."""
    router.run(LISTENER)
    mac, cable, address = beside.wan.mac, beside.wan.cable.other_end, leases_given(provider)[-1]
    before = received(router)
    assert scan(cable, mac, address) == Found()
    assert received(router) - before >= len(ALL_PORTS) + len(UDP_PORTS), "every packet has come to the router"
    router.run(f"mkdir -p /etc/nftables.d; echo '{RULE}' >/etc/nftables.d/proof.nft; /etc/init.d/firewall restart")
    nearby = range(LISTENER_PORT - 100, LISTENER_PORT + 100)
    assert scan(cable, mac, address, tcp=nearby, udp=nearby) == Found(tcp={LISTENER_PORT}, udp={LISTENER_PORT})
    router.run("rm /etc/nftables.d/proof.nft; /etc/init.d/firewall restart; kill $(cat /tmp/listener.pid)")


def scan(cable: Cable, mac: str, address: str, **how: Any) -> Found:
    with plugged_in(cable, mac="52:54:00:00:01:09", address=f"{NETWORK}.9") as scanner:
        return scanner.scan(mac, address, **how)


def received(router: Peer) -> int:
    return int(router.run("cat /sys/class/net/wan/statistics/rx_packets"))


def replug(client: Peer) -> None:
    """What a PC does when its cable was out: it asks anew."""
    client.run("read -r pid </tmp/udhcpc.pid; kill -USR2 $pid; sleep 1; kill -USR1 $pid")


@dataclass(frozen=True)
class Use:
    """Memory of the router that cannot be had back, in the kernel, its programs and files; how many programs run."""

    held_kib: int
    programs: int


def use_of(router: Peer) -> Use:
    memory = dict(line.split()[:2] for line in router.run("cat /proc/meminfo").splitlines())
    held = sum(int(memory[f"{part}:"]) for part in _HELD)
    return Use(held, len(router.run("grep -hs RssAnon /proc/[0-9]*/status; :").splitlines()))


def least(uses: Sequence[Use]) -> Use:
    """What runs for a moment only adds."""
    return Use(min(use.held_kib for use in uses), min(use.programs for use in uses))


def assert_a_day_of_renewals_costs_nothing(router: Peer, client: Peer, provider: Peer) -> None:
    """On both sides as many as a day has. What the router uses is looked at after every batch of them: in the second
    half of the day it is what it was in the first, within what is seen to come and go without any renewal.
    """
    peers = {router: _RENEW_ROUTER, client: _RENEW_CLIENT}
    uses = []
    with late_answers(provider, client):
        for _ in range(BATCHES):
            for peer, loop in peers.items():
                text = loop.format(count=RENEWALS // BATCHES)
                peer.run(f"rm -f /tmp/renewed; {{ ( {text}; touch /tmp/renewed ) >/dev/null 2>&1 & }}")
            for peer in peers:
                peer.run("until [ -e /tmp/renewed ]; do sleep 0.2; done", timeout_seconds=SECONDS)
            uses.append(use_of(router))
    before, after = least(uses[: BATCHES // 2]), least(uses[BATCHES // 2 :])
    assert after.held_kib - before.held_kib < WOBBLE_KIB, uses
    assert after.programs <= before.programs, uses


@contextmanager
def late_answers(*peers: Peer) -> Iterator[None]:
    """Hold back what these send and get for 20 ms at most, as a real line does: udhcpc misses an answer that comes
    before it has closed the socket it asked with, and asks again after three seconds.
    """
    for peer in peers:
        peer.session.command(
            "object-add", qom_type="filter-buffer", id="late", netdev="network0", queue="all", interval=20_000
        )
    yield
    for peer in peers:
        peer.session.command("object-del", id="late")


def test_a_squashfs_on_80_mb_has_8_to_spare(tmp_path: Path) -> None:
    """The command as its user runs it: with 72 MB all that is asked for with 80 is there."""
    image = BuiltImage(tmp_path / "image")
    outcome = run_command("build", "--output", image.folder, "--set", "root.mode=squashfs", timeout_seconds=900)
    assert outcome.status == 0, outcome.stderr
    stick = stick_image(tmp_path / "stick.img")
    words = ("--usb", stick, "--memory", "72M", "--logs", tmp_path / "logs", "--json")
    outcome = run_command("vm", "route", image.iso, *words, timeout_seconds=600)
    assert outcome.status == 0, outcome.stdout + outcome.stderr
    proof = outcome.json
    assert_documented("vm route", proof)
    assert (proof["success"], proof["machine"], proof["memory_bytes"]) == (True, "pc-2000", 72 * MIB)
    assert proof["summary"].startswith("root=squashfs storage=persistent")
    assert proof["fetched"]["bytes"] == FILE_BYTES
    assert set(proof["ports"]["lan"]) >= {22, 53, 80} and proof["ports"]["wan"] == []
    assert "Out of memory" not in Path(proof["log"]).read_text(errors="replace")
