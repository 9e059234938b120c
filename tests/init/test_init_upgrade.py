"""initramfs/lib/upgrade.sh: an old stick with a new image keeps everything, and what is stale is told or put aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.init import InitMachine

OLD = "11111111 bin/same\n22222222 bin/changed\n33333333 usr/my file\n44444444 sbin/gone\n"
NEW = "11111111 bin/same\n2222aaaa bin/changed\n3333aaaa usr/my file\n55555555 bin/new\n"
_CHECK = (
    "LB_NAME=attic LB_RELEASE=2 STORAGE_STATE={state} STALE_WANTED={wanted} LB_BUILD={build}; check_stick_image;"
    ' printf "%s|%s|%s|%s" "$IMAGE_BEFORE" "$STALE_COUNT" "$STALE_HIDDEN" "$STALE_FILES"'
)


def check(
    machine: InitMachine, *, wanted: str = "keep", build: str = "bbbb", state: str = "persistent", files: str = NEW
) -> list[str]:
    """One boot's check: image before, count, hidden, and the files in one string."""
    machine.write("newroot/etc/livebuilder/files", files)
    for line in files.splitlines():
        machine.write(f"newroot/{line.partition(' ')[2]}", line)
    done = machine.call(_CHECK.format(state=state, wanted=wanted, build=build))
    assert not done.stderr
    return done.stdout.split("|")


def on_stick(machine: InitMachine, *paths: str) -> list[Path]:
    return [machine.write(f"stick/upper/{path}", f"mine: {path}") for path in paths]


def stamped(machine: InitMachine) -> None:
    """The stick was used with the old image, from the beginning."""
    (machine.root / "stick/upper").mkdir(parents=True, exist_ok=True)
    check(machine, build="aaaa", files=OLD)


def test_a_stick_is_marked_with_the_image(machine: InitMachine) -> None:
    (machine.root / "stick").mkdir()
    assert check(machine) == ["", "0", "0", ""]
    stamp = machine.root / "stick/.livebuilder"
    assert (stamp / "image").read_text() == "bbbb attic 2\n"
    assert (stamp / "files").read_text() == NEW
    assert sorted(path.name for path in stamp.iterdir()) == ["files", "image", "room", "stale"]
    written = len(machine.commands)
    assert check(machine) == ["bbbb attic 2", "0", "0", ""]
    assert len(machine.commands) == written, "the same image again writes nothing"


def test_files_that_hide_newer_ones_are_told_at_every_boot(machine: InitMachine) -> None:
    stamped(machine)
    on_stick(machine, "bin/same", "bin/changed", "usr/my file", "sbin/gone", "bin/other", "etc/config/network")
    for before in ("aaaa attic 2", "bbbb attic 2"):
        assert check(machine) == [before, "2", "0", "/bin/changed\n/usr/my file\n"]
    assert "2 files on the stick hide newer ones of this image: lb.stale=hide" in machine.console


def test_a_file_that_is_gone_is_told_no_more_and_one_made_anew_is_not_stale(machine: InitMachine) -> None:
    stamped(machine)
    mine, _ = on_stick(machine, "bin/changed", "usr/my file")
    check(machine)
    mine.unlink()
    assert check(machine)[1] == "1"


def test_back_to_the_old_image_nothing_is_stale(machine: InitMachine) -> None:
    stamped(machine)
    on_stick(machine, "bin/changed")
    assert check(machine)[1] == "1"
    assert check(machine, build="aaaa", files=OLD) == ["bbbb attic 2", "0", "0", ""]
    assert check(machine)[1] == "1", "and forth again"


def test_hidden_and_taken_back(machine: InitMachine) -> None:
    stamped(machine)
    changed, spaced, same = on_stick(machine, "bin/changed", "usr/my file", "bin/same")
    for _boot in (1, 2):
        assert check(machine, wanted="hide")[1:] == ["2", "2", "/bin/changed\n/usr/my file\n"]
        assert not changed.exists() and not spaced.exists() and same.exists()
        aside = machine.root / "stick/.livebuilder/aside/usr/my file"
        assert aside.read_text() == "mine: usr/my file"
    assert "2 files of the stick, older than this image's, are hidden" in machine.console
    assert check(machine)[1:3] == ["2", "0"]
    assert changed.read_text() == "mine: bin/changed" and spaced.exists()
    assert not (machine.root / "stick/.livebuilder/aside").exists()


def test_what_was_made_anew_while_hidden_is_never_lost(machine: InitMachine) -> None:
    stamped(machine)
    (changed,) = on_stick(machine, "bin/changed")
    check(machine, wanted="hide")
    changed.write_text("newer")
    assert check(machine, wanted="hide")[2] == "1"
    check(machine)
    assert changed.read_text() == "newer"
    assert (machine.root / "stick/.livebuilder/aside/bin/changed").read_text() == "mine: bin/changed"
    assert "/bin/changed was put aside and made anew since" in machine.console


def test_a_stick_without_a_mark_is_compared_by_content(machine: InitMachine) -> None:
    changed, _ = on_stick(machine, "bin/changed", "bin/new")
    changed.write_text("2222aaaa bin/changed")  # as in the image
    assert check(machine) == ["", "1", "0", "/bin/new\n"]
    assert check(machine)[1] == "1"


@pytest.mark.parametrize("failing", ["mkdir @/stick/.livebuilder", "cp *", "mv *"])
def test_a_stick_that_takes_no_mark_is_used_all_the_same(machine: InitMachine, failing: str) -> None:
    (machine.root / "stick/upper").mkdir(parents=True)
    machine.failing[failing] = 1
    assert check(machine)[1] == "0"
    assert "the stick could not be marked" in machine.log


@pytest.mark.parametrize(("state", "build"), [("read-only", "bbbb"), ("volatile", "bbbb"), ("persistent", "")])
def test_otherwise_nothing_is_done(machine: InitMachine, state: str, build: str) -> None:
    (machine.root / "stick").mkdir()
    assert check(machine, state=state, build=build) == ["", "0", "0", ""]
    assert machine.commands == []
