"""initramfs/lib/squashfs.sh: a root that is mounted where it lies, and can be written all the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.init.test_init_rootimage import configure
from tests.init.test_init_search import ext4
from tests.support.documents import assert_documented
from tests.support.init import InitMachine, meminfo

_BUILD = (
    'read_image_configuration; build_root; echo "$ROOT_MODE|$ROOT_DEVICE|$ROOT_ATTEMPTS|$ROOT_SIZE_BYTES|'
    '$ROOT_USED_BYTES|$LOWER|$RECORD_ROOT"'
)
# What is seen where the squashfs is mounted.
_CONTENT = """
case $* in
    *squashfs*)
        mkdir -p "$ROOT/newroot/etc/livebuilder" "$ROOT/newroot/rom" "$ROOT/newroot/overlay"
        chmod 751 "$ROOT/newroot/etc"
        printf '#!/bin/sh\\n' >"$ROOT/newroot/etc/preinit" && chmod 755 "$ROOT/newroot/etc/preinit"
        mkdir -p "$ROOT/newroot/bin" && cp "$ROOT/newroot/etc/preinit" "$ROOT/newroot/bin/sh"
        ;;
esac
"""
_KIB = 68
_OVERLAY = "overlayfs:/overlay /merged"


@pytest.fixture
def given(machine: InitMachine) -> InitMachine:
    """A machine whose initramfs brought a squashfs of 68 KiB."""
    configure(
        machine, LB_ROOT_MODE="squashfs", LB_ROOT_KIB=_KIB, LB_ROOT_USED_KIB=60, LB_ROOT_NEEDED_KIB=1500,
        LB_ROOT_DATA_KIB=200, LB_ROOT_ENTRIES=4, LB_MODULES_ROOT="'loop squashfs'",
    )  # fmt: skip
    machine.write("payload/root.squashfs", bytes(_KIB * 1024))
    machine.write("proc/filesystems", "nodev\ttmpfs\nnodev\toverlay\n\text4\n\tsquashfs\n")
    machine.hooks["mount"] = _CONTENT
    return machine


def built(machine: InitMachine) -> str:
    return machine.call(_BUILD).stdout.replace(str(machine.root), "").strip()


def record(machine: InitMachine) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(
        (machine.root / "recordlayer/etc/livebuilder/boot.json").read_bytes()
    )
    assert_documented("boot.json", found)
    return found


def summary(machine: InitMachine) -> str:
    (line,) = [line for line in machine.console.splitlines() if line.startswith("livebuilder: root=")]
    return re.sub(r" seconds=.*", "", line.removeprefix("livebuilder: "))


def test_the_image_is_mounted_where_it_lies(given: InitMachine) -> None:
    assert built(given) == f"squashfs|/dev/loop7|1|{_KIB * 1024}|61440|/recordlayer:/newroot|/recordlayer"
    for command in (
        "modprobe -a -q loop squashfs",
        "mknod -m 600 /dev/root b 7 7",
        "losetup -r /dev/loop7 /payload/root.squashfs",
        "mount -t squashfs -o ro,noatime /dev/root /newroot",
    ):
        assert command in given.commands
    assert not [line for line in given.commands if line.startswith(("mke2fs", "fallocate", "cpio"))]
    assert (given.root / "payload/root.squashfs").stat().st_size == _KIB * 1024, "it is the root"


def test_the_folders_of_the_record_look_like_those_they_hide(given: InitMachine) -> None:
    built(given)
    assert (given.root / "recordlayer/etc").stat().st_mode & 0o7777 == 0o751
    assert any(re.fullmatch(r"chown \d+:\d+ /recordlayer/etc/livebuilder", line) for line in given.commands)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("losetup -r *", "losetup /dev/loop7 failed"),
        ("mount -t squashfs *", "the squashfs cannot be mounted"),
        ("mknod *", "mknod @/dev/loop7 failed"),
        ("mount -t tmpfs * record *", "no memory for the record"),
        ("no squashfs", "the kernel has no squashfs"),
        ("no memory", "not enough memory for squashfs: need 4060 KiB, have 4059 KiB"),
        ("cut short", "the squashfs has 1000 bytes instead of 69632: not enough memory to unpack it"),
        ("missing", "the squashfs has 0 bytes instead of 69632: not enough memory to unpack it"),
    ],
)
def test_what_fails_is_told_in_the_rescue_shell(given: InitMachine, change: str, reason: str) -> None:
    match change:
        case "no squashfs":
            given.write("proc/filesystems", "nodev\ttmpfs\n")
        case "no memory":
            given.write("proc/meminfo", meminfo(total=30000, available=4059, free=4059))
        case "cut short":
            given.write("payload/root.squashfs", bytes(1000))
        case "missing":
            (given.root / "payload/root.squashfs").unlink()
        case _:
            given.failing[change] = 1
    built(given)
    assert f"cannot go on: the root could not be built: {reason.replace('@', str(given.root))}" in given.console


def test_enough_memory_is_enough(given: InitMachine) -> None:
    given.write("proc/meminfo", meminfo(total=30000, available=4060, free=4060))
    assert built(given).startswith("squashfs|")


def test_without_a_stick_changes_go_into_memory_in_openwrts_layout(given: InitMachine) -> None:
    assert given.boot().returncode == 0
    assert summary(given) == 'root=squashfs storage=volatile reason="no stick labelled rootfs_data"'
    mounts = [line for line in given.commands if line.startswith("mount")]
    at = mounts.index("mount -t tmpfs -o mode=0755,noatime tmpfs /stick")
    assert mounts[at + 1 : at + 4] == [
        "mount -t overlay -o noatime,lowerdir=/recordlayer:/newroot,upperdir=/stick/upper,workdir=/stick/work"
        f" {_OVERLAY}",
        "mount -o move /stick /merged/overlay",
        "mount -t overlay -o ro,lowerdir=/recordlayer:/newroot overlay /merged/rom",
    ]
    assert given.commands[-1] == "switch_root -c /dev/console /merged /etc/preinit"
    assert not [line for line in mounts if "remount" in line or "/newroot /merged" in line]
    root, storage = record(given)["root"], record(given)["storage"]
    assert (root["mode"], root["device"], root["uuid"], root["reason"]) == ("squashfs", "/dev/loop7", None, None)
    assert (root["size_bytes"], root["used_bytes"], root["attempts"]) == (_KIB * 1024, 61440, 1)
    assert storage["state"] == "volatile"
    assert record(given)["memory"]["needed_kib"] == 1500 + 2560


def test_with_a_stick(given: InitMachine, tmp_path: Path) -> None:
    given.add_disk("sda1", ext4(tmp_path / "stick"))
    given.write("stick/upper/etc/livebuilder/boot.json", "of an earlier boot")
    given.boot()
    assert summary(given) == "root=squashfs storage=persistent device=/dev/sda1 label=rootfs_data"
    mounts = [line for line in given.commands if line.startswith("mount -t overlay") or "move" in line]
    assert mounts[:3] == [
        "mount -t overlay -o noatime,lowerdir=/recordlayer:/newroot,upperdir=/stick/upper,workdir=/stick/work"
        f" {_OVERLAY}",
        "mount -o move /stick /merged/overlay",
        "mount -t overlay -o ro,lowerdir=/recordlayer:/newroot overlay /merged/rom",
    ]
    assert record(given)["storage"]["state"] == "persistent"
    assert not (given.root / "stick/upper/etc/livebuilder/boot.json").exists()


def test_with_a_stick_that_is_write_protected(given: InitMachine, tmp_path: Path) -> None:
    given.add_disk("sda1", ext4(tmp_path / "stick"), read_only=True)
    (given.root / "stick/upper").mkdir(parents=True)
    given.boot()
    assert summary(given).startswith("root=squashfs storage=read-only")
    assert (
        "mount -t overlay -o noatime,lowerdir=/stick/upper:/recordlayer:/newroot,upperdir=/ramlayer/upper,"
        f"workdir=/ramlayer/work {_OVERLAY}"
    ) in given.commands


def test_a_stick_that_no_overlay_can_be_laid_on_leaves_one_in_memory(given: InitMachine, tmp_path: Path) -> None:
    given.add_disk("sda1", ext4(tmp_path / "stick"))
    given.hooks["mkdir"] = '[ "$2" != "$ROOT/stick/upper" ] || [ "$#" -gt 2 ] || code=1'
    given.failing["mount -t tmpfs * ramlayer *"] = 1
    given.boot()
    assert summary(given) == 'root=squashfs storage=volatile reason="no memory for the layer over the stick"'
    assert "mount -t tmpfs -o mode=0755,noatime tmpfs /stick" in given.commands
    assert record(given)["storage"]["state"] == "volatile"


def test_where_the_view_of_the_root_cannot_be_mounted_it_is_moved(given: InitMachine) -> None:
    given.failing["mount -t overlay -o ro,*"] = 1
    given.boot()
    assert "mount -o move /newroot /merged/rom" in given.commands
    assert given.commands[-1] == "switch_root -c /dev/console /merged /etc/preinit"


@pytest.mark.parametrize("why", ["no overlay", "overlay fails"])
def test_without_an_overlay_the_root_is_copied_into_memory(given: InitMachine, why: str) -> None:
    if why == "no overlay":
        given.write("proc/filesystems", "nodev\ttmpfs\n\tsquashfs\n")
    else:
        given.failing["mount -t overlay *"] = 255
    given.hooks["umount"] = '[ "$2" != "$ROOT/newroot" ] || rm -r "$ROOT/newroot"'
    given.hooks["mount"] += 'case $* in *"move $ROOT/copy $ROOT/newroot") mv "$ROOT/copy" "$ROOT/newroot" ;; esac\n'
    given.boot()
    assert summary(given) == 'root=tmpfs storage=volatile reason="no stick labelled rootfs_data"'
    reason = {
        "no overlay": "the kernel of this image has no overlayfs",
        "overlay fails": "the overlay cannot be mounted",
    }
    found = given.record["root"]
    assert (found["mode"], found["device"], found["attempts"], found["reason"]) == ("tmpfs", "tmpfs", 2, reason[why])
    assert "mount -t tmpfs -o mode=0755,size=416k root /copy" in given.commands
    assert "losetup -d /dev/loop7" in given.commands
    assert not (given.root / "payload/root.squashfs").exists(), "its memory is given back"
    assert (given.root / "newroot/etc/preinit").exists()
    assert given.commands[-1] == "switch_root -c /dev/console /newroot /etc/preinit"


def test_a_root_that_nothing_makes_writable_boots_and_says_so(given: InitMachine) -> None:
    given.failing["mount -t overlay *"] = 255
    given.failing["cp -a *"] = 1
    given.boot()
    assert (
        "warning: nothing can be written, not even in memory: the overlay cannot be mounted; the root could not be"
        in (given.console)
    )
    assert summary(given).startswith("root=squashfs storage=volatile")
    assert given.commands[-1] == "switch_root -c /dev/console /newroot /etc/preinit"
