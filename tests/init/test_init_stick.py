"""initramfs/lib/stick.sh: checked, mounted, proven; and never made into anything it was not."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.process import run
from tests.support.init import InitMachine

_MOUNT = (
    'STORAGE_REASON="" STORAGE_FSCK="" LB_NAME=attic-pc MEMORY_FOR_STICK="${MEMORY-8192}";'
    ' mount_stick sda1 "${FSTYPE-ext4}"; echo "$?";'
    ' echo "$STORAGE_STATE|$STORAGE_FSCK|$STORAGE_REASON|$PROBLEM"'
)


def _with_e2fsck(machine: InitMachine, exit_code: int, said: str = "clean") -> None:
    machine.write("newroot/sbin/e2fsck", "").chmod(0o755)
    machine.hooks["chroot"] = f'echo "rootfs_data: {said}"; exit {exit_code}'


@pytest.fixture
def plugged(machine: InitMachine, tmp_path: Path) -> InitMachine:
    (tmp_path / "disk").write_bytes(b"\0" * 1024)
    machine.add_disk("sda1", tmp_path / "disk")
    return machine


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (0, "mount"), (1, "mount"), (2, "reboot"), (3, "reboot"), (4, "refuse"), (5, "refuse"), (6, "refuse"),
        (7, "refuse"), (8, "refuse"), (12, "refuse"), (16, "refuse"), (32, "refuse"), (33, "refuse"), (128, "refuse"),
        (139, "refuse"), (126, "unchecked"), (127, "unchecked"),
    ],
)  # fmt: skip
def test_the_exit_code_is_read_as_a_sum(machine: InitMachine, code: int, verdict: str) -> None:
    assert machine.call(f'fsck_verdict {code}; echo "$FSCK_VERDICT"').stdout == f"{verdict}\n"


@pytest.mark.parametrize("code", [0, 1])
def test_a_sound_or_repaired_stick_is_mounted(plugged: InitMachine, code: int) -> None:
    _with_e2fsck(plugged, code)
    assert plugged.call(_MOUNT).stdout == f"0\npersistent|{code}||\n"
    order = [line for line in plugged.commands if line.startswith(("chroot", "mount -t ext4"))]
    assert order == ["chroot /newroot /sbin/e2fsck -p /dev/sda1", "mount -t ext4 -o noatime /dev/sda1 /stick"]
    assert "e2fsck: rootfs_data: clean" in plugged.log


@pytest.mark.parametrize("code", [4, 8, 12])
def test_beyond_repair_is_not_mounted_at_all(plugged: InitMachine, code: int) -> None:
    _with_e2fsck(plugged, code, said="UNEXPECTED INCONSISTENCY")
    status, facts = plugged.call(_MOUNT).stdout.splitlines()
    assert status == "1"
    assert facts.split("|")[1] == str(code)
    assert f"could not repair /dev/sda1 (exit {code})" in facts
    assert not [line for line in plugged.commands if line.startswith("mount -t")]


# -- what e2fsck wrote before it gave up is put back; these run the real tools on a real file system ---------


def _with_real_tools(machine: InitMachine, folder: Path, *damage: str) -> Path:
    """Plug a stick in that was made by mke2fs and damaged by debugfs; the root's tools are the host's."""
    for tool in ("e2fsck", "e2undo"):
        machine.write(f"newroot/sbin/{tool}", "").chmod(0o755)
    (machine.root / "newroot/dev").symlink_to(machine.root / "dev")  # as if it were mounted there
    machine.hooks["chroot"] = (
        "shift 2; tool=${1##*/}; shift\nfor word; do case $word in /dev/*) word=$ROOT$word ;; esac\n"
        'set -- "$@" "$word"; shift; done\nexec "$tool" "$@"'
    )
    stick = folder / "stick"
    with stick.open("wb") as stream:
        stream.truncate(8 << 20)
    (folder / "files/upper").mkdir(parents=True)
    run(["mke2fs", "-q", "-t", "ext4", "-L", "rootfs_data", "-d", folder / "files", stick])
    for request in (*damage, "set_super_value state 0"):
        run(["debugfs", "-w", "-R", request, stick])
    machine.add_disk("sdb1", stick)
    return stick


_MOUNT_SDB1 = _MOUNT.replace("sda1", "sdb1")
_A_FILE_FOR_A_FOLDER = "set_inode_field /upper mode 0100644"
_ROOMY = {"MEMORY": str(8192 + 4096)}


def test_beyond_repair_every_byte_is_as_it_was(machine: InitMachine, tmp_path: Path) -> None:
    stick = _with_real_tools(machine, tmp_path, _A_FILE_FOR_A_FOLDER)
    before = stick.read_bytes()
    done = machine.call(_MOUNT_SDB1, env=_ROOMY)
    assert done.stdout.startswith("1\nvolatile|4||e2fsck could not repair /dev/sdb1 (exit 4)")
    assert stick.read_bytes() == before
    assert "mount -t tmpfs -o mode=0700,size=4096k undo /newroot/dev/e2undo" in machine.commands
    assert "umount /newroot/dev/e2undo" in machine.commands
    assert not (machine.root / "dev/e2undo").exists()


def test_what_can_be_repaired_is_not_put_back(machine: InitMachine, tmp_path: Path) -> None:
    stick = _with_real_tools(machine, tmp_path, "freeb 1000", "set_super_value free_blocks_count 1")
    done = machine.call(_MOUNT_SDB1, env=_ROOMY)
    assert done.stdout == "0\npersistent|1||\n"
    run(["e2fsck", "-fn", stick])  # raises when it finds anything


def test_with_little_memory_e2fsck_checks_without_a_way_back(machine: InitMachine, tmp_path: Path) -> None:
    stick = _with_real_tools(machine, tmp_path, _A_FILE_FOR_A_FOLDER)
    before = stick.read_bytes()
    assert machine.call(_MOUNT_SDB1).stdout.startswith("1\nvolatile|4||")
    assert not [line for line in machine.commands if "e2undo" in line]
    assert stick.read_bytes() != before, "or there would be no use for the way back"


def test_when_the_memory_does_not_do_it_is_checked_again_without(machine: InitMachine, tmp_path: Path) -> None:
    _with_real_tools(machine, tmp_path)
    full = machine.root.parent / "tools/stat"
    full.write_text("#!/bin/sh\necho 0\n")
    full.chmod(0o755)
    assert machine.call(_MOUNT_SDB1, env=_ROOMY).stdout == "0\npersistent|0||\n"
    checks = [line for line in machine.commands if line.startswith("chroot")]
    assert checks == [
        "chroot /newroot /sbin/e2fsck -p -z /dev/e2undo/sdb1 /dev/sdb1", "chroot /newroot /sbin/e2fsck -p /dev/sdb1",
    ]  # fmt: skip


def test_an_old_e2fsck_that_knows_no_undo_file_is_asked_without(plugged: InitMachine) -> None:
    _with_e2fsck(plugged, 0)
    plugged.write("newroot/sbin/e2undo", "").chmod(0o755)
    plugged.failing["chroot * -z *"] = 16  # usage
    plugged.hooks["chroot"] = "[ $code = 0 ] || exit $code"
    (plugged.root / "newroot/dev/e2undo").mkdir(parents=True)
    assert plugged.call(_MOUNT, env=_ROOMY).stdout == "0\npersistent|0||\n"


def test_what_cannot_be_put_back_is_said(machine: InitMachine, tmp_path: Path) -> None:
    _with_real_tools(machine, tmp_path, _A_FILE_FOR_A_FOLDER)
    machine.failing["chroot @/newroot /sbin/e2undo *"] = 1
    machine.hooks["chroot"] = "[ $code = 0 ] || exit $code\n" + machine.hooks["chroot"]
    machine.call(_MOUNT_SDB1, env=_ROOMY)
    assert "warning: what e2fsck had changed on /dev/sdb1 could not be put back (e2undo exit 1)" in machine.console


def test_a_reboot_that_e2fsck_asks_for_happens_once(plugged: InitMachine) -> None:
    _with_e2fsck(plugged, 3)
    plugged.call(_MOUNT)
    assert plugged.commands[-3:] == ["umount /stick", "sync", "reboot -f"]
    again = plugged.call(_MOUNT)
    assert again.stdout == "0\npersistent|3||\n"
    assert plugged.commands.count("reboot -f") == 1
    plugged.call(_MOUNT)  # the mark is gone: the next time it may ask again
    assert plugged.commands.count("reboot -f") == 2


def test_a_root_without_e2fsck_mounts_all_the_same_and_says_so(plugged: InitMachine) -> None:
    assert plugged.call(_MOUNT + '; printf "%s" "$WARNINGS"').stdout == (
        "0\npersistent|||\n/dev/sda1 was not checked: this root has no e2fsck\n"
    )


def test_an_e2fsck_that_does_not_run_is_no_verdict(plugged: InitMachine) -> None:
    _with_e2fsck(plugged, 127, said="error while loading shared libraries")
    done = plugged.call(_MOUNT + '; printf "%s" "$WARNINGS"')
    assert done.stdout.startswith("0\npersistent|||\n/dev/sda1 was not checked: /sbin/e2fsck of this root does not run")


@pytest.mark.parametrize("kind", ["f2fs", "btrfs"])
def test_other_kinds_are_not_given_to_e2fsck(plugged: InitMachine, kind: str) -> None:
    _with_e2fsck(plugged, 8)
    assert plugged.call(_MOUNT, env={"FSTYPE": kind}).stdout == "0\npersistent|||\n"
    assert f"mount -t {kind} -o noatime /dev/sda1 /stick" in plugged.commands


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4"])
def test_every_ext_is_mounted_by_the_driver_that_knows_all(plugged: InitMachine, kind: str) -> None:
    plugged.call(_MOUNT, env={"FSTYPE": kind})
    assert "mount -t ext4 -o noatime /dev/sda1 /stick" in plugged.commands


def test_a_kernel_without_the_driver_is_a_reason(plugged: InitMachine) -> None:
    plugged.write("proc/filesystems", "\text4\n")
    done = plugged.call(_MOUNT, env={"FSTYPE": "f2fs"})
    assert done.stdout.endswith("|the kernel of this image has no driver for f2fs\n")


@pytest.mark.parametrize(
    ("kind", "second"), [("ext4", "noload"), ("f2fs", "norecovery"), ("btrfs", "rescue=nologreplay")]
)
def test_write_protected_is_mounted_read_only(plugged: InitMachine, kind: str, second: str) -> None:
    _with_e2fsck(plugged, 8)
    plugged.write("sys/class/block/sda1/ro", "1\n")
    plugged.failing["*ro,noatime @/dev/sda1 @/stick"] = 255  # a journal to replay
    done = plugged.call(_MOUNT, env={"FSTYPE": kind})
    assert done.stdout == "0\nread-only||/dev/sda1 is write-protected|\n"
    assert not [line for line in plugged.commands if line.startswith("chroot")]
    assert f"mount -t {kind} -o ro,noatime,{second} /dev/sda1 /stick" in plugged.commands


def test_a_mount_that_is_refused_is_tried_read_only(plugged: InitMachine) -> None:
    plugged.failing["mount -t ext4 -o noatime *"] = 255
    assert plugged.call(_MOUNT).stdout == "0\nread-only||/dev/sda1 could not be mounted writable|\n"


def test_what_cannot_be_mounted_at_all_is_not_used(plugged: InitMachine) -> None:
    plugged.failing["mount -t ext4 *"] = 255
    status, facts = plugged.call(_MOUNT).stdout.splitlines()
    assert (status, facts.rpartition("|")[2]) == ("1", "/dev/sda1 could not be mounted writable, nor read-only either")


def test_a_stick_that_does_not_keep_what_is_written_is_not_persistent(plugged: InitMachine) -> None:
    plugged.hooks["dd"] = 'echo "dd: error writing: Input/output error" >&2; exit 1'
    assert plugged.call(_MOUNT).stdout == "0\nread-only||/dev/sda1 does not keep what is written to it|\n"


def test_a_stick_that_forgets_silently_is_found_out(plugged: InitMachine) -> None:
    plugged.hooks["dd"] = "exit 0"  # says it wrote
    assert plugged.call(_MOUNT).stdout.startswith("0\nread-only|")


def test_a_full_stick_is_still_used(plugged: InitMachine) -> None:
    plugged.hooks["dd"] = 'echo "dd: error writing: No space left on device" >&2; exit 1'
    done = plugged.call(_MOUNT + '; echo "$STICK_FULL"')
    assert done.stdout == "0\npersistent|||\nyes\n"
    assert "is full: nothing more can be saved" in plugged.console


def test_the_proof_leaves_nothing_behind(plugged: InitMachine) -> None:
    plugged.call(_MOUNT)
    assert list((plugged.root / "stick").iterdir()) == []


def test_nothing_makes_a_file_system_on_a_stick(plugged: InitMachine) -> None:
    _with_e2fsck(plugged, 0)
    plugged.call(_MOUNT)
    assert not [line for line in plugged.commands if "mk" in line and "mkdir" not in line]
