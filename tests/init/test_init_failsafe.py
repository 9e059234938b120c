"""initramfs/lib/failsafe.sh and console.sh: an f in time keeps the stick's settings out, and nothing else does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.init.test_init_rootimage import add_payload, configure
from tests.init.test_init_search import ext4
from tests.support.init import InitMachine

# The readers are as quick as they are; what was typed early is known when the stick is mounted.
_UNTIL_HEARD = """
case $* in
    *"$ROOT/stick") while [ ! -s "$ROOT/run/heard" ]; do :; done ;;
esac
"""
_REASON = (
    "failsafe mode: the settings on /dev/sdb1 are not used; they are in /overlay/upper, and reboot starts with them"
    " again"
)
_OVERLAY = "overlayfs:/overlay /merged"


@pytest.fixture
def built(machine: InitMachine, tmp_path: Path) -> InitMachine:
    configure(machine)
    add_payload(machine)
    machine.add_disk("sdb1", ext4(tmp_path / "stick"))
    machine.write("stick/upper/etc/config/network", "mine")
    return machine


def overlays(machine: InitMachine) -> list[str]:
    return [line for line in machine.commands if line.endswith(_OVERLAY)]


@pytest.mark.parametrize("console", ["tty0", "ttyS0", None])
def test_it_is_asked_for_at_any_console_or_by_the_word(built: InitMachine, console: str | None) -> None:
    if console is None:
        built.write("proc/cmdline", "lb.failsafe\n")
    else:
        built.hooks["mount"] = _UNTIL_HEARD
        built.write(f"dev/{console}", "\x00~#\nff\nf\n")
    assert built.boot().returncode == 0
    storage = built.record["storage"]
    assert (built.record["failsafe"], storage["state"], storage["device"]) == (True, "volatile", "/dev/sdb1")
    assert storage["reason"] == _REASON
    assert overlays(built) == []
    assert "mount -o move /stick /newroot/overlay" in built.commands
    assert built.commands[-1] == "switch_root -c /dev/console /newroot /etc/preinit"
    assert (built.root / "stick/upper/etc/config/network").read_text() == "mine"
    assert not (built.root / "stick/.livebuilder").exists(), "nothing is noted on the stick"
    assert f'storage=volatile reason="{storage["reason"]}" seconds=' in built.console
    offer = "press the [f] key and hit [enter] to enter failsafe mode"
    assert (offer in built.console) == (console is not None)


@pytest.mark.parametrize(
    ("typed", "understood"),
    [("f\n", True), ("F\n", True), ("x\nf\nx\n", True), ("", False), ("\n", False), ("ff\n", False), ("f f\n", False),
     ("f", False), ("\xff\x8fxf\n\n\nfx\n", False), ("press the [f] key\n", False), ("\\f\n", False)],
)  # fmt: skip
def test_only_a_line_that_is_the_word_counts(machine: InitMachine, typed: str, understood: bool) -> None:
    (machine.root / "dev/ttyS0").write_bytes(typed.encode("latin-1"))
    done = machine.call('hear f F <"$ROOT/dev/ttyS0"; heard && echo "heard $HEARD"')
    assert bool(done.stdout) == understood


def test_left_alone_the_settings_are_used(built: InitMachine) -> None:
    built.boot()
    assert (built.record["failsafe"], built.record["storage"]["state"]) == (False, "persistent")
    assert len(overlays(built)) == 1


def test_without_a_stick_the_reason_says_both(machine: InitMachine) -> None:
    configure(machine)
    add_payload(machine)
    machine.write("proc/cmdline", "lb.failsafe lb.settle=0\n")
    machine.boot()
    assert machine.record["failsafe"] is True
    assert machine.record["storage"]["reason"] == "failsafe mode; no stick labelled rootfs_data"
    assert "mount -o move /stick /newroot/overlay" not in machine.commands


def test_where_no_stick_is_wanted_nothing_is_offered(built: InitMachine) -> None:
    built.write("proc/cmdline", "lb.storage=off\n")
    built.boot()
    assert "failsafe" not in built.console


def test_over_a_squashfs_the_stick_is_at_overlay_too(machine: InitMachine) -> None:
    (machine.root / "stick/upper").mkdir(parents=True)
    done = machine.call(
        "LB_VERSION=1 LB_NAME=a LB_KERNEL=6 ROOT_MODE=squashfs ROOT_DEVICE=/dev/loop7 ROOT_TOOK=1 ROOT_SIZE_BYTES=2"
        " ROOT_USED_BYTES=1 ROOT_ATTEMPTS=1 ROOT_REASON= MEMORY_TOTAL=3 MEMORY_AVAILABLE=2 MEMORY_NEEDED=1"
        " STORAGE_DEVICE=/dev/sda1 STORAGE_STATE=persistent FAILSAFE=yes;"
        ' enter_failsafe; lay_overlay; echo "$STORAGE_STATE|$FINAL_ROOT"'
    )
    assert done.stdout.replace(str(machine.root), "") == "volatile|/merged\n"
    assert [line for line in machine.commands if line.startswith("mount")] == [
        "mount -t tmpfs -o mode=0755,noatime tmpfs /ramlayer",
        f"mount -t overlay -o noatime,lowerdir=/newroot,upperdir=/ramlayer/upper,workdir=/ramlayer/work {_OVERLAY}",
        "mount -o move /stick /merged/overlay",
        "mount -t overlay -o ro,lowerdir=/newroot overlay /merged/rom",
    ]


def test_the_root_in_its_login_says_so(machine: InitMachine) -> None:
    machine.write("newroot/etc/banner", "OpenWrt\n")
    machine.call("STORAGE_STATE=volatile STORAGE_REASON=why FAILSAFE=yes LB_BANNER=yes LB_FSTAB=no; correct_root")
    assert "*** FAILSAFE MODE: CHANGES ARE NOT KEPT ***" in (machine.root / "newroot/etc/banner").read_text()


def test_nobody_reads_the_consoles_when_a_shell_does(machine: InitMachine) -> None:
    """A fifo stands for a terminal on which nobody types: its reader would wait for ever. Another one has ended."""
    console = machine.root / "dev/ttyS0"
    console.unlink()
    os.mkfifo(console)
    holder = os.open(console, os.O_RDWR)
    try:
        machine.hooks["setsid"] = 'kill -0 $(cat "$ROOT/listeners") 2>/dev/null && echo a reader is left || echo alone'
        done = machine.call(
            'RESCUE_WANTED=yes; offer_failsafe; echo "${LISTENERS##* }" >"$ROOT/listeners";'
            " wait ${LISTENERS% *}; kill -0 ${LISTENERS##* } && echo reads;"
            ' offer_rescue_shell; enter_failsafe; echo "$LISTENERS|$STORAGE_STATE|$FAILSAFE"'
        )
    finally:
        os.close(holder)
    assert done.stdout.splitlines() == ["reads", "alone", "|volatile|no"]
