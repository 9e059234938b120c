"""The proof of a router: a client on its LAN gets a lease and a name, and fetches 20 MB through it from its provider.

Three guests: the disc between the two neighbours of `livebuilder.vm.peers`. The router is only watched from outside, as
its users do. As JSON (`routing_to_json`, printed by `vm route --json`)::

    {"version": 1, "success": true, "reasons": [],              why not, in words, one per line
     "image": "out/router.iso", "stick": "out/stick.img",       or null
     "machine": "pc-2000", "memory_bytes": 134217728, "accelerator": "tcg",
     "summary": "root=ext2 storage=persistent …",               of /init; this and what follows is null where it was
     "lease": {"address": "192.168.1.123", "router": "192.168.1.1", "dns": "192.168.1.1", "domain": "lan"},
     "seconds_to_lease": 31.9,                                  not reached. Seconds count from the router's power-on
     "names": [{"name": "router.lan", "address": "192.168.1.1"}, {"name": "provider.test", "address": "198.18.0.1"}],
     "fetched": {"bytes": 20000000, "seconds": 4.1, "sha256": "…", "expected": "…"},
     "ports": {"tried": [22, 23, 53, 80, 443], "lan": [22, 53, 80],      of TCP, that took a connection from the client,
               "wan_address": "198.18.0.150", "wan": []},                and from the provider
     "log": "logs/router.log", "last_lines": [],                of the router, where it went wrong
     "seconds": 45.2,
     "story": ["…"]}                                            the same for a person, line by line
"""

from __future__ import annotations

import dataclasses
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livebuilder.console import step
from livebuilder.sizes import MIB, render_size
from livebuilder.tree import RootTree
from livebuilder.vm.machine import Guest, ImageBoot, Machine, Stick
from livebuilder.vm.menu import PROMPT, answer_at_prompt, read_config
from livebuilder.vm.peers import NETWORK, PROVIDER_NAME, Neighbourhood, Peer, neighbourhood
from livebuilder.vm.scenario import BOOT_SECONDS, STOPPED, SUMMARY
from livebuilder.vm.serial import GuestError, GuestTimeout
from livebuilder.vm.session import Session, run_guest

ROUTER_NAME = "router.lan"
PORTS = (22, 23, 53, 80, 443)
FILE_URL = f"http://{PROVIDER_NAME}/file"
LEASE_SECONDS = 120.0  # from the summary to the client's lease
FETCH_SECONDS = 300.0


@dataclass(frozen=True)
class Lease:
    """What the router told its client."""

    address: str
    router: str
    dns: str
    domain: str


@dataclass(frozen=True)
class Name:
    """A name, and the address that the client was told; None when it was told none."""

    name: str
    address: str | None


@dataclass(frozen=True)
class Fetched:
    """What came through the router, and the SHA-256 of what should have come."""

    bytes: int
    seconds: float
    sha256: str
    expected: str


