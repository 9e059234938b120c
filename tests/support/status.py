"""What `router status --json` prints, key by key, and a router in a folder that has something to say."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tests.support.router import Router, make_router


class _Facts(BaseModel):
    """These keys, of these types, and no others."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Clock(_Facts):
    time: int
    synced: bool


class Memory(_Facts):
    total_kib: int | None
    available_kib: int | None


class Settings(_Facts):
    state: Literal["persistent", "read-only", "volatile", "lost", "unknown"]
    reason: str | None
    device: str | None
    label: str | None
    notice: str | None
    pending: bool
    warnings: list[str]


class Wan(_Facts):
    state: Literal["up", "down", "waiting", "none", "unknown"]
    reason: str | None
    proto: str | None
    device: str | None
    mac: str | None
    driver: str | None
    chosen: Literal["config", "kept", "dhcp", "guess"] | None
    address: str | None
    gateway: str | None
    prefix: int | None
    lease_seconds: int | None
    up_seconds: int | None
    dns: list[str]


class Lan(_Facts):
    reason: str | None
    address: str | None
    moved_from: str | None
    prefix: int | None
    ports: list[str]


class Ipv6(_Facts):
    state: Literal["on", "off", "unknown"]
    reason: str | None
    prefix: str | None


class Lease(_Facts):
    name: str | None
    address: str
    mac: str
    seconds_left: int | None


class Status(_Facts):
    """The whole of it, as docs/router-command.md has it."""

    version: Literal[1]
    name: str
    livebuilder: str | None
    kernel: str | None
    uptime_seconds: int
    clock: Clock
    memory: Memory
    settings: Settings
    wan: Wan
    lan: Lan
    ipv6: Ipv6
    leases: list[Lease]


HOSTILE = "<script>alert('1')</script>&amp;\"\\"


def make_running_router(folder: Path, shell: str) -> Router:
    """A router that has run for three days with everything in order, and knows four devices."""
    router = make_router(folder, shell)
    tools = folder / "tools"
    tools.mkdir()
    router.environment["PATH"] = f"{tools}{os.pathsep}{os.environ['PATH']}"
    synchronize(router, synced=True)
    for console in ("tty1", "ttyS0"):
        router.write(f"dev/{console}", "")
    write_record(router)
    router.write("proc/mounts", "/dev/sda1 /overlay ext4 rw,relatime 0 0\noverlayfs:/overlay / overlay rw 0 0\n")
    router.write("sys/class/block/sda1/dev", "8:1\n")
    router.write("proc/sys/kernel/hostname", "attic-pc\n")
    router.write("proc/uptime", "273845.22 33.10\n")
    router.write("proc/meminfo", "MemTotal:  122880 kB\nMemFree:  20000 kB\nMemAvailable:  81234 kB\n")
    write_facts(
        router, "wan", state="up", proto="dhcp", device="wan", mac="00:00:24:c9:12:30", driver="8139too",
        chosen="kept", address="203.0.113.17", prefix="24", gateway="203.0.113.1", dns="203.0.113.1 9.9.9.9",
        lease_seconds="43200", since="263845", reason="",
    )  # fmt: skip
    write_facts(router, "lan", address="192.168.1.1", prefix="24", ports="eth1 eth2", moved_from="", reason="")
    write_facts(router, "ipv6", state="off", reason="the provider delegates no prefix", prefix="")
    now = int(time.time())
    router.write(
        "etc/livebuilder/dhcp.leases",
        f"{now + 41030} 00:0d:b9:12:34:56 192.168.1.100 laptop 01:00:0d:b9:12:34:56\n"
        f"{now + 3030} 00:0d:b9:12:34:57 192.168.1.101 * *\n"
        f"{now + 330} 00:0d:b9:12:34:58 192.168.1.102 {HOSTILE} *\n"
        f"{now - 10} 00:0d:b9:12:34:5a 192.168.1.103 gone *\n"
        "0 00:0d:b9:12:34:59 192.168.1.20 printer *\n"
        "not a lease at all\n"
        "duid 00:01:00:01:2c:00:00:00:00:0d:b9:12:34:56\n"
        f"{now + 3000} 305419896 fd00::1234 laptop 00:01:00:01\n",
    )
    return router


def write_record(router: Router, *, failsafe: bool = False, **storage: object) -> None:
    """The boot record of a router that keeps its settings, unless `storage` says otherwise."""
    record = {
        "version": 1, "livebuilder": "0.1.0", "name": "attic-pc", "kernel": "6.1.0-50-686",
        "failsafe": failsafe,
        "storage": {"state": "persistent", "reason": None, "device": "/dev/sda1", "label": "rootfs_data",
                    "candidates": [], **storage},
        "parameters": {"unknown": []}, "warnings": ["2 devices are labelled rootfs_data"],
    }  # fmt: skip
    router.write("etc/livebuilder/boot.json", json.dumps(record))


def write_facts(router: Router, name: str, **facts: str) -> None:
    router.write(f"tmp/run/router/{name}", "".join(f"{key}={value}\n" for key, value in facts.items()))


def synchronize(router: Router, *, synced: bool) -> None:
    """What the kernel says of its clock."""
    tool = router.root.parent / "tools/adjtimex"
    tool.write_text(f"#!/bin/sh\necho '    status:       {'1 (PLL)' if synced else '64 (UNSYNC)'}'\n")
    tool.chmod(0o755)
