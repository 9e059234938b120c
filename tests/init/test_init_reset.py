"""initramfs/lib/reset.sh: the settings go aside when a person says so, all or none of them, and none is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.init.test_init_rootimage import add_payload, configure
from tests.init.test_init_search import ext4
from tests.support.init import InitMachine, make_machine

_MARK = ".livebuilder/reset"
_SETTINGS = {
    "upper/etc/config/network": "mine", "work/work/#1": "left", ".livebuilder/aside/bin/changed": "old",
    ".livebuilder/image": "aaaa attic 1\n", ".livebuilder/files": "11111111 bin/same\n", ".livebuilder/stale": "",
    "by-mac/52-54-00-AA-BB-CC/etc/rc.local": "this machine's",
}  # fmt: skip
_OTHERS = {"by-mac/00:11:22:33:44:55/etc/rc.local": "another's", ".livebuilder/history/1/etc/passwd": "saved"}
_RESET = "LB_BUILD=; STORAGE_STATE=persistent STORAGE_DEVICE=/dev/sdb1 RESET_WANTED={wanted} BY_MAC={mac}; reset_stick"
_MAC = "52-54-00-AA-BB-CC"
# The readers are as quick as they are: the first wait for an answer lasts until there is one.
_ANSWERED = '[ "$2" != 1 ] || while [ ! -s "$ROOT/run/heard" ]; do :; done'


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def fill(machine: InitMachine) -> None:
    for name, text in {**_SETTINGS, **_OTHERS}.items():
        machine.write(f"stick/{name}", text)


def answer(machine: InitMachine, text: str, console: str = "ttyS0") -> None:
    machine.write(f"dev/{console}", text)
    machine.hooks["sleep"] = _ANSWERED


def reset(machine: InitMachine, *, wanted: str = "yes", mac: str = _MAC) -> None:
    assert machine.call(_RESET.format(wanted=wanted, mac=mac)).returncode == 0


@pytest.mark.parametrize("console", ["tty0", "ttyS0"])
def test_yes_at_any_console_puts_all_of_this_machines_settings_aside(machine: InitMachine, console: str) -> None:
    fill(machine)
    answer(machine, "yess\nyes\n", console)
    reset(machine)
    kept = {f".livebuilder/old/1/{name}": text for name, text in _SETTINGS.items()}
    assert content(machine.root / "stick") == {**kept, **_OTHERS}
    for line in ("type yes and hit [enter] within 60 seconds", "those before are in /overlay/.livebuilder/old/1"):
        assert line in machine.console and line in (machine.root / "dev/ttyS0").read_text()


@pytest.mark.parametrize("typed", ["no\n", "y\nYES!\n"])
def test_otherwise_nothing_is_changed(machine: InitMachine, typed: str) -> None:
    fill(machine)
    answer(machine, typed)
    if typed != "no\n":
        del machine.hooks["sleep"]
    before = content(machine.root / "stick")
    reset(machine)
    assert content(machine.root / "stick") == before
    assert "nothing was reset, since yes was not typed" in machine.console
    waited = float((machine.root / "proc/uptime").read_text().split()[0]) - 3.08
    assert waited < 2 if typed == "no\n" else 60 <= waited <= 62


def test_the_next_one_gets_the_next_number(machine: InitMachine) -> None:
    for number in (1, 2):
        machine.write("stick/upper/etc/note", f"{number}")
        answer(machine, "yes\n")
        reset(machine, mac="")
        assert content(machine.root / "stick")[f".livebuilder/old/{number}/upper/etc/note"] == f"{number}"


def test_without_the_word_nobody_is_asked(machine: InitMachine) -> None:
    fill(machine)
    answer(machine, "yes\n")
    before = content(machine.root / "stick")
    reset(machine, wanted="no")
    assert content(machine.root / "stick") == before
    assert machine.commands == []


@pytest.mark.parametrize("state", ["read-only", "volatile"])
def test_a_stick_that_cannot_be_written_is_left_alone_and_nobody_is_asked(machine: InitMachine, state: str) -> None:
    fill(machine)
    machine.call(f"STORAGE_STATE={state} STORAGE_REASON='no stick' RESET_WANTED=yes; reset_stick")
    assert "lb.reset: nothing was reset: no stick" in machine.console
    assert machine.commands == []


def _writes(machine: InitMachine) -> list[str]:
    return [line for line in machine.commands if line.split()[0] in ("mkdir", "cp", "mv", "rm")]


def test_a_power_cut_leaves_the_old_settings_or_the_defaults(machine: InitMachine, tmp_path: Path) -> None:
    """Cut before every command that writes; the next start has the settings whole, or finishes what was decided."""
    fill(machine)
    before = content(machine.root / "stick")
    answer(machine, "yes\n")
    reset(machine)
    after, total = content(machine.root / "stick"), len(_writes(machine))
    assert total >= 10
    seen = set()
    for cut in range(total):
        home = tmp_path / f"cut{cut}"
        home.mkdir()
        other = make_machine(home, machine.shell)
        fill(other)
        answer(other, "yes\n")
        other.write("left", "x" * cut)
        die = 'if [ ! -s "$ROOT/left" ]; then kill -9 "$PPID"; exit 1; fi; truncate -s -1 "$ROOT/left"'
        for name in ("mkdir", "cp", "mv", "rm"):
            other.hooks[name] = die
        assert other.call(_RESET.format(wanted="yes", mac=_MAC)).returncode != 0
        decided = (other.root / "stick" / _MARK).exists()
        found = content(other.root / "stick")
        found.pop(".livebuilder/reset.new", None)
        if not decided:
            assert found in (before, after)
        for name in ("mkdir", "cp", "mv", "rm", "sleep"):
            (home / "hooks" / name).unlink()
            other.hooks.pop(name)
        reset(other, wanted="no", mac=_MAC if (other.root / "stick/by-mac" / _MAC).exists() else "")
        found = content(other.root / "stick")
        found.pop(".livebuilder/reset.new", None)
        assert found == (after if decided or found == after else before)
        seen.add(decided)
    assert seen == {False, True}


def test_a_stick_that_takes_no_mark_is_left_as_it_is(machine: InitMachine) -> None:
    fill(machine)
    answer(machine, "yes\n")
    machine.failing["cp @/run/reset *"] = 1
    before = content(machine.root / "stick")
    reset(machine)
    assert content(machine.root / "stick") == before
    assert "nothing was reset: /dev/sdb1 takes no more files; in failsafe mode some can be deleted" in machine.console


@pytest.mark.parametrize("command", ["mkdir", "cp"])
def test_a_full_stick_has_room_for_it(machine: InitMachine, command: str) -> None:
    """Which the first start with an image has kept free."""
    fill(machine)
    assert machine.call("keep_room").returncode == 0
    room = machine.root / "stick/.livebuilder/room"
    assert room.stat().st_size == 128 * 1024
    answer(machine, "yes\n")
    machine.hooks[command] = f"if [ -e '{room}' ]; then echo 'No space left on device' >&2; exit 1; fi"
    reset(machine)
    kept = {f".livebuilder/old/1/{name}": text for name, text in _SETTINGS.items()}
    assert content(machine.root / "stick") == {**kept, **_OTHERS}
    assert "those before are in /overlay/.livebuilder/old/1" in machine.console


def test_what_cannot_be_renamed_is_told_and_tried_again(machine: InitMachine) -> None:
    fill(machine)
    answer(machine, "yes\n")
    machine.failing["mv @/stick/upper *"] = 1
    reset(machine)
    assert "could not all be reset (/upper could not be renamed): the next start tries again" in machine.console
    assert (machine.root / "stick/upper/etc/config/network").read_text() == "mine"
    assert (machine.root / "stick" / _MARK).exists()


def test_from_the_first_line_to_the_last(machine: InitMachine, tmp_path: Path) -> None:
    configure(machine, LB_BUILD="bbbb")
    add_payload(machine)
    machine.add_disk("sdb1", ext4(tmp_path / "stick"))
    machine.write("proc/cmdline", "lb.reset\n")
    machine.write("stick/upper/etc/config/network", "mine")
    answer(machine, "yes\n")
    machine.boot()
    assert machine.record["storage"]["state"] == "persistent"
    assert "the settings were reset: those before are in /overlay/.livebuilder/old/1" in machine.record["warnings"]
    assert list((machine.root / "stick/upper").iterdir()) == []
    assert (machine.root / "stick/.livebuilder/old/1/upper/etc/config/network").read_text() == "mine"
    lay = next(n for n, line in enumerate(machine.commands) if "upperdir=/stick/upper" in line)
    renamed = next(n for n, line in enumerate(machine.commands) if re.match("mv /stick/upper ", line))
    assert renamed < lay


def test_in_failsafe_nothing_is_reset(machine: InitMachine, tmp_path: Path) -> None:
    configure(machine)
    add_payload(machine)
    machine.add_disk("sdb1", ext4(tmp_path / "stick"))
    machine.write("proc/cmdline", "lb.reset lb.failsafe\n")
    machine.write("stick/upper/etc/config/network", "mine")
    answer(machine, "yes\n")
    machine.boot()
    assert "lb.reset: nothing was reset: failsafe mode" in machine.console
    assert (machine.root / "stick/upper/etc/config/network").read_text() == "mine"
