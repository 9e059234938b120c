"""initramfs/router/etc/init.d/dropbear: who may come in, and where."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.router import Router, wait_for_commands

_HASH = "$5$salt$hashhashhash"


@pytest.fixture
def router(router: Router) -> Router:
    router.write("tmp/run/router/lan", "state=up\naddress=192.168.1.1\nprefix=24\n")
    return router


_OPEN = "dropbear -R -P /tmp/run/dropbear.pid -p 192.168.1.1:22"
_KEYS_ONLY = f"{_OPEN} -s -g"


@pytest.mark.parametrize(
    ("shadow", "command"),
    [
        ("root:*:0:0:99999:7:::\n", _KEYS_ONLY),
        ("root::0:0:99999:7:::\n", _KEYS_ONLY),
        ("root:!:0:0:99999:7:::\n", _KEYS_ONLY),
        (f"root:!{_HASH}:0:0:99999:7:::\n", _KEYS_ONLY),
        ("root:x:0:0:99999:7:::\n", _KEYS_ONLY),
        ("root:$5$:0:0:99999:7:::\n", _KEYS_ONLY),
        (f"rooty:{_HASH}:0:0:99999:7:::\nroot:*:0:::::\n", _KEYS_ONLY),
        ("", _KEYS_ONLY),
        (f"root:{_HASH}:20000:0:99999:7:::\n", _OPEN),
        (f"daemon:*:0:::::\nroot:{_HASH}:20000:0:99999:7:::", _OPEN),
    ],
)
def test_passwords_are_taken_only_when_root_has_one(router: Router, shadow: str, command: str) -> None:
    router.write("etc/shadow", shadow)
    router.service("dropbear", "start")
    assert router.commands == ["dropbearkey -t ed25519 -f /etc/dropbear/dropbear_ed25519_host_key", command]


def test_a_missing_shadow_file_means_no_password(router: Router) -> None:
    (router.root / "etc/shadow").unlink()
    router.service("dropbear", "start")
    assert router.commands[-1] == _KEYS_ONLY


def test_the_host_key_of_the_stick_is_kept(router: Router) -> None:
    router.write("etc/dropbear/dropbear_ed25519_host_key", "key")
    router.service("dropbear", "start")
    assert router.commands == [_KEYS_ONLY]


def test_an_empty_host_key_is_made_again(router: Router) -> None:
    router.write("etc/dropbear/dropbear_ed25519_host_key", "")
    router.service("dropbear", "start")
    assert router.commands[0].startswith("dropbearkey ")


def test_the_boot_does_not_wait_for_it(router: Router) -> None:
    recorder = router.root.parent / "recorder"
    recorder.write_text('#!/bin/sh\nread -r _ <"$ROOT/fifo"\necho "$*" >>"$RECORD"\n')
    recorder.chmod(0o755)
    os.mkfifo(router.root / "fifo")  # whoever reads it sleeps until somebody writes
    with subprocess.Popen(
        [*router.shell.split(), router.root / "etc/rc.common", router.root / "etc/init.d/dropbear", "boot"],
        env={**os.environ, "ROOT": str(router.root), "RUN": str(recorder), "RECORD": str(router.record)},
    ) as booting:
        assert booting.wait(10) == 0
        assert router.commands == []
        (router.root / "fifo").write_text("\n")
    wait_for_commands(router, 1)
    assert router.commands == ["/etc/init.d/dropbear start"]


def test_it_listens_where_the_lan_is(router: Router) -> None:
    router.write("tmp/run/router/lan", "state=up\naddress=10.0.0.1\nprefix=8\n")
    router.service("dropbear", "start")
    assert "-p 10.0.0.1:22 " in router.commands[-1]


def test_without_a_lan_it_waits_for_its_event(router: Router) -> None:
    (router.root / "tmp/run/router/lan").unlink()
    assert router.service("dropbear", "start").returncode == 0
    assert router.commands == []


def test_it_is_not_started_twice(router: Router) -> None:
    (router.root / "proc/4242").mkdir(parents=True)
    router.write("tmp/run/dropbear.pid", "4242\n")
    router.service("dropbear", "start")
    assert router.commands == []


@pytest.mark.parametrize(
    ("event", "commands"),
    [
        ("ifup lan br-lan", ["/etc/init.d/dropbear restart"]),
        ("ifupdate lan br-lan", ["/etc/init.d/dropbear restart"]),
        ("ifdown lan br-lan", ["/etc/init.d/dropbear stop"]),
        ("ifup wan wan", []),
    ],
)
def test_it_follows_the_lan(router: Router, event: str, commands: list[str]) -> None:
    for other in (router.root / "etc/hotplug.d/iface").iterdir():
        if not other.name.endswith("dropbear"):
            other.unlink()
    router.snippet(f'. "$ROOT/lib/router/events.sh"; iface_event {event}')
    wait_for_commands(router, len(commands))
    assert router.commands == commands
    router.service("dropbear", "disable")
    router.snippet(f'. "$ROOT/lib/router/events.sh"; iface_event {event}; sleep 0.1')
    assert router.commands == commands, "who disabled it does not want it"
