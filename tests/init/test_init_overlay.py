"""initramfs/lib/overlay.sh: OpenWrt's layout, and a root that boots when it cannot be had."""

from __future__ import annotations

import json

import pytest

from tests.support.init import InitMachine

_FACTS = (
    "LB_VERSION=0.1.0 LB_NAME=attic-pc LB_KERNEL=6.1 LB_ROOT_UUID=u ROOT_MODE=ext2 ROOT_DEVICE=/dev/loop7 ROOT_TOOK=123"
    " ROOT_SIZE_BYTES=2 ROOT_USED_BYTES=1 ROOT_ATTEMPTS=1 ROOT_REASON='' MEMORY_TOTAL=3 MEMORY_AVAILABLE=2"
    " MEMORY_NEEDED=1 LB_OVERLAY_BY=init LB_STORAGE_LABEL=rootfs_data STORAGE_DEVICE=/dev/sda1 STICK_FULL=no;"
    ' mkdir -p "$STICK"; '
)
_SHOW = '; echo "$STORAGE_STATE|$FINAL_ROOT|$STORAGE_REASON"'


def _lay(machine: InitMachine, state: str, facts: str = "") -> str:
    done = machine.call(f"{_FACTS}STORAGE_STATE={state}; {facts} lay_overlay{_SHOW}")
    return done.stdout.replace(str(machine.root), "").strip()


def _mounts(machine: InitMachine) -> list[str]:
    return [line for line in machine.commands if line.startswith("mount")]


def test_persistent(machine: InitMachine) -> None:
    assert _lay(machine, "persistent") == "persistent|/merged|"
    assert _mounts(machine) == [
        "mount -o remount,rw /newroot",
        "mount -o remount,ro /newroot",
        "mount -t overlay -o noatime,lowerdir=/newroot,upperdir=/stick/upper,workdir=/stick/work"
        " overlayfs:/overlay /merged",
        "mount -o move /stick /merged/overlay",
        "mount -o move /newroot /merged/rom",
    ]
    assert (machine.root / "newroot/rom").is_dir()
    assert (machine.root / "newroot/overlay").is_dir()
    assert (machine.root / "stick/upper").is_dir()
    assert machine.record["storage"]["state"] == "persistent"


def test_an_earlier_record_on_the_stick_does_not_hide_this_one(machine: InitMachine) -> None:
    old = machine.write("stick/upper/etc/livebuilder/boot.json", "old")
    kept = machine.write("stick/upper/etc/config/network", "mine")
    _lay(machine, "persistent")
    assert not old.exists()
    assert kept.read_text() == "mine"


def test_left_overs_in_the_work_folder_are_the_kernels_affair(machine: InitMachine) -> None:
    left = machine.write("stick/work/work/#17", "left")
    assert _lay(machine, "persistent").startswith("persistent|")
    assert left.exists()


def test_a_full_stick_gets_a_block_back_for_the_kernels_folder(machine: InitMachine) -> None:
    left = machine.write("stick/work/work/#17", "left")
    assert _lay(machine, "persistent", "STICK_FULL=yes;").startswith("persistent|")
    assert not left.exists()


def test_a_full_stick_without_the_folders_is_at_least_seen(machine: InitMachine) -> None:
    machine.failing["mkdir @/stick/upper"] = 1
    shown = _lay(machine, "persistent", "STICK_FULL=yes;")
    assert shown == "read-only|/merged|/dev/sda1 is full (/upper cannot be made on the stick)"
    assert machine.record["storage"]["state"] == "read-only"
    assert "lowerdir=/newroot,upperdir=/ramlayer/upper" in " ".join(_mounts(machine))


def test_read_only(machine: InitMachine) -> None:
    machine.write("stick/upper/etc/config/network", "mine")
    shown = _lay(machine, "read-only", "STORAGE_REASON='/dev/sda1 is write-protected';")
    assert shown == "read-only|/merged|/dev/sda1 is write-protected"
    assert (
        "mount -t overlay -o noatime,lowerdir=/stick/upper:/newroot,upperdir=/ramlayer/upper,workdir=/ramlayer/work"
        " overlayfs:/overlay /merged"
    ) in _mounts(machine)


def test_a_record_that_cannot_be_removed_is_covered(machine: InitMachine) -> None:
    old = machine.write("stick/upper/etc/livebuilder/boot.json", "old")
    _lay(machine, "read-only")
    assert old.read_text() == "old"
    covering = machine.root / "ramlayer/upper/etc/livebuilder/boot.json"
    assert json.loads(covering.read_bytes())["storage"]["state"] == "read-only"


@pytest.mark.parametrize("state", ["persistent", "read-only"])
def test_without_an_overlay_the_root_in_memory_boots(machine: InitMachine, state: str) -> None:
    machine.failing["mount -t overlay *"] = 255
    assert _lay(machine, state) == "volatile|/newroot|the overlay cannot be mounted"
    assert machine.record["storage"]["state"] == "volatile"
    assert machine.commands[-3:] == [
        "umount /stick", "mount -o remount,rw /newroot", "mkdir -p /newroot/etc/livebuilder",
    ]  # fmt: skip


def test_a_kernel_without_overlayfs(machine: InitMachine) -> None:
    machine.write("proc/filesystems", "\text4\n")
    assert _lay(machine, "persistent") == "volatile|/newroot|the kernel of this image has no overlayfs"


def test_volatile_mounts_nothing(machine: InitMachine) -> None:
    assert _lay(machine, "volatile") == "volatile|/newroot|"
    assert machine.commands == []


def test_an_old_kernels_overlayfs_has_no_work_folder(machine: InitMachine) -> None:
    machine.write("proc/filesystems", "nodev\toverlayfs\n\text4\n")
    assert _lay(machine, "persistent") == "persistent|/merged|"
    assert (
        "mount -t overlayfs -o noatime,lowerdir=/newroot,upperdir=/stick/upper overlayfs:/overlay /merged"
    ) in _mounts(machine)


def test_a_root_that_lays_the_overlay_itself_finds_the_stick_and_the_record(machine: InitMachine) -> None:
    old = machine.write("stick/upper/etc/livebuilder/boot.json", "old")
    assert _lay(machine, "persistent", "LB_OVERLAY_BY=hook;") == "persistent|/newroot|"
    assert _mounts(machine) == ["mount -o move /stick /newroot/overlay"]
    assert machine.record["storage"]["state"] == "volatile", "until the hook has done it"
    assert "preinit hook" in machine.record["storage"]["reason"]
    ready = json.loads((machine.root / "newroot/etc/livebuilder/boot.json.ready").read_bytes())
    assert (ready["storage"]["state"], ready["storage"]["reason"]) == ("persistent", None)
    assert not old.exists()
    assert all((machine.root / path).is_dir() for path in ("stick/upper", "stick/work", "newroot/rom", "newroot/mnt"))


def test_a_hook_that_gets_no_stick_is_not_told_of_one(machine: InitMachine) -> None:
    machine.failing["mount -o move @/stick @/newroot/overlay"] = 1
    assert _lay(machine, "persistent", "LB_OVERLAY_BY=hook;").startswith(
        "read-only|/merged|the stick could not be moved"
    )
    assert not (machine.root / "newroot/etc/livebuilder/boot.json.ready").exists()
