"""initramfs/router/lib/livebuilder/unmount: end everything, leave the stick clean. The boots prove the result."""

from __future__ import annotations

import pytest

from tests.support.router import Router

_MOUNTS = """\
proc /proc proc rw 0 0
/dev/loop7 /rom ext2 ro 0 0
/dev/sda1 /overlay ext4 rw 0 0
overlayfs:/overlay / overlay rw 0 0
tmpfs /tmp tmpfs rw 0 0
/dev/sdb1 /mnt ext4 rw 0 0
/dev/sdb2 /mnt/in\\040side vfat rw 0 0
tmpfs /mnt/ram tmpfs rw 0 0
"""
_LAST = ["sync", "mount -o remount,ro /", "mount -o remount,ro /overlay", "sync"]


@pytest.fixture
def router(router: Router) -> Router:
    router.write("proc/mounts", _MOUNTS)
    router.write("proc/1/cmdline", "init\0")
    router.write("proc/2/cmdline", "")  # a kernel thread
    router.write("proc/sysrq-trigger", "")
    return router


def test_the_stick_is_made_read_only_after_the_overlay(router: Router) -> None:
    assert router.script("lib/livebuilder/unmount").stderr == ""
    assert router.commands[-4:] == _LAST
    assert router.read("proc/sysrq-trigger") == ""


def test_what_people_mounted_goes_first_and_last_in_first_out(router: Router) -> None:
    router.script("lib/livebuilder/unmount")
    assert router.commands[:-4] == ["umount /mnt/ram", "umount /mnt/in side", "umount /mnt"]


def test_what_cannot_be_unmounted_is_made_read_only(router: Router) -> None:
    router.failing = "'umount /mnt'"
    router.script("lib/livebuilder/unmount")
    assert "mount -o remount,ro /mnt" in router.commands


def test_nothing_is_killed_when_nothing_runs(router: Router) -> None:
    router.script("lib/livebuilder/unmount")
    assert not any(command.startswith("kill") for command in router.commands)


def test_processes_are_asked_then_killed_with_a_bound(router: Router) -> None:
    router.write("proc/77/cmdline", "stubborn\0x\0")
    router.script("lib/livebuilder/unmount")
    waits = [command for command in router.commands if not command.startswith(("umount", *_LAST))]
    assert waits == ["kill -TERM -1", *["sleep 0.1"] * 20, "kill -KILL -1", *["sleep 0.1"] * 10]
    assert router.commands[-4:] == _LAST


def test_a_stick_still_in_use_is_forced(router: Router) -> None:
    router.failing = "*ro\\ /overlay"
    done = router.script("lib/livebuilder/unmount")
    assert "forcing it read-only" in done.stderr
    assert router.read("proc/sysrq-trigger") == "u\n"
    assert router.commands[-2:] == ["sleep 1", "sync"]


def test_without_a_stick_there_is_nothing_to_force(router: Router) -> None:
    router.write("proc/mounts", "/dev/loop7 / ext2 rw 0 0\n")
    router.failing = "*remount*"
    router.script("lib/livebuilder/unmount")
    assert router.commands == ["sync", "mount -o remount,ro /", "sync"]
    assert router.read("proc/sysrq-trigger") == ""