@dataclass(frozen=True)
class Ports:
    """The TCP ports of the router that took a connection, of those that were tried from either side."""

    tried: tuple[int, ...]
    lan: tuple[int, ...]
    wan_address: str
    wan: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class RoutingFacts:
    """What was seen; a fact is None where it was not reached."""

    summary: str | None = None
    lease: Lease | None = None
    seconds_to_lease: float | None = None
    names: tuple[Name, ...] = ()
    fetched: Fetched | None = None
    ports: Ports | None = None
    problem: str | None = None
    last_lines: tuple[str, ...] = ()
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RoutingProof:
    """All the facts of a proof, and the verdict on them."""

    image: Path
    stick: Path | None
    machine: str
    memory_bytes: int
    accelerator: str
    log: Path
    facts: RoutingFacts
    reasons: tuple[str, ...]

    @property
    def success(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons

    @property
    def story(self) -> tuple[str, ...]:
        """The proof in plain words."""
        return render_routing(self)


def routing_proof(
    image: Path,
    system: tuple[bytes, RootTree],
    *,
    stick: Path | None,
    logs: Path,
    machine: Machine,
    accelerator: str,
    memory_bytes: int | None = None,
) -> RoutingProof:
    """Boot `image` between two neighbours made of its `system` (kernel and root), and have the client use it.

    The stick's file is not written to. Logs go to the folder `logs`. Raises `LivebuilderError` when the system lacks
    what the neighbours need, `image` has no boot menu, or QEMU cannot be started at all.
    """
    answer = answer_at_prompt(read_config(image))
    sticks = () if stick is None else (Stick(stick, snapshot=True),)
    log = logs / "router.log"
    with neighbourhood(*system, machine=machine, logs=logs, accelerator=accelerator) as beside:
        guest = Guest(
            machine=machine, boot=ImageBoot(image), sticks=sticks, memory_bytes=memory_bytes,
            cards=(beside.lan, beside.wan),
        )  # fmt: skip
        with run_guest(guest, log=log, accelerator=accelerator) as router:
            facts = _use(router, beside, answer)
    return RoutingProof(
        image=image, stick=stick, machine=machine.name, memory_bytes=guest.installed_bytes, accelerator=accelerator,
        log=log, facts=facts, reasons=reasons_against(facts),
    )  # fmt: skip


def _use(router: Session, beside: Neighbourhood, answer: str) -> RoutingFacts:
    """Boot the router and use it; what goes wrong in any guest becomes the problem among the facts."""
    facts: dict[str, Any] = {}
    try:
        with step("Booting the router, its provider and its client"):
            router.wait_for_screen(PROMPT, timeout_seconds=BOOT_SECONDS)
            router.type_on_keyboard(answer)
            provider, client = beside.provide(), beside.connect()
            facts["summary"] = router.wait_for(
                SUMMARY, timeout_seconds=BOOT_SECONDS, unless=STOPPED, meaning="the summary of /init"
            )[1]
        with step("The client asks for an address and for names"):
            facts["lease"] = wait_for_lease(client)
            facts["seconds_to_lease"] = round(router.seconds, 2)
            facts["names"] = tuple(Name(name, wait_for_name(client, name)) for name in (ROUTER_NAME, PROVIDER_NAME))
        with step("The client fetches through the router"):
            facts["fetched"] = fetch(client, provider)
        with step("Both try the router's ports"):
            wan_address = leases_given(provider)[-1]
            facts["ports"] = Ports(
                PORTS, open_ports(client, facts["lease"].router), wan_address, open_ports(provider, wan_address)
            )
    except GuestError as error:
        facts["problem"] = error.what
        facts["last_lines"] = router.last_lines()
    return RoutingFacts(seconds=round(router.seconds, 2), **facts)


def wait_for_lease(client: Peer, *, beginning: str = "") -> Lease:
    """The client's lease, when it has one with an address that begins so; raises `GuestTimeout` when none comes."""
    deadline = time.monotonic() + LEASE_SECONDS
    while True:
        text = client.run("cat /tmp/lease 2>/dev/null || :")
        words = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        if words and words["address"].startswith(beginning):
            return Lease(words["address"], words["router"], words["dns"], words["domain"])
        if time.monotonic() > deadline:
            what = f"the client got no lease within {LEASE_SECONDS:g} seconds"
            raise client.session.failure(what, kind=GuestTimeout)
        time.sleep(0.5)


def wait_for_name(peer: Peer, name: str) -> str | None:
    """What `resolve` gives once there is an answer: the WAN may be up later than the LAN, whose lease came first."""
    deadline = time.monotonic() + LEASE_SECONDS
    while (address := resolve(peer, name)) is None and time.monotonic() < deadline:
        time.sleep(0.5)
    return address


def resolve(peer: Peer, name: str) -> str | None:
    """The IPv4 address of a name, by the server that the peer was told."""
    answer = peer.shell.run(f"nslookup -type=a {name}", timeout_seconds=60).output
    match = re.search(rf"^Name:\s+{re.escape(name)}\nAddress:\s+(\S+)$", answer, re.MULTILINE)
    return match[1] if match else None


def fetch(client: Peer, provider: Peer, *, url: str = FILE_URL) -> Fetched:
    """The provider's file as it arrives at the client."""
    started = time.monotonic()
    client.run(f"wget -q -O /tmp/file {url}", timeout_seconds=FETCH_SECONDS)
    seconds = round(time.monotonic() - started, 2)
    size = int(client.run("wc -c </tmp/file"))
    sums = [
        peer.run(f"sha256sum <{path}").split()[0] for peer, path in ((client, "/tmp/file"), (provider, "/tmp/www/file"))
    ]
    return Fetched(size, seconds, *sums)


def leases_given(provider: Peer) -> list[str]:
    """The addresses that the provider gave, the last one last."""
    return [line.split()[2] for line in provider.run("cat /tmp/leases").splitlines()]


def open_ports(peer: Peer, address: str, ports: tuple[int, ...] = PORTS) -> tuple[int, ...]:
    """The TCP ports at `address` that take a connection from `peer`."""
    tries = f"for port in {' '.join(map(str, ports))}; do nc -w 3 {address} $port </dev/null >/dev/null 2>&1"
    return tuple(map(int, peer.run(f"{tries} && echo $port; done; true").split()))


def reasons_against(facts: RoutingFacts) -> tuple[str, ...]:
    """Why this is no proof of a router; nothing when it is."""
    if facts.problem is not None:
        return (facts.problem,)
    lease, fetched, ports = facts.lease, facts.fetched, facts.ports
    assert lease is not None and fetched is not None and ports is not None
    right = {ROUTER_NAME: lease.router, PROVIDER_NAME: f"{NETWORK}.1"}
    reasons = [
        f"{name.name} is {name.address or 'unknown'} to the client, not {right[name.name]}"
        for name in facts.names
        if name.address != right[name.name]
    ]
    if fetched.sha256 != fetched.expected:
        reasons.append(f"the {fetched.bytes} bytes that were fetched are not those of the provider")
    if not ports.lan:
        reasons.append("not one port of the router is open to the client: the provider's tries prove nothing")
    if ports.wan:
        reasons.append(f"open to the whole Internet: port {', '.join(map(str, ports.wan))} at {ports.wan_address}")
    return tuple(reasons)


def render_routing(proof: RoutingProof) -> tuple[str, ...]:
    """The proof in plain words, a line each."""
    facts = proof.facts
    stick = f"stick {proof.stick.name}" if proof.stick else "no stick"
    size = render_size(proof.memory_bytes)
    lines = [f"{proof.image.name} in {proof.machine} with {size} (QEMU, {proof.accelerator}), {stick}"]
    if facts.summary is not None:
        lines.append(f"  router     {facts.summary}")
    if facts.lease is not None:
        given = f"router {facts.lease.router}, DNS {facts.lease.dns}, domain {facts.lease.domain}"
        lines.append(f"  client     has {facts.lease.address} after {facts.seconds_to_lease} s: {given}")
    lines += [f"  client     asks for {name.name}: {name.address or 'no answer'}" for name in facts.names]
    if (fetched := facts.fetched) is not None:
        speed = fetched.bytes / MIB / max(fetched.seconds, 0.01)
        lines.append(
            f"  client     fetched {fetched.bytes} bytes from {FILE_URL} in {fetched.seconds} s, {speed:.1f} MiB/s"
        )
        lines.append(f"             sha256 {fetched.sha256}")
    if (ports := facts.ports) is not None:
        lines.append(f"  client     finds open of the router's ports {_list(ports.tried)}: {_list(ports.lan)}")
        lines.append(f"  provider   finds open, at {ports.wan_address}: {_list(ports.wan)}")
    if proof.success:
        lines.append("PROVED: the client reached its provider through the router, and nothing is open to the provider.")
    else:
        lines += ["NOT PROVED:", *(f"  {reason}" for reason in proof.reasons)]
        lines += [f"    {line}" for line in facts.last_lines]
    return (*lines, f"  logs: {proof.log.parent}")


def _list(ports: tuple[int, ...]) -> str:
    return ", ".join(map(str, ports)) or "none"


def routing_to_json(proof: RoutingProof) -> dict[str, Any]:
    """The facts as JSON values; the module's docstring shows the form."""
    facts = dataclasses.asdict(proof.facts)
    del facts["problem"]
    return {
        "version": 1,
        "success": proof.success,
        "reasons": list(proof.reasons),
        "image": os.fspath(proof.image),
        "stick": None if proof.stick is None else os.fspath(proof.stick),
        "machine": proof.machine,
        "memory_bytes": proof.memory_bytes,
        "accelerator": proof.accelerator,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in facts.items()},
        "log": os.fspath(proof.log),
        "story": list(proof.story),
    }
