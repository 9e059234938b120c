"""The services of the default router, in one boot: first login, names and leases, log, clock, watchdog."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from livebuilder.vm.accelerator import TCG
from livebuilder.vm.machine import Cable, Card, Guest, KernelBoot, machine_named
from livebuilder.vm.session import Session, run_guest
from livebuilder.vm.shell import CONSOLE_QUESTION, GuestShell, activate_console
from tests.support.boots import SECONDS, WORDS
from tests.support.builds import BuiltImage
from tests.support.timeserver import ADDRESS, time_server

pytestmark = [pytest.mark.vm, pytest.mark.network]

OFFER = r"root has no password\. Set one now\? .*\[y/N\] "
LEASES = "/etc/livebuilder/dhcp.leases"
AHEAD_SECONDS = 50 * 24 * 3600
# A card for the LAN, with the time server on its cable; one that becomes WAN, because QEMU gives it an address; a
# watchdog that cuts the power; and a clock whose battery is empty.
HARDWARE = (
    "-netdev", "user,id=wan,restrict=on", "-device", "e1000,netdev=wan,romfile=",
    "-device", "i6300esb", "-action", "watchdog=poweroff",
    "-rtc", "base=2001-01-01T00:00:00",
)  # fmt: skip


def test_the_services(default_image: BuiltImage, tmp_path: Path) -> None:
    cable = Cable(tmp_path / "router", tmp_path / "server")
    guest = Guest(
        machine=machine_named("pc-2000"),
        boot=KernelBoot(default_image.kernel, default_image.initramfs, " ".join([*WORDS, "lb.storage=off"])),
        cards=(Card("rtl8139", "52:54:00:00:00:01", cable),), extra=HARDWARE,
    )  # fmt: skip
    with (
        time_server(cable, ahead_seconds=AHEAD_SECONDS),
        run_guest(guest, log=tmp_path / "boot.log", accelerator=TCG) as session,
    ):
        set_the_offered_password(session)
        shell = activate_console(session, timeout_seconds=SECONDS)
        assert "-s -g" not in prints(shell, "ps | grep '[d]ropbear -R'"), "passwords are taken now"
        assert "Address: 192.168.1.1" in prints(shell, "nslookup router.lan 192.168.1.1")
        epoch = int(prints(shell, "cat /etc/livebuilder/epoch"))
        assert epoch <= int(prints(shell, "date +%s")) < epoch + 3600, "the battery says 2001"
        assert_ntp_sets_the_clock(shell)
        for program in ("kernel:", "dnsmasq-dhcp", "dropbear", "ntpd", "ntp:"):
            assert int(prints(shell, f"logread | grep -c ' {program}'")) > 0, program
        assert_not_asked_again(session)
        assert_watchdog(session, shell)


def prints(shell: GuestShell, command: str, *, timeout_seconds: float = 60) -> str:
    answer = shell.run(command, timeout_seconds=timeout_seconds)
    assert answer.status == 0, (command, answer)
    return answer.output.strip()


def set_the_offered_password(session: Session) -> None:
    session.wait_for(CONSOLE_QUESTION, timeout_seconds=SECONDS)
    session.type_line()
    session.wait_for(OFFER, timeout_seconds=SECONDS)
    session.type_line("y")
    for question in ("New password: ", "Retype password: "):
        session.wait_for(question, timeout_seconds=SECONDS)
        session.type_line("a-long-0ld-word")
    session.wait_for("password for root changed", timeout_seconds=SECONDS)


def assert_not_asked_again(session: Session) -> None:
    session.forget()
    session.type_line("exit")
    session.wait_for(CONSOLE_QUESTION, timeout_seconds=SECONDS)
    session.type_line()
    login = session.wait_for(r"(?s)(.*)~# ", timeout_seconds=SECONDS)[1]
    assert "root has no password" not in login


def assert_ntp_sets_the_clock(shell: GuestShell) -> None:
    """By fifty days, and a lease that was given before still ends in an hour."""
    lease = "00:11:22:33:44:55 192.168.1.150 laptop *"
    given = f"$(( $(date +%s) + 3600 )) {lease}"
    service = "/etc/init.d/dnsmasq"
    prints(shell, f'{service} stop; echo "{given}" >{LEASES}; {service} start')
    prints(
        shell,
        f"sed -i /debian.pool.ntp.org/d /etc/config/system; echo \"list server '{ADDRESS}'\" >>/etc/config/system",
    )
    prints(shell, "until [ -s /tmp/run/set-clock.pid ]; do sleep 0.2; done", timeout_seconds=SECONDS)
    prints(
        shell,
        "/etc/init.d/ntp restart; until [ -s /etc/livebuilder/clock ]; do sleep 0.2; done",
        timeout_seconds=SECONDS,
    )
    # Itself and its two helpers: the one that WAN's coming up started, which got no answer, is gone.
    prints(shell, "until [ $(pidof ntpd | wc -w) = 3 ]; do sleep 0.2; done", timeout_seconds=SECONDS)
    kept, now, lines = prints(shell, f"cat /etc/livebuilder/clock; date +%s; cat {LEASES}").split("\n", 2)
    assert abs(int(now) - time.time() - AHEAD_SECONDS) < 60
    assert 0 <= int(now) - int(kept) < 60
    end, _, rest = lines.partition(" ")
    assert rest == lease and 3300 < int(end) - int(now) <= 3600
    assert "Address: 192.168.1.150" in prints(shell, "nslookup laptop.lan 192.168.1.1"), "dnsmasq goes by it too"


def assert_watchdog(session: Session, shell: GuestShell) -> None:
    """It is on, and is off after a clean stop; where nobody feeds it, it does what a watchdog does."""
    state = "cat /sys/class/watchdog/watchdog0/state"
    assert prints(shell, f"{state}; cat /sys/class/watchdog/watchdog0/timeout") == "active\n60"
    assert prints(shell, f"/etc/init.d/watchdog stop; {state}") == "inactive"
    session.type_line("watchdog -t 600 -T 2 /dev/watchdog")
    assert session.wait_for_end(timeout_seconds=SECONDS) == 0
