"""Every boot parameter of docs/boot-parameters.md, typed at the menu of a disc.

The first is the disc that users get; the others boot in half the time, with the same menu and the same /init.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from livebuilder.sizes import MIB
from livebuilder.vm.machine import Stick
from livebuilder.vm.shell import GuestShell
from tests.support.boots import (
    RESCUE_PROMPT,
    SECONDS,
    Boot,
    Cure,
    at_the_menu,
    observe,
    power_off,
    shows,
    time_of,
)
from tests.support.builds import BuiltImage
from tests.support.sticks import change_ext4, read_file, stick_image

pytestmark = [pytest.mark.vm, pytest.mark.network]

SETTING = "/etc/config/kept"


@pytest.fixture(scope="module")
def chosen(default_image: BuiltImage, tmp_path_factory: pytest.TempPathFactory) -> Boot:
    """`start`, by its name on the serial line, with words of ours behind it."""
    folder = tmp_path_factory.mktemp("chosen")
    usual, other = stick_image(folder / "usual.img"), stick_image(folder / "other.img")
    change_ext4(other, 'set_super_value volume_name "my stick"')
    sticks = [Stick(usual), Stick(other)]
    with at_the_menu(default_image, sticks=sticks, log=folder / "boot.log") as session:
        session.type_line('start lb.label="my stick" lb.debug lb.lable=x lb.settle=soon')
        boot, shell = observe(session)
        assert shell.run(f"echo kept > {SETTING}").status == 0
        power_off(session)
    assert read_file(other, f"upper{SETTING}") == b"kept\n"
    assert read_file(usual, f"upper{SETTING}") is None
    return boot


class TestWordsBehindAnEntry:
    """`lb.label=`, `lb.debug`, and words that nobody knows."""

    def test_lb_label_takes_the_other_stick(self, chosen: Boot) -> None:
        storage = chosen.record.storage
        assert (storage.state, storage.label) == ("persistent", "my stick")
        assert f'storage=persistent device={storage.device} label="my stick" ' in chosen.summary
        (usual,) = storage.candidates
        assert (usual.label, usual.cure) == (
            "rootfs_data",
            Cure(command=f"e2label {usual.device} 'my stick'", erases=False, here=True),
        )

    def test_unknown_words_are_on_every_console_and_in_the_record(self, chosen: Boot) -> None:
        assert chosen.record.parameters.unknown == ["lb.lable=x", "lb.settle=soon"]
        for word in chosen.record.parameters.unknown:
            for console in (chosen.text, chosen.screen):
                assert shows(
                    console, f"livebuilder: unknown boot parameter {word} (known: lb.label=NAME lb.storage=off"
                )

    def test_a_word_that_is_not_understood_changes_nothing(self, chosen: Boot) -> None:
        assert "waiting up to 15 s for a stick labelled my stick" in chosen.steps

    def test_lb_debug_shows_every_command(self, chosen: Boot) -> None:
        for command in ("build_root", "find_storage", "mount_stick sd[ab]1 ext4", "hand_over"):
            assert re.search(rf"^\++ {command}$", chosen.text, re.MULTILINE), command


def test_lb_storage_off_leaves_a_good_stick_alone(small_image: BuiltImage, tmp_path: Path) -> None:
    """Entry 2, by its number on the keyboard; and what the other tests' words do does not happen by itself."""
    stick = stick_image(tmp_path / "stick.img")
    before = stick.read_bytes()
    with at_the_menu(small_image, sticks=[Stick(stick)], log=tmp_path / "boot.log") as session:
        session.press("2", "ret")
        boot, _ = observe(session)
        power_off(session)
    storage = boot.record.storage
    assert (storage.state, storage.reason) == ("volatile", "switched off with lb.storage=off")
    assert (storage.device, storage.candidates, storage.waited_seconds) == (None, [], 0)
    for console in (boot.text, boot.screen):
        assert shows(console, 'livebuilder: root=ext2 storage=volatile reason="switched off with lb.storage=off"')
    assert "CHANGES ARE NOT KEPT: this system runs from memory only" in boot.login
    assert stick.read_bytes() == before
    # Controls: no lb.debug, no lb.rescue, no unknown word.
    assert not re.search(r"^\++ ", boot.text, re.MULTILINE)
    assert "rescue shell" not in boot.text
    assert boot.record.parameters.unknown == [] and boot.record.warnings == []


