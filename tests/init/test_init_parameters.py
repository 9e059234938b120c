"""initramfs/lib/parameters.sh: the kernel's command line."""

from __future__ import annotations

import pytest

from tests.support.init import InitMachine

_SHOW = (
    "LB_STORAGE_LABEL=rootfs_data LB_STORAGE_SETTLE=15; read_parameters 2>/dev/null;"
    ' printf "%s|%s|%s|%s|%s" "$LB_STORAGE_LABEL" "$LB_STORAGE_SETTLE" "$STORAGE_WANTED" "$RESCUE_WANTED"'
    ' "${DEBUG_WANTED-no}"'
)
_DEFAULT = "rootfs_data|15|yes|no|no"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", _DEFAULT),
        ("quiet console=ttyS0 root=/dev/sda lbx.label=no xlb.storage=off", _DEFAULT),
        ("lb.label=other", "other|15|yes|no|no"),
        ("lb.label=one lb.label=two", "two|15|yes|no|no"),
        ("lb.label=a=b*c", "a=b*c|15|yes|no|no"),
        ('lb.label="my own stick" quiet', "my own stick|15|yes|no|no"),
        ('"lb.label=my own stick" lb.rescue', "my own stick|15|yes|yes|no"),
        ('lb.label="open end', "open end|15|yes|no|no"),
        ("lb.storage=off", "rootfs_data|15|no|no|no"),
        ("lb.settle=0", "rootfs_data|0|yes|no|no"),
        ("lb.settle=008", "rootfs_data|8|yes|no|no"),
        ("lb.settle=600", "rootfs_data|600|yes|no|no"),
        ("lb.rescue lb.debug", "rootfs_data|15|yes|yes|yes"),
        ("lb.settle=3 lb.label=* lb.storage=off", "*|3|no|no|no"),
    ],
)
def test_a_word_is_understood(machine: InitMachine, line: str, expected: str) -> None:
    machine.write("proc/cmdline", line + "\n")
    assert machine.call(_SHOW).stdout.rpartition("\n")[2] == expected


@pytest.mark.parametrize(
    ("line", "wanted"),
    [("", "keep"), ("lb.stale=hide", "hide"), ("lb.stale=keep", "keep"), ("lb.stale=hide lb.stale=keep", "keep")],
)
def test_what_becomes_of_stale_files(machine: InitMachine, line: str, wanted: str) -> None:
    machine.write("proc/cmdline", f"{line}\n")
    assert machine.call('read_parameters; echo "$STALE_WANTED"').stdout == f"{wanted}\n"


@pytest.mark.parametrize(
    "word",
    [
        "lb.foo", "lb.label=", "lb.label", "lb.storage=on", "lb.storage", "lb.settle=", "lb.settle=-1", "lb.settle=601",
        "lb.settle=1.5", "lb.settle=99999", "lb.settle=0x10", "lb.rescue=1", "lb.debug=yes", "lb.stale", "lb.stale=off",
        "lb.", "lb.LABEL=x",
    ],
)  # fmt: skip
def test_a_word_that_is_not_understood_changes_nothing_and_is_reported(machine: InitMachine, word: str) -> None:
    machine.write("proc/cmdline", f"quiet {word} console=ttyS0\n")
    done = machine.call(_SHOW + '; printf "\\n%s" "$UNKNOWN_PARAMETERS"')
    assert done.stdout.splitlines() == [_DEFAULT, word]
    for place in (machine.console, (machine.root / "dev/ttyS0").read_text(), machine.log):
        assert f"livebuilder: unknown boot parameter {word} " in place


def test_control_characters_do_not_reach_the_console(machine: InitMachine) -> None:
    machine.write("proc/cmdline", "lb.\x1b[2Jfoo\n")
    machine.call(_SHOW)
    assert "lb.?[2Jfoo" in machine.console
    assert "\x1b" not in machine.console


def test_debug_shows_every_command_and_message(machine: InitMachine) -> None:
    machine.write("proc/cmdline", "lb.debug\n")
    machine.write("proc/sys/kernel/printk", "4\t4\t1\t7\n")
    assert "+ : traced" in machine.call("read_parameters; : traced").stderr
    assert (machine.root / "proc/sys/kernel/printk").read_text() == "8\n"


def test_without_debug_nothing_is_traced(machine: InitMachine) -> None:
    machine.write("proc/sys/kernel/printk", "4\t4\t1\t7\n")
    assert machine.call("read_parameters; : traced").stderr == ""
    assert (machine.root / "proc/sys/kernel/printk").read_text() == "4\t4\t1\t7\n"


def test_every_setting_has_a_value_without_the_builder(machine: InitMachine) -> None:
    machine.write("etc/livebuilder/image.conf", "LB_NAME='attic pc'\n")
    done = machine.call('read_image_configuration; echo "$LB_NAME|$LB_STORAGE_LABEL|$LB_ROOT_LOOP|$LB_ROOT_MODE"')
    assert done.stdout == "attic pc|rootfs_data|7|ext2\n"


def test_no_configuration_ends_in_a_shell_that_says_so(machine: InitMachine) -> None:
    machine.call("read_image_configuration; echo went on")
    assert "cannot go on: " in machine.console
    assert "image.conf is missing" in machine.console
