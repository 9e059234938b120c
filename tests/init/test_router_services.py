"""initramfs/router/etc: the frame of services and what each of them runs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.router import Router, wait_for_commands


@pytest.fixture
def router(router: Router) -> Router:
    for nic in ("lo", "eth0"):
        (router.root / "sys/class/net" / nic).mkdir(parents=True)
    return router


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


# --- rcS and rc.common ---------------------------------------------------------------------------------------------


def test_rcs_runs_the_enabled_services_in_order(router: Router) -> None:
    for link in (router.root / "etc/rc.d").iterdir():
        link.unlink()
    for name in ("S20b", "S10a", "K90c", "S30no"):
        file = router.write(f"etc/rc.d/{name}", f'#!/bin/sh\necho "{name} $1"\n')
        file.chmod(0o644 if name == "S30no" else 0o755)
    assert router.script("etc/init.d/rcS", "S", "boot").stdout == "S10a boot\nS20b boot\n"
    assert router.script("etc/init.d/rcS", "K", "shutdown").stdout == "K90c shutdown\n"


def test_the_services_of_the_root_are_enabled_in_this_order(router: Router) -> None:
    assert sorted(link.name for link in (router.root / "etc/rc.d").iterdir()) == [
        "K95sysfixtime", "S00sysfixtime", "S10boot", "S12log", "S15firewall", "S20network", "S30dnsmasq", "S50dropbear",
        "S55httpd", "S60ntp", "S70watchdog", "S95done",
    ]  # fmt: skip


def test_a_service_is_disabled_and_enabled(router: Router) -> None:
    link = router.root / "etc/rc.d/S50dropbear"
    assert router.service("dropbear", "enabled").returncode == 0
    router.service("dropbear", "disable")
    assert not link.is_symlink()
    assert router.service("dropbear", "enabled").returncode == 1
    router.service("dropbear", "enable")
    assert link.readlink() == Path("../init.d/dropbear")
    assert router.service("dropbear", "enabled").returncode == 0


def test_enabling_leaves_a_service_of_a_similar_name_alone(router: Router) -> None:
    other = router.write("etc/rc.d/S50mydropbear", "")
    router.service("dropbear", "disable")
    assert other.exists()


@pytest.mark.parametrize(("action", "status"), [("help", 0), ("strat", 1)])
def test_an_unknown_action_shows_the_usage(router: Router, action: str, status: int) -> None:
    done = router.service("log", action)
    assert "usage: /etc/init.d/log start|stop|restart" in done.stdout
    assert (done.returncode, router.commands) == (status, [])


def test_status_follows_the_process(router: Router, sleeper: subprocess.Popen[bytes]) -> None:
    (router.root / "proc" / str(sleeper.pid)).symlink_to(f"/proc/{sleeper.pid}")
    router.write("tmp/run/dropbear.pid", f"{sleeper.pid}\n")
    assert router.service("dropbear", "status").stdout == "running\n"
    (router.root / "proc" / str(sleeper.pid)).unlink()
    done = router.service("dropbear", "status")
    assert (done.stdout, done.returncode) == ("stopped\n", 3)
    assert router.service("firewall", "status").stdout == "firewall keeps no process running\n"


def test_stop_ends_the_process_and_waits_for_it(router: Router, sleeper: subprocess.Popen[bytes]) -> None:
    (router.root / "proc" / str(sleeper.pid)).symlink_to(f"/proc/{sleeper.pid}")
    router.write("tmp/run/dropbear.pid", f"{sleeper.pid}\n")
    router.service("dropbear", "stop")
    assert router.commands[0] == f"kill {sleeper.pid}"
    assert set(router.commands[1:]) == {"sleep 0.1"}, "it was not killed here, so it was waited for"
    assert len(router.commands) == 21


def test_stop_without_a_process_does_nothing(router: Router) -> None:
    router.write("tmp/run/dropbear.pid", "999999999\n")
    assert router.service("dropbear", "stop").returncode == 0
    assert router.commands == []


# --- sysfixtime ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "kept", "set_to"),
    [
        ("1000", None, None),
        ("4000000000", None, "4000000000"),
        ("1000", "4000000000", "4000000000"),
        ("4000000000", "3900000000", "4000000000"),
        ("1000", "$(id)", None),
        ("1000", "-4000000000", None),
        ("1000", "", None),
        ("1000", "999999999999999999999999", None),
        ("1000", "4000000000 x", None),
    ],
)
def test_the_clock_is_only_ever_set_forward(router: Router, image: str, kept: str | None, set_to: str | None) -> None:
    router.write("etc/livebuilder/epoch", f"{image}\n")
    if kept is not None:
        router.write("etc/livebuilder/clock", f"{kept}\n")
    assert router.service("sysfixtime", "boot").stderr == ""
    settings = [command for command in router.commands if command.startswith("date")]
    assert settings == ([f"date -s @{set_to}"] if set_to else [])


def test_the_time_of_the_shutdown_is_kept(router: Router) -> None:
    before = int(time.time())
    router.service("sysfixtime", "shutdown")
    assert before <= int(router.read("etc/livebuilder/clock")) <= time.time()
    assert {file.name for file in (router.root / "etc/livebuilder").iterdir()} == {"clock", "epoch"}


# --- boot, hotplug, log, done --------------------------------------------------------------------------------------


def _device(router: Router, bus: str, name: str, modalias: str) -> None:
    router.write(f"sys/bus/{bus}/devices/{name}/modalias", modalias + "\n")


def test_one_modprobe_loads_drivers_for_all_hardware(router: Router) -> None:
    _device(router, "pci", "0000:00:03.0", "pci:v000010ECd00008139sv*")
    _device(router, "pci", "0000:00:04.0", "pci:v000010ECd00008139sv*")
    _device(router, "usb", "1-1:1.0", "usb:v0627p0001 [odd]")
    router.write("etc/config/system", "config system\n\toption hostname 'attic-pc'\n")
    assert router.service("boot", "boot").stderr == ""
    assert router.commands[:2] == [
        "hostname attic-pc",
        "modprobe -a -b -q pci:v000010ECd00008139sv* usb:v0627p0001 [odd]",
    ]
    wait_for_commands(router, 3)
    assert router.commands[2:] == ["uevent /lib/livebuilder/hotplug"]
    assert int(router.read("tmp/run/uevent.pid")) > 1


def test_what_appears_behind_a_driver_gets_its_own(router: Router) -> None:
    _device(router, "pci", "0000:00:03.0", "pci:v00001AF4")
    recorder = router.root.parent / "recorder"
    virtio = router.root / "sys/bus/virtio/devices/virtio0"
    recorder.write_text(
        f'#!/bin/sh\necho "$*" >>"$RECORD"\n'
        f"case $* in modprobe*) mkdir -p {virtio}; echo virtio:d00000001 >{virtio}/modalias ;; esac\n"
    )
    recorder.chmod(0o755)
    router.service("boot", "boot")
    loads = [command for command in router.commands if command.startswith("modprobe")]
    assert loads == ["modprobe -a -b -q pci:v00001AF4", "modprobe -a -b -q pci:v00001AF4 virtio:d00000001"]


def test_a_pc_without_any_alias_boots_too(router: Router) -> None:
    assert router.service("boot", "boot").returncode == 0
    assert not any(command.startswith("modprobe") for command in router.commands)


@pytest.mark.parametrize(
    ("event", "commands"),
    [
        ({"ACTION": "add", "MODALIAS": "usb:v0627p0001d0000"}, ["modprobe -b -q usb:v0627p0001d0000"]),
        ({"ACTION": "remove", "MODALIAS": "usb:v0627p0001d0000"}, []),
        ({"ACTION": "move", "SUBSYSTEM": "net", "INTERFACE": "wan"}, []),
        ({"ACTION": "remove", "SUBSYSTEM": "net", "INTERFACE": "eth0"}, ["/lib/router/card remove eth0"]),
        ({"ACTION": "add", "SUBSYSTEM": "block"}, []),
        ({"ACTION": "add", "SUBSYSTEM": "net", "INTERFACE": "eth1"}, ["/lib/router/card add eth1"]),
    ],
)
def test_hotplug(router: Router, event: dict[str, str], commands: list[str]) -> None:
    router.script("lib/livebuilder/hotplug", env=event)
    assert router.commands == commands


def test_messages_are_kept_in_memory(router: Router) -> None:
    router.service("log", "boot")
    assert router.commands == ["syslogd -C64 -l 7", "klogd"]


def test_log_is_stopped_whole_and_not_started_twice(router: Router) -> None:
    for name, pid in (("syslogd", "4242"), ("klogd", "4243")):
        router.write(f"tmp/run/{name}.pid", f"{pid}\n")
        (router.root / "proc" / pid).mkdir(parents=True)
    router.service("log", "start")
    router.service("log", "stop")
    assert [command for command in router.commands if command != "sleep 0.1"] == ["kill 4243", "kill 4242"]


def test_a_watchdog_is_fed_where_there_is_one(router: Router) -> None:
    router.service("watchdog", "boot")
    assert router.commands == []
    router.write("dev/watchdog", "")
    router.service("watchdog", "boot")
    assert router.commands == ["watchdog -t 10 -T 60 /dev/watchdog"]


@pytest.mark.parametrize(
    ("option", "zone"),
    [("", "UTC0"), ("\toption timezone 'CET-1CEST,M3.5.0,M10.5.0/3'\n", "CET-1CEST,M3.5.0,M10.5.0/3")],
)
def test_services_and_logins_go_by_the_time_zone(router: Router, option: str, zone: str) -> None:
    router.write("etc/config/system", f"config system\n{option}")
    router.service("boot", "boot")
    assert router.read("tmp/TZ") == f"{zone}\n"
    router.write("etc/TZ", router.read("tmp/TZ"))
    router.write("etc/init.d/zone", '#!/bin/sh /etc/rc.common\nstart() { echo "$TZ"; }\n')
    assert router.service("zone", "start").stdout == f"{zone}\n"
    assert router.sh(["-c", '. "$ROOT/etc/profile"; sh -c "echo zone: \\$TZ"']).stdout.endswith(f"zone: {zone}\n")


def test_one_after_the_other_has_its_turn(router: Router) -> None:
    """Another process of the service holds the lock, and lives until the second look."""
    lock = router.root / "tmp/lock/log"
    lock.parent.mkdir(parents=True)
    lock.symlink_to("4242")
    (router.root / "proc/4242").mkdir(parents=True)
    recorder = router.root.parent / "recorder"
    recorder.write_text(f'#!/bin/sh\necho "$*" >>"$RECORD"\n[ "$1" != sleep ] || rmdir "{router.root}/proc/4242"\n')
    recorder.chmod(0o755)
    router.service("log", "start")
    assert router.commands == ["sleep 0.1", "sleep 0.1", "syslogd -C64 -l 7", "klogd"]
    assert not lock.is_symlink()


def test_the_last_word_goes_to_every_console_that_is_there(router: Router) -> None:
    for tty in ("tty1", "ttyS0", "ttyS1"):
        router.write(f"dev/{tty}", "")
    router.write("etc/inittab", router.read("etc/inittab") + "#absent#ttyS1::askfirst:/lib/router/login\n")
    router.service("done", "boot")
    for tty in ("tty1", "ttyS0"):
        assert router.read(f"dev/{tty}").startswith("\nlivebuilder: NOBODY KNOWS WHETHER CHANGES ARE KEPT, ")
    assert router.read("dev/ttyS1") == ""


@pytest.mark.parametrize(("before", "after"), [("7\t4\t1\t7\n", "4\n"), ("8\t4\t1\t7\n", "8\t4\t1\t7\n")])
def test_the_kernel_is_quiet_at_the_prompt_unless_asked_for_all(router: Router, before: str, after: str) -> None:
    router.write("proc/sys/kernel/printk", before)
    for tty in ("tty1", "ttyS0"):
        router.write(f"dev/{tty}", "")
    router.service("done", "boot")
    assert router.read("proc/sys/kernel/printk") == after
