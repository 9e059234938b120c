"""router status and the page for browsers: the same facts, whichever of them are missing, whatever is in them."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from livebuilder.process import run
from tests.support.router import AWKS, SHELLS, Router
from tests.support.status import HOSTILE, Status, make_running_router, synchronize, write_facts, write_record


@pytest.fixture(params=SHELLS)
def router(tmp_path: Path, request: pytest.FixtureRequest) -> Router:
    return make_running_router(tmp_path, request.param)


def text(router: Router) -> str:
    done = router.script("usr/bin/router", "status")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def status(router: Router) -> Status:
    done = router.script("usr/bin/router", "status", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return Status.model_validate_json(done.stdout)


def page(router: Router, host: str = "192.168.1.1") -> str:
    done = router.script("www/cgi-bin/index.cgi", env={"HTTP_HOST": host})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_one_screen_says_it_all(router: Router) -> None:
    lines = text(router).splitlines()
    clock = lines.pop(11)
    assert clock.startswith(time.strftime("  clock       %Y-%m-%d ", time.gmtime())) and clock.endswith(
        ", set by the network"
    )
    assert lines == [
        "attic-pc, up 3 days 4 h",
        "  settings    Settings are kept on /dev/sda1 (rootfs_data)",
        "  WARNING: 2 devices are labelled rootfs_data",
        "  WAN         up, 203.0.113.17/24 by DHCP",
        "              gateway 203.0.113.1, DNS 203.0.113.1 9.9.9.9",
        "              card 00:00:24:c9:12:30 8139too (the same as before)",
        "              up for 2 h 46 min, lease of 12 h",
        "  LAN         192.168.1.1/24 on eth1 eth2",
        "  IPv6        off",
        "              the provider delegates no prefix",
        "  memory      79 of 120 MiB free",
        "  leases      4 devices have an address",
        "    laptop                   192.168.1.100    00:0d:b9:12:34:56  11 h 23 min",
        "    (no name)                192.168.1.101    00:0d:b9:12:34:57  50 min",
        f"    {HOSTILE} 192.168.1.102    00:0d:b9:12:34:58  5 min",
        "    printer                  192.168.1.20     00:0d:b9:12:34:59  no end",
    ]


def test_the_json_has_every_fact(router: Router) -> None:
    found = status(router)
    assert (found.name, found.livebuilder, found.kernel) == ("attic-pc", "0.1.0", "6.1.0-50-686")
    assert (found.uptime_seconds, found.memory.total_kib, found.memory.available_kib) == (273845, 122880, 81234)
    assert found.clock.synced and abs(found.clock.time - time.time()) < 60
    assert found.settings.model_dump() == {
        "state": "persistent", "reason": None, "device": "/dev/sda1", "label": "rootfs_data", "notice": None,
        "pending": False, "warnings": ["2 devices are labelled rootfs_data"],
    }  # fmt: skip
    assert found.wan.model_dump() == {
        "state": "up", "reason": None, "proto": "dhcp", "device": "wan", "mac": "00:00:24:c9:12:30",
        "driver": "8139too", "chosen": "kept", "address": "203.0.113.17", "gateway": "203.0.113.1", "prefix": 24,
        "lease_seconds": 43200, "up_seconds": 10000, "dns": ["203.0.113.1", "9.9.9.9"],
    }  # fmt: skip
    assert found.lan.model_dump() == {
        "reason": None, "address": "192.168.1.1", "moved_from": None, "prefix": 24, "ports": ["eth1", "eth2"],
    }  # fmt: skip
    assert (found.ipv6.state, found.ipv6.reason) == ("off", "the provider delegates no prefix")
    assert [(lease.name, lease.address) for lease in found.leases] == [
        ("laptop", "192.168.1.100"), (None, "192.168.1.101"), (HOSTILE, "192.168.1.102"), ("printer", "192.168.1.20"),
    ]  # fmt: skip
    assert found.leases[3].seconds_left is None
    assert 40900 < (found.leases[0].seconds_left or 0) <= 41030


_FILES = (
    "tmp/run/router/wan", "tmp/run/router/lan", "tmp/run/router/ipv6", "etc/livebuilder/dhcp.leases",
    "etc/livebuilder/boot.json", "proc/meminfo", "proc/uptime", "proc/sys/kernel/hostname", "proc/mounts",
)  # fmt: skip


@pytest.mark.parametrize("missing", [*_FILES, "all"])
def test_whatever_is_missing_the_rest_is_told(router: Router, missing: str) -> None:
    for name in _FILES if missing == "all" else [missing]:
        (router.root / name).unlink()
    found = status(router)
    assert text(router).startswith(f"{found.name}, up ")
    assert "</html>" in page(router, "router.lan")
    expected = {
        "tmp/run/router/wan": found.wan.state == "unknown" and found.wan.mac is None and found.wan.dns == [],
        "tmp/run/router/lan": found.lan.address is None and found.lan.ports == [],
        "tmp/run/router/ipv6": found.ipv6.state == "unknown",
        "etc/livebuilder/dhcp.leases": found.leases == [],
        "etc/livebuilder/boot.json": found.settings.state == "unknown" and found.kernel is None,
        "proc/meminfo": found.memory.total_kib is None,
        "proc/uptime": found.uptime_seconds == 0,
        "proc/sys/kernel/hostname": found.name == "router",
        "proc/mounts": found.settings.state == ("unknown" if missing == "all" else "lost"),
    }
    wrong = [name for name, gone in expected.items() if gone is not (missing in (name, "all"))]
    assert wrong == []


def test_a_stick_that_is_gone_is_told_everywhere(router: Router) -> None:
    shutil.rmtree(router.root / "sys/class/block/sda1")
    assert status(router).settings.state == "lost"
    said = "/dev/sda1 was there at boot and is gone"
    assert f"settings    CHANGES ARE NO LONGER KEPT\n              {said}\n" in text(router)
    found = page(router)
    assert '<section id="settings" class="bad"><h2>Storage</h2><p class="line">CHANGES ARE NO LONGER KEPT</p>' in found
    assert f"<p>{said}</p>" in found


@pytest.mark.parametrize(
    ("facts", "lines"),
    [
        ({"state": "waiting", "chosen": "guess", "mac": "00:11:22:33:44:55"},
         ["waiting for an address", "card 00:11:22:33:44:55 (a guess: router set wan card)"]),
        ({"state": "none", "reason": "one network card only: it is the LAN's"},
         ["there is none", "one network card only: it is the LAN's"]),
        ({"state": "down", "reason": "no cable", "chosen": "config", "mac": "00:11:22:33:44:55", "driver": "e100"},
         ["down", "no cable", "card 00:11:22:33:44:55 e100 (set by you)"]),
        ({"state": "up", "proto": "pppoe", "address": "198.51.100.2", "prefix": "32", "since": "273840"},
         ["up, 198.51.100.2/32 by PPPoE", "up for 5 s"]),
        ({"state": "up", "proto": "static", "address": "198.51.100.2", "prefix": "24", "gateway": "198.51.100.1"},
         ["up, 198.51.100.2/24 static", "gateway 198.51.100.1"]),
    ],
)  # fmt: skip
def test_the_wan_in_words(router: Router, facts: dict[str, str], lines: list[str]) -> None:
    write_facts(router, "wan", **facts)
    assert "  WAN         " + "\n              ".join([*lines, ""]).rstrip(" ") + "  LAN " in text(router)


def test_a_lan_that_moved_and_what_happened_to_settings(router: Router) -> None:
    write_facts(router, "lan", address="192.168.2.1", prefix="24", ports="eth1", moved_from="192.168.1.1")
    write_facts(router, "settings", notice="these are the settings of commit point 3")
    router.write("etc/livebuilder/pending", "")
    said = text(router)
    assert "LAN         192.168.2.1/24 on eth1\n              moved here from 192.168.1.1\n" in said
    assert "these are the settings of commit point 3\n              a change waits for: router confirm\n" in said
    assert status(router).settings.pending and "A change waits for: router confirm" in page(router, "192.168.2.1")


def test_a_clock_that_nobody_keeps_right(router: Router) -> None:
    synchronize(router, synced=False)
    assert not status(router).clock.synced and "not set by the network yet" in text(router)
    (router.root.parent / "tools/adjtimex").write_text("#!/bin/sh\nexit 127\n")
    assert not status(router).clock.synced


def test_a_screen_shows_ten_leases(router: Router) -> None:
    router.write(
        "etc/livebuilder/dhcp.leases", "".join(f"0 00:00:00:00:00:{n} 10.0.0.{n} n{n} *\n" for n in range(10, 25))
    )
    assert "n19" in text(router) and "n20" not in text(router)
    assert "    and 5 more: router status --json\n" in text(router)
    assert len(status(router).leases) == page(router).count('<td class="name">') == 15


# --- what may be in it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("awk", AWKS)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.text(
        st.characters(exclude_categories=["Zs", "Zl", "Zp", "Cs"], exclude_characters="\r\n\t\v\f\0 "),
        min_size=1,
        max_size=60,
    )
)
def test_no_name_of_a_device_changes_what_stands_around_it(
    tmp_path_factory: pytest.TempPathFactory, awk: str, name: str
) -> None:
    root = tmp_path_factory.getbasetemp() / "names" / awk.split()[0]
    (root / "etc/livebuilder").mkdir(parents=True, exist_ok=True)
    (root / "etc/livebuilder/dhcp.leases").write_text(
        f"0 00:0d:b9:12:34:59 192.168.1.20 {name} *\n0 m 10.0.0.1 last *\n"
    )
    home = Path(__file__).parents[2] / "initramfs/router/lib"
    programs = [word for file in ("livebuilder/record.awk", "router/status.awk") for word in ("-f", home / file)]

    def view(which: str) -> str:
        done = run(
            [*awk.split(), "-v", f"view={which}", "-v", "now=1", "-v", "synced=true", "-v", "pending=false", *programs],
            env={"ROOT": str(root), "LC_ALL": "C", "HTTP_HOST": "router"},
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout

    first, last = Status.model_validate_json(view("json")).leases
    assert (first.address, last.name) == ("192.168.1.20", "last")
    shown = first.name or ""
    if name.isprintable() and len(name.encode()) < 256 and name != "*":
        assert shown == name
    row, *_ = view("page").split('<td class="name">')[1:]
    cell, rest = row.split("</td>", 1)
    assert not set(cell) & set('<>"') and rest.startswith('<td class="address">192.168.1.20</td>')
    assert not any(ord(character) < 32 or 126 < ord(character) < 160 for character in shown + cell)


def test_bytes_that_are_no_utf8_leave_the_json_whole(router: Router) -> None:
    (router.root / "etc/livebuilder/dhcp.leases").write_bytes(b"0 m 10.0.0.1 a\xff\xc3(b\x1b[2J *\n")
    assert status(router).leases[0].name == "a??(b?[2J"


# --- the page ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["192.168.1.1", "192.168.1.1:80", "router.lan", "ROUTER.lan", "router", "attic-pc", "attic-pc.lan:8080"]
)
def test_the_page_answers_to_the_routers_own_names(router: Router, host: str) -> None:
    head, body = page(router, host).split("\r\n\r\n", 1)
    assert "Status:" not in head and body.startswith("<!doctype html>") and body.endswith("</html>\n")


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "192.168.1.2",
        "203.0.113.17",
        "router.lan.evil.example",
        "attic-pc.evil",
        "x@router.lan",
        "router router.lan",
    ],
)
def test_a_name_from_elsewhere_is_refused(router: Router, host: str) -> None:
    found = page(router, host)
    assert found.startswith("Status: 403 Forbidden\r\n") and "attic" not in found and "laptop" not in found


def test_the_page_asks_nobody_else_for_anything(router: Router) -> None:
    found = page(router)
    assert found.count("http") == found.count("http-equiv") == 1
    assert "<script" not in found and " on" + "load" not in found and "javascript:" not in found
    assert "default-src 'none'; style-src 'self'" in found
    assert "url(" not in router.read("www/style.css") and "@import" not in router.read("www/style.css")


def test_foreign_text_is_text(router: Router) -> None:
    assert "<td class=\"name\">&lt;script&gt;alert('1')&lt;/script&gt;&amp;amp;&quot;\\</td>" in page(router)
    write_facts(router, "wan", state="up", address="<b>", prefix="&", reason='"><img src=x>')
    router.write("proc/sys/kernel/hostname", "<i>\n")
    write_record(router, label="</p><b>", device="<u>")
    found = page(router)
    for tag in ("<b>", "<img", "<i>", "<u>"):
        assert tag not in found


def test_the_page_is_the_same_facts(router: Router) -> None:
    found = page(router)
    for line in text(router).splitlines()[1:]:
        words = line[14:] if line.startswith("  ") and not line.startswith("    ") else ""
        if words and not line.startswith("  clock"):
            assert words in found or words[0].upper() + words[1:] in found, words
    assert json.loads(router.script("usr/bin/router", "status", "--json").stdout)["name"] in found


# --- the documentation ---------------------------------------------------------------------------------------------


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key of the model as docs/router-command.md writes it, and its type."""
    names: dict[object, str] = {int: "integer", str: "string", bool: "boolean"}
    for name, field in model.model_fields.items():
        many = get_origin(field.annotation) is list
        inner = get_args(field.annotation)[0] if many or type(None) in get_args(field.annotation) else field.annotation
        key = f"{prefix}{name}{'[]' if many else ''}"
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys(inner, f"{key}.")
        else:
            yield key, names.get(inner) or names[type(get_args(inner)[0])]  # a Literal's first word


def test_every_key_is_documented_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs/router-command.md").read_text().split("## status --json")[1]
    assert re.findall(r"^\| `(.*?)` \| (.*?) \|", page, re.MULTILINE) == list(keys(Status))
