"""initramfs/router: who sets the clock, what is kept of it, and what a jump does to the leases."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from livebuilder.process import run
from tests.support.router import AWKS, Router, wait_for_commands

_SYSTEM = "config timeserver 'ntp'\n\tlist server '0.pool.example.org'\n\tlist server '192.0.2.1'\n"
_SET_CLOCK = "/lib/router/set-clock /tmp/run/ntpd.conf /tmp/run/ntpd.pid"
_NTPD = "ntpd -s -f /tmp/run/ntpd.conf -p /tmp/run/ntpd.pid"
_LEASE = "{end} 00:11:22:33:44:{n} 192.168.1.1{n} pc{n} 01:00:11:22:33:44:{n}"


@pytest.fixture
def router(router: Router) -> Router:
    router.write("usr/sbin/ntpd", "").chmod(0o755)
    router.write("etc/config/system", _SYSTEM)
    router.write("proc/uptime", "100000.17 99999.00\n")
    return router


def lease(number: int, end: int) -> str:
    return _LEASE.format(n=number, end=end) + "\n"


# --- the service ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["down", "waiting", "none", None])
def test_without_a_wan_it_waits_for_its_event(router: Router, state: str | None) -> None:
    if state:
        router.write("tmp/run/router/wan", f"state={state}\n")
    assert router.service("ntp", "boot").returncode == 0
    assert router.commands == []


def test_with_a_wan_it_asks_the_servers(router: Router) -> None:
    router.write("tmp/run/router/wan", "state=up\n")
    assert router.service("ntp", "start").stderr == ""
    wait_for_commands(router, 3)
    assert router.commands == [
        "ntpd -n -f /tmp/run/ntpd.conf",
        "mkdir -p /tmp/run/openntpd /tmp/lib/openntpd/db /tmp/lib/openntpd/run",
        _SET_CLOCK,
    ]
    assert router.read("tmp/run/ntpd.conf").splitlines()[1:] == ["servers 0.pool.example.org", "servers 192.0.2.1"]
    assert int(router.read("tmp/run/set-clock.pid")) > 1


def test_what_ntpd_does_not_understand_is_said(router: Router) -> None:
    router.write("tmp/run/router/wan", "state=up\n")
    router.failing = "'ntpd -n'*"
    assert router.service("ntp", "start").stderr.startswith("ntp: nobody sets the clock: ")
    assert router.commands == ["ntpd -n -f /tmp/run/ntpd.conf"]


def test_a_root_without_ntpd_is_left_alone(router: Router) -> None:
    router.write("tmp/run/router/wan", "state=up\n")
    (router.root / "usr/sbin/ntpd").unlink()
    assert router.service("ntp", "start").returncode == 0
    assert router.commands == []


def test_stop_ends_who_waits_for_an_answer_too(router: Router) -> None:
    for name, pid in (("ntpd", "4242"), ("set-clock", "4243")):
        router.write(f"tmp/run/{name}.pid", f"{pid}\n")
        (router.root / "proc" / pid).mkdir(parents=True)
    router.service("ntp", "stop")
    assert [command for command in router.commands if command != "sleep 0.1"] == ["kill 4243", "kill 4242"]


@pytest.mark.parametrize(
    ("event", "commands"),
    [
        ("ifup wan wan", ["/etc/init.d/ntp restart"]),
        ("ifdown wan pppoe-wan", ["/etc/init.d/ntp stop"]),
        ("ifupdate wan wan", []),
        ("ifup lan br-lan", []),
    ],
)
def test_it_follows_the_wan(router: Router, event: str, commands: list[str]) -> None:
    router.snippet(f'. "$ROOT/lib/router/events.sh"; iface_event {event}')
    assert [command for command in router.commands if "/ntp " in command] == commands


# --- set-clock -----------------------------------------------------------------------------------------------------


def answering(router: Router, *, seconds: int, jump: int) -> None:
    """A recorder whose ntpd takes so long and moves the clock: seen from here, the uptime stays behind it."""
    router.write("tmp/run/ntpd.pid", "4242\n")
    recorder = router.root.parent / "recorder"
    recorder.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$*" >>"$RECORD"\n'
        f'[ "$1" != ntpd ] || echo {100000 + seconds - jump}.00 0 >"$ROOT/proc/uptime"\n'
        '[ "$1" != sleep ] || kill "$PPID"\n'
    )
    recorder.chmod(0o755)


def set_clock(router: Router) -> None:
    router.script("lib/router/set-clock", "/tmp/run/ntpd.conf", "/tmp/run/ntpd.pid")


def test_a_clock_that_was_right_is_nothing_to_talk_of(router: Router) -> None:
    router.write("etc/livebuilder/dhcp.leases", lease(11, 1000))
    answering(router, seconds=1, jump=0)
    set_clock(router)
    assert router.commands == [_NTPD]
    assert router.read("etc/livebuilder/dhcp.leases") == lease(11, 1000)
    assert not (router.root / "etc/livebuilder/clock").exists()


def test_without_an_answer_it_tries_again(router: Router) -> None:
    """ntpd would go on, but by steps so small that it never arrives."""
    answering(router, seconds=15, jump=0)
    set_clock(router)  # which is ended while it sleeps
    assert router.commands == [_NTPD, "kill 4242", "sleep 60"]


def test_after_a_jump_the_leases_end_as_much_later(router: Router) -> None:
    now = int(time.time())
    router.write("etc/livebuilder/dhcp.leases", lease(11, now + 900) + lease(12, 0))
    answering(router, seconds=1, jump=50_000)
    set_clock(router)
    said = router.commands[1]
    assert said.startswith("logger -t ntp the clock was set by ")
    seen = int(said.split()[-2])
    assert abs(seen - 50_000) <= 2, "the test's own seconds"
    assert router.commands == [_NTPD, said, "/etc/init.d/dnsmasq stop", "/etc/init.d/dnsmasq start"]
    assert router.read("etc/livebuilder/dhcp.leases") == lease(11, now + 900 + seen) + lease(12, 0)
    assert int(router.read("etc/livebuilder/clock")) >= now


def test_a_jump_without_leases(router: Router) -> None:
    answering(router, seconds=1, jump=50_000)
    set_clock(router)
    assert len(router.commands) == 2 and router.commands[1].startswith("logger ")
    assert not (router.root / "etc/livebuilder/dhcp.leases").exists()


@pytest.mark.parametrize("awk", AWKS)
def test_a_clock_that_was_ahead_is_set_back(tmp_path: Path, awk: str) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.write_text(lease(1, 4_000_043_200) + lease(5, 0))
    after.write_text(lease(1, 4_000_043_200) + lease(5, 0) + lease(6, 2_000_043_200))
    command = [*awk.split(), "-v", "jump=-2000000000", "-v", "now=2000000001", "-f"]
    script = Path("initramfs/router/lib/router/leases.awk").absolute()
    assert run([*command, script, before, after]).stdout == (
        lease(1, 2_000_043_200) + lease(5, 0) + lease(6, 2_000_043_200)
    )


@pytest.mark.parametrize("awk", AWKS)
def test_leases_before_and_after(tmp_path: Path, awk: str) -> None:
    """The jump is 1000 000 000 seconds, to 2 000 000 000."""
    before, after = tmp_path / "before", tmp_path / "after"
    same, forgotten, renewed, changed = 1_000_000_100, 1_000_000_200, 1_000_000_300, 1_000_000_400
    before.write_text(lease(1, same) + lease(2, forgotten) + lease(3, renewed) + lease(4, changed) + lease(5, 0)
                      + "duid 00:01\n1000000500 1 2001:db8::5 * 00:02\n")  # fmt: skip
    after.write_text(
        lease(5, 0) + lease(4, changed + 7)  # given between the look and the jump
        + lease(3, 2_000_043_200) + lease(6, 2_000_043_300) + lease(1, same)
        + "duid 00:01\n1000000500 1 2001:db8::5 * 00:02\n"
    )  # fmt: skip
    command = [*awk.split(), "-v", "jump=1000000000", "-v", "now=2000000001", "-f"]
    script = Path("initramfs/router/lib/router/leases.awk").absolute()
    assert run([*command, script, before, after]).stdout == (
        lease(5, 0) + lease(4, 2_000_000_407) + lease(3, 2_000_043_200) + lease(6, 2_000_043_300)
        + lease(1, 2_000_000_100) + lease(2, 2_000_000_200)
        + "duid 00:01\n1000000500 1 2001:db8::5 * 00:02\n"
    )  # fmt: skip


@pytest.mark.parametrize("awk", AWKS)
def test_an_address_that_somebody_else_got_meanwhile_is_theirs(tmp_path: Path, awk: str) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.write_text(lease(1, 1_000_000_100))
    after.write_text("2000043200 00:99:99:99:99:99 192.168.1.11 other *\n")
    command = [*awk.split(), "-v", "jump=1000000000", "-v", "now=2000000001", "-f"]
    script = Path("initramfs/router/lib/router/leases.awk").absolute()
    assert run([*command, script, before, after]).stdout == after.read_text()


# --- the time that is kept -----------------------------------------------------------------------------------------


def test_the_boot_starts_who_keeps_the_time(router: Router) -> None:
    router.service("sysfixtime", "boot")
    wait_for_commands(router, 1)
    assert router.commands == ["/lib/router/keep-clock"]


def test_the_time_is_kept_now_and_then(router: Router) -> None:
    before = int(time.time())
    recorder = router.root.parent / "recorder"
    recorder.write_text('#!/bin/sh\necho "$*" >>"$RECORD"\n[ "$(grep -c sleep "$RECORD")" -le 2 ]\n')
    recorder.chmod(0o755)
    router.script("lib/router/keep-clock")
    assert router.commands == ["sleep 3000"] * 3
    assert before <= int(router.read("etc/livebuilder/clock")) <= time.time()
