"""The least memory of the default router: what it runs in as a squashfs, and what it says below what it needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from livebuilder.sizes import MIB
from livebuilder.vm.machine import Stick
from tests.support.boots import RESCUE_PROMPT, SECONDS, booting, observe
from tests.support.builds import BuiltImage, run_command
from tests.support.sticks import stick_image

pytestmark = [pytest.mark.vm, pytest.mark.network]

WAN_CARD = (
    "-netdev", "user,id=wan,net=10.0.9.0/24,restrict=on", "-device", "rtl8139,netdev=wan,mac=52:54:00:00:00:09,romfile="
)  # fmt: skip
UNTIL_WAN_IS_UP = (
    "for try in $(seq 100); do grep -qx state=up /tmp/run/router/wan && break; sleep 1; done; "
    "grep -x state=up /tmp/run/router/wan; nft list ruleset | grep -c masquerade; "
    "ps | grep -oE '[ /](dnsmasq|dropbear|httpd|udhcpc|syslogd) ' | tr -d ' /' | sort -u"
)


def test_a_squashfs_runs_the_router_in_80_mb(default_image: BuiltImage, tmp_path: Path) -> None:
    outcome = run_command("build", "--offline", "--set", "root.mode=squashfs", "-o", tmp_path / "image")
    assert outcome.status == 0, outcome.stderr
    stick = stick_image(tmp_path / "stick.img")
    with booting(
        BuiltImage(tmp_path / "image"), sticks=[Stick(stick)], memory_bytes=80 * MIB, log=tmp_path / "boot.log",
        extra=WAN_CARD,
    ) as session:  # fmt: skip
        boot, shell = observe(session)
        said = shell.run(UNTIL_WAN_IS_UP, timeout_seconds=SECONDS).output.splitlines()
        available = int(shell.run("grep MemAvailable /proc/meminfo").output.split()[1])
        killed = shell.run("dmesg | grep -ci 'out of memory'").output.strip()
    assert (boot.record.root.mode, boot.record.storage.state) == ("squashfs", "persistent")
    # What the network says on the console, that the LAN has moved, may stand in between.
    assert {"state=up", "1", "dnsmasq", "dropbear", "httpd", "syslogd", "udhcpc"} <= set(said), said
    assert killed == "0"
    assert available > 8 * 1024, "what is asked for is there when all runs"


def test_below_what_the_router_needs_it_says_need_and_have(default_image: BuiltImage, tmp_path: Path) -> None:
    with booting(default_image, memory_bytes=72 * MIB, log=tmp_path / "boot.log") as session:
        said = session.wait_for(r"livebuilder: cannot go on: (.*)\n", timeout_seconds=SECONDS)[1]
        session.wait_for(RESCUE_PROMPT, timeout_seconds=SECONDS)
    found = [(int(need), int(have)) for need, have in re.findall(r"need (\d+) KiB, have (\d+) KiB", said)]
    assert len(found) == 2, f"ext2 and tmpfs: {said}"
    assert all(have < need < 64 * 1024 for need, have in found)
    assert "panic" not in session.text and "Out of memory" not in session.text
