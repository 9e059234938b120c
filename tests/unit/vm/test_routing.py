from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from livebuilder.vm.routing import (
    Fetched,
    Lease,
    Name,
    Ports,
    RoutingFacts,
    RoutingProof,
    reasons_against,
    routing_to_json,
)
from tests.support.documents import assert_documented

GOOD = RoutingFacts(
    summary="root=ext2 storage=persistent device=/dev/sda1",
    lease=Lease("192.168.1.123", "192.168.1.1", "192.168.1.1", "lan"),
    seconds_to_lease=31.9,
    names=(Name("router.lan", "192.168.1.1"), Name("provider.test", "198.18.0.1")),
    fetched=Fetched(20_000_000, 4.0, "5f0c", "5f0c"),
    ports=Ports((22, 53, 80), (22, 53), "198.18.0.150", ()),
    seconds=45.2,
)
assert GOOD.fetched and GOOD.ports

AGAINST: list[tuple[dict[str, Any], str]] = [
    (
        {"names": (Name("router.lan", "10.0.0.1"), GOOD.names[1])},
        "router.lan is 10.0.0.1 to the client, not 192.168.1.1",
    ),
    (
        {"names": (GOOD.names[0], Name("provider.test", None))},
        "provider.test is unknown to the client, not 198.18.0.1",
    ),
    (
        {"fetched": replace(GOOD.fetched, sha256="0000")},
        "the 20000000 bytes that were fetched are not those of the provider",
    ),
    (
        {"ports": replace(GOOD.ports, lan=())},
        "not one port of the router is open to the client: the provider's tries prove nothing",
    ),
    ({"ports": replace(GOOD.ports, wan=(22, 80))}, "open to the whole Internet: port 22, 80 at 198.18.0.150"),
]


def proof(facts: RoutingFacts, *, stick: Path | None = Path("out/stick.img")) -> RoutingProof:
    return RoutingProof(
        image=Path("out/router.iso"), stick=stick, machine="pc-2000", memory_bytes=128 * 1024 * 1024,
        accelerator="tcg", log=Path("logs/router.log"), facts=facts, reasons=reasons_against(facts),
    )  # fmt: skip


def test_nothing_speaks_against_a_router_that_routes() -> None:
    assert proof(GOOD).success and proof(GOOD).story == (
        "router.iso in pc-2000 with 128.0 MiB (QEMU, tcg), stick stick.img",
        "  router     root=ext2 storage=persistent device=/dev/sda1",
        "  client     has 192.168.1.123 after 31.9 s: router 192.168.1.1, DNS 192.168.1.1, domain lan",
        "  client     asks for router.lan: 192.168.1.1",
        "  client     asks for provider.test: 198.18.0.1",
        "  client     fetched 20000000 bytes from http://provider.test/file in 4.0 s, 4.8 MiB/s",
        "             sha256 5f0c",
        "  client     finds open of the router's ports 22, 53, 80: 22, 53",
        "  provider   finds open, at 198.18.0.150: none",
        "PROVED: the client reached its provider through the router, and nothing is open to the provider.",
        "  logs: logs",
    )


@pytest.mark.parametrize(("changes", "reason"), AGAINST)
def test_whatever_is_wrong_is_said_in_words(changes: dict[str, Any], reason: str) -> None:
    assert reasons_against(replace(GOOD, **changes)) == (reason,)


def test_where_it_stopped_is_said_with_the_last_lines() -> None:
    stopped = RoutingFacts(summary="root=ext2", seconds=150.1, problem="no lease", last_lines=("wan: no link",))
    assert proof(stopped, stick=None).story == (
        "router.iso in pc-2000 with 128.0 MiB (QEMU, tcg), no stick",
        "  router     root=ext2",
        "NOT PROVED:",
        "  no lease",
        "    wan: no link",
        "  logs: logs",
    )


def test_the_json_form_has_every_fact() -> None:
    stopped = RoutingFacts(seconds=150.1, problem="no lease", last_lines=("wan: no link",))
    open_ = replace(GOOD, ports=Ports((22,), (22,), "198.18.0.150", (22,)))
    outputs = [json.loads(json.dumps(routing_to_json(proof(facts)))) for facts in (GOOD, stopped, open_)]
    assert_documented("vm route", *outputs)
    assert [output["success"] for output in outputs] == [True, False, False]
    assert outputs[0]["lease"]["dns"] == "192.168.1.1" and outputs[2]["ports"]["wan"] == [22]