def test_lb_rescue_gives_a_shell_before_the_stick_and_exit_goes_on(small_image: BuiltImage, tmp_path: Path) -> None:
    """Entry 3, by its number on the serial line."""
    stick = stick_image(tmp_path / "stick.img")
    with at_the_menu(small_image, sticks=[Stick(stick)], log=tmp_path / "boot.log") as session:
        session.type_line("3")
        session.wait_for(r"livebuilder: rescue shell: the root is built at /newroot", timeout_seconds=SECONDS)
        session.wait_for(RESCUE_PROMPT, timeout_seconds=SECONDS)
        shell = GuestShell(session)
        there = shell.run("ls /newroot/etc/preinit /newroot/sbin/init; ls /sys/class/block; cat /proc/mounts").output
        session.type_line("exit")
        boot, _ = observe(session)
        power_off(session)
    assert "/newroot/etc/preinit" in there and "/dev/root /newroot ext2 rw" in there
    assert not re.search(r"^sd", there, re.MULTILINE), "no driver for sticks was loaded yet"
    assert (boot.record.storage.state, boot.record.storage.device) == ("persistent", "/dev/sda1")


@dataclass(frozen=True)
class Absence:
    """A boot without a stick that could be used, and what was plugged in instead: before and after."""

    boot: Boot
    consoles: str
    before: dict[str, bytes]
    after: dict[str, bytes]


@pytest.fixture(scope="module")
def absence(small_image: BuiltImage, tmp_path_factory: pytest.TempPathFactory) -> Absence:
    """`serial`, by its name; the clock counts the guest's instructions, so that a busy host does not make it late."""
    folder = tmp_path_factory.mktemp("absence")
    blank = folder / "blank.img"
    blank.write_bytes(bytes(8 * MIB))
    paths = {
        "blank": blank,
        "fat": stick_image(folder / "fat.img", fs="vfat", table="none"),
        "music": stick_image(folder / "music.img", label="music", table="dos"),
    }
    before = {name: path.read_bytes() for name, path in paths.items()}
    sticks = [Stick(path, serial=name.upper()) for name, path in paths.items()]
    with at_the_menu(
        small_image, sticks=sticks, machine="pc-2000", extra=("-icount", "shift=3"), log=folder / "boot.log"
    ) as session:
        session.type_line("serial lb.settle=8 loglevel=7")
        boot, shell = observe(session)
        consoles = shell.run("cat /sys/class/tty/console/active").output
        power_off(session)
    return Absence(boot, consoles, before, {name: path.read_bytes() for name, path in paths.items()})


class TestAbsence:
    """`lb.settle=`, and everything that is no stick of ours."""

    def test_it_waits_for_so_long_and_then_goes_on(self, absence: Absence) -> None:
        boot = absence.boot
        waiting = time_of("storage: waiting up to 8 s for a stick labelled rootfs_data", boot.steps)
        gave_up = time_of("storage=volatile", boot.steps)
        assert 8 <= gave_up - waiting <= 8 + 3
        assert boot.record.storage.waited_seconds >= 8

    def test_a_label_on_fat_is_refused_with_the_reason(self, absence: Absence) -> None:
        storage = absence.boot.record.storage
        (fat,) = (candidate for candidate in storage.candidates if candidate.fstype == "vfat")
        reason = f"{fat.device} is labelled rootfs_data, but vfat cannot hold settings: ext4, f2fs or btrfs can"
        assert (storage.state, storage.device, storage.reason) == ("volatile", None, reason)
        assert f'storage=volatile reason="{reason}"' in absence.boot.summary
        assert f"Why: {reason}" in absence.boot.login

    def test_everything_seen_is_listed_with_its_label_and_its_cure(self, absence: Absence) -> None:
        boot = absence.boot
        seen = {candidate.fstype: candidate for candidate in boot.record.storage.candidates}
        assert seen.keys() == {None, "vfat", "ext4"}
        blank, fat, music = seen[None], seen["vfat"], seen["ext4"]
        assert [disk.cure for disk in (blank, fat, music)] == [
            Cure(command=f"mke2fs -t ext4 -L rootfs_data {blank.device}", erases=True, here=True),
            Cure(command=f"mke2fs -t ext4 -L rootfs_data {fat.device}", erases=True, here=True),
            Cure(command=f"e2label {music.device} rootfs_data", erases=False, here=True),
        ]
        assert music.device.endswith("1") and not blank.device.endswith("1")
        for line in (
            f"{blank.device}  no file system  label ''",
            f"{fat.device}  vfat  label '{fat.label}'",
            f"{music.device}  ext4  label 'music'",
            f"to keep settings there: e2label {music.device} rootfs_data",
            f"to ERASE it and keep settings there: mke2fs -t ext4 -L rootfs_data {fat.device}",
        ):
            assert line in boot.login
        for line in (
            f'livebuilder:   {music.device} ext4 label="music" -- to use it: e2label {music.device} rootfs_data',
            f'{blank.device} unformatted label="" -- to erase and use it: mke2fs -t ext4 -L rootfs_data {blank.device}',
        ):
            assert line in boot.text

    def test_nothing_made_a_file_system_on_anything(self, absence: Absence) -> None:
        assert absence.after == absence.before
        assert not any(absence.after["blank"])

    def test_the_serial_entry_uses_the_serial_line_alone(self, absence: Absence) -> None:
        assert absence.consoles == "ttyS0\n"
        assert "livebuilder:" not in absence.boot.screen
