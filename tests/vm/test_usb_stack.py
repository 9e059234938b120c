"""`livebuilder usb …` on real USB devices: a Linux kernel, udevd, `usb-storage`; plugged, swapped, pulled out."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from livebuilder.process import run
from livebuilder.sizes import MIB
from livebuilder.vm.machine import Stick
from tests.support.builds import BuiltImage
from tests.support.sticks import ext4_state, probe
from tests.support.usb_guest import SECONDS, UsbGuest, kept_folders, make_initramfs, usb_guest

pytestmark = [pytest.mark.network, pytest.mark.vm]

_NULL = (
    "-blockdev", "driver=null-co,node-name=null,size=67108864,read-zeroes=on",
    "-device", "usb-storage,id=null-stick,bus=usb.0,drive=null,serial=FORGETS1,removable=on",
)  # fmt: skip


@pytest.fixture(scope="module")
def boot(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_initramfs(tmp_path_factory.mktemp("usb-guest"))


def blank(path: Path, size_bytes: int = 64 * MIB) -> Path:
    with path.open("wb") as stream:
        stream.truncate(size_bytes)
    return path


def device_of(guest: UsbGuest, serial: str) -> str:
    """The node of the stick with this serial number, as udev (not we) knows it."""
    found = guest.run(f"lsblk --noheadings --nodeps --output PATH,SERIAL | grep -w {serial}").output.split()
    assert found, f"no stick {serial}"
    return found[0]


def until(fact: Callable[[], bool], *, seconds: float = SECONDS) -> None:
    """Wait for a fact; fails when it does not come true."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.1)


# -- one PC with five sticks that stay in it ------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sticks")


@pytest.fixture(scope="module")
def pc(boot: tuple[Path, Path], folder: Path) -> Iterator[UsbGuest]:
    sticks = [
        Stick(blank(folder / "first.img"), serial="FIRST-0001"),
        Stick(blank(folder / "second.img"), serial="SECOND-0002"),
        Stick(blank(folder / "locked.img"), serial="LOCKED-0003", read_only=True),
        Stick(blank(folder / "used.img", 96 * MIB), serial="USED-0004"),
    ]
    with usb_guest(boot, folder / "share", log=folder / "boot.log", sticks=sticks, extra=_NULL) as guest:
        yield guest


def listed(guest: UsbGuest) -> dict[str, Any]:
    answer = guest.run("livebuilder --quiet usb list --json")
    assert answer.status == 0, answer.output
    return {device["serial"]: device for device in json.loads(answer.output)["devices"]}


# What an overlay leaves on a stick, made by the kernel's own: a whiteout, an opaque folder; and all that files can be.
_USE = """\
set -e
mount @1 /media
mkdir -p /tmp/lower/etc /tmp/lower/www /tmp/merged
echo old >/tmp/lower/etc/motd; echo old >/tmp/lower/www/index
mount -t overlay -o lowerdir=/tmp/lower,upperdir=/media/upper,workdir=/media/work overlay /tmp/merged
cd /tmp/merged
rm etc/motd
rm -r www; mkdir www; echo new >www/page
echo secret >etc/key; chmod 4750 etc/key; chown 12:34 etc/key; ln etc/key etc/second
ln -s key etc/link; mkfifo etc/pipe
python3 -c "import os; os.setxattr('etc/key', 'user.note', b'kept'); os.utime('etc/key', (1e9, 1e9))"
cd /; umount /tmp/merged /media
"""
# The plug is pulled while a file is in the file system's log alone: the stick as it is then, in an image.
_PULL = """\
set -e
mount @1 /media
echo late >/media/upper/late
python3 -c "import os; os.fsync(os.open('/media/upper/late', 0))"
dd if=@1 of=/tmp/pulled.img bs=1M iflag=direct
rm /media/upper/late
umount /media
"""
# A root whose `/` is a folder on the guest's /tmp, and so no mount.
_JAIL = """\
mkdir -p /tmp/jail/tmp
for entry in /*; do
    case $entry in
        /tmp) ;;
        *) if [ -L "$entry" ]; then ln -sfn "$(readlink "$entry")" "/tmp/jail$entry"
           elif [ -d "$entry" ]; then mkdir -p "/tmp/jail$entry" && mount --rbind "$entry" "/tmp/jail$entry"; fi ;;
    esac
done
for kept in @KEPT@; do mkdir -p "/tmp/jail$kept" && mount --bind "$kept" "/tmp/jail$kept"; done
mkdir -p /dev/shm && mount -t tmpfs shm /tmp/jail/dev/shm
exec chroot /tmp/jail "$@"
"""
_LIST = """\
import json, os, sys
found = {}
for folder, folders, files in os.walk("/media"):
    for name in (*folders, *files):
        path = os.path.join(folder, name)
        facts = os.lstat(path)
        keys = os.listxattr(path, follow_symlinks=False)
        notes = {key: os.getxattr(path, key, follow_symlinks=False).hex() for key in keys}
        text = open(path, "rb").read().hex() if os.path.isfile(path) and not os.path.islink(path) else ""
        target = os.readlink(path) if os.path.islink(path) else ""
        names = facts.st_nlink if os.path.isfile(path) else 0 # a whiteout has a second one below work/
        found[path] = [facts.st_mode, facts.st_uid, facts.st_gid, facts.st_rdev, names, text, target, notes]
json.dump(found, sys.stdout)
"""


def tree_of(guest: UsbGuest, node: str) -> dict[str, Any]:
    (guest.share / "list.py").write_text(_LIST)
    answer = guest.run(f"mount -o ro {node} /media && python3 /mnt/list.py; umount /media")
    found: dict[str, Any] = json.loads(answer.output)
    return {path: facts for path, facts in found.items() if "lost+found" not in path and "/work" not in path}


class TestSticks:
    """Five sticks that stay in one PC; in this order."""

    def test_list_shows_the_sticks_as_the_kernel_knows_them(self, pc: UsbGuest) -> None:
        devices = listed(pc)
        assert devices.keys() == {"FIRST-0001", "SECOND-0002", "LOCKED-0003", "USED-0004", "FORGETS1"}
        first = devices["FIRST-0001"]
        assert (first["bus"], first["removable"], first["size_bytes"]) == ("usb", True, 64 * MIB)
        assert first["path"] == device_of(pc, "FIRST-0001") and first["model"]
        assert first["may_use"] and not first["needs_erase"]
        assert [finding["code"] for finding in devices["LOCKED-0003"]["findings"] if finding["level"] == "refuse"] == [
            "read-only"
        ]

    def test_nobody_to_ask_and_no_serial_is_a_usage_error(self, pc: UsbGuest, folder: Path) -> None:
        first = device_of(pc, "FIRST-0001")
        for words in ("", "--yes", "--erase SECOND-0002", "--erase 0001"):
            answer = pc.run(f"livebuilder usb prepare {first} {words} </dev/null")
            assert answer.status == 2, answer.output
        assert not any((folder / "first.img").read_bytes())

    def test_a_dry_run_changes_no_byte(self, pc: UsbGuest, folder: Path) -> None:
        answer = pc.run(f"livebuilder usb prepare {device_of(pc, 'FIRST-0001')} --dry-run --json")
        assert answer.status == 0
        assert json.loads(answer.output)["plan"]["file_system"]["label"] == "rootfs_data"
        assert not any((folder / "first.img").read_bytes())

    @pytest.mark.parametrize("fs", ["ext4", "ext3", "ext2", "btrfs", "f2fs"])
    def test_prepare_makes_what_udev_and_the_kernel_understand(self, pc: UsbGuest, folder: Path, fs: str) -> None:
        serial = "USED-0004" if fs == "f2fs" else "FIRST-0001"  # which is larger
        first = device_of(pc, serial)
        table = "dos" if fs == "ext2" else "gpt"
        done = pc.run(f"livebuilder usb prepare {first} --erase {serial} --fs {fs} --table {table}")
        assert done.status == 0, done.output
        seen = pc.run(f"lsblk --noheadings --list --output PATH,FSTYPE,LABEL,PARTLABEL {first}").output.splitlines()
        name = [] if table == "dos" else ["rootfs_data"]
        assert seen[1].split() == [f"{first}1", fs, "rootfs_data", *name], "udev saw it without being asked"
        looked = pc.run(f"mount -o ro {first}1 /media && ls -a /media && readlink /media/.fs_state && umount /media")
        assert looked.status == 0 and {".fs_state", "upper", "work", "2"} <= set(looked.output.split())
        assert not any((folder / "second.img").read_bytes()), "one descriptor, one device"
        if fs.startswith("ext"):
            assert ext4_state(folder / "first.img").unmounted

    def test_f2fs_needs_more_room_and_says_so(self, pc: UsbGuest) -> None:
        refused = pc.run(f"livebuilder usb prepare {device_of(pc, 'FIRST-0001')} --erase FIRST-0001 --fs f2fs")
        assert refused.status == 1 and "f2fs needs 64.0 MiB" in refused.output

    def test_a_person_types_the_end_of_the_serial_number(self, pc: UsbGuest, folder: Path) -> None:
        second = device_of(pc, "SECOND-0002")
        pc.session.type_line(f"livebuilder usb prepare {second}; echo status''=$?")
        shown = pc.session.wait_for("(?s)SECOND-0002.*Type the serial number", timeout_seconds=SECONDS)[0]
        assert "It becomes:" in shown and "labelled rootfs_data" in shown
        pc.session.type_line("y")
        pc.session.wait_for("That is not", timeout_seconds=SECONDS)
        pc.session.type_line("0002")
        assert pc.session.wait_for(r"status=(\d+)", timeout_seconds=SECONDS)[1] == "0"
        assert probe(folder / "second.img")["LABEL"] == "rootfs_data"

    def test_a_write_protected_stick_is_refused(self, pc: UsbGuest) -> None:
        refused = pc.run(f"livebuilder usb prepare {device_of(pc, 'LOCKED-0003')} --erase LOCKED-0003")
        assert refused.status == 1 and "is write-protected" in refused.output

    def test_a_stick_that_forgets_is_found_out_before_it_is_used(self, pc: UsbGuest) -> None:
        refused = pc.run(f"livebuilder usb prepare {device_of(pc, 'FORGETS1')} --erase FORGETS1")
        assert refused.status == 1 and "Traceback" not in refused.output
        assert "keep" in refused.output, refused.output

    def test_a_stick_in_use_is_refused(self, pc: UsbGuest, folder: Path) -> None:
        used = device_of(pc, "USED-0004")
        assert pc.run(f"mke2fs -q -t ext4 {used} && mount {used} /media && sync").status == 0
        refused = pc.run(f"livebuilder usb prepare {used} --erase USED-0004")
        assert refused.status == 1 and "is mounted at /media: umount /media" in refused.output
        holder = "import os,time; fd=os.open('/dev/NAME', os.O_RDWR|os.O_EXCL)"
        holder += "; print('held', os.getpid(), flush=True); time.sleep(99)"
        pc.run("umount /media; sync")
        before = (folder / "used.img").read_bytes()
        pc.start(f"python3 -c {shlex.quote(holder.replace('/dev/NAME', used))}", "holder")
        until(lambda: "held" in (pc.share / "holder").read_text())
        refused = pc.run(f"livebuilder usb prepare {used} --erase USED-0004")
        assert refused.status == 1 and "Traceback" not in refused.output and "use" in refused.output
        assert (folder / "used.img").read_bytes() == before
        assert pc.run(f"kill {(pc.share / 'holder').read_text().split()[1]}").status == 0

    def test_write_puts_a_live_image_and_storage_on_it(
        self, pc: UsbGuest, folder: Path, default_image: BuiltImage
    ) -> None:
        first = device_of(pc, "FIRST-0001")
        shutil.copy(default_image.iso, pc.share)
        done = pc.run(f"livebuilder usb write /mnt/router.iso {first} --storage --erase FIRST-0001")
        assert done.status == 0, done.output
        written, iso = (folder / "first.img").read_bytes(), default_image.iso.read_bytes()
        assert written[512 : len(iso)] == iso[512:] and written[:446] == iso[:446]
        _image, storage = json.loads(run(["sfdisk", "--json", folder / "first.img"]).stdout)["partitiontable"][
            "partitions"
        ]
        assert storage["type"] == "83" and storage["start"] * 512 >= len(iso) and storage["start"] % 2048 == 0
        seen = pc.run(f"lsblk --noheadings --list --output PATH,FSTYPE,LABEL {first}2").output.split()
        assert seen == [f"{first}2", "ext4", "rootfs_data"]

    def test_adopted_checked_saved_and_restored_as_the_kernel_sees_it(self, pc: UsbGuest) -> None:
        first, second = device_of(pc, "FIRST-0001"), device_of(pc, "SECOND-0002")
        wiped = f"dd if=/dev/zero of={first} bs=1M count=2 && blockdev --rereadpt {first} && udevadm settle"
        assert pc.run(f"{wiped} && mke2fs -q -F -t ext4 -L photos {first} && udevadm settle").status == 0
        bad = pc.run(f"livebuilder usb check {first}")
        assert bad.status == 1 and "a boot would" in bad.output, bad.output
        adopted = pc.run(f"livebuilder usb adopt {first} --erase FIRST-0001")
        assert adopted.status == 0, adopted.output
        (pc.share / "use.sh").write_text(_USE.replace("@1", first))
        used = pc.run("sh /mnt/use.sh")
        assert used.status == 0, used.output
        before = tree_of(pc, first)
        assert before["/media/upper/etc/motd"][0] & 0o170000 == 0o020000, "a whiteout is a character device"
        assert "trusted.overlay.opaque" in before["/media/upper/www"][-1]
        assert before["/media/upper/etc/key"][4] == 2 and "user.note" in before["/media/upper/etc/key"][-1]
        for command in (
            f"livebuilder usb backup {first} /mnt/b.tar.zst",
            f"livebuilder usb prepare {second} --erase SECOND-0002 --fs ext3",
            f"livebuilder usb restore /mnt/b.tar.zst {second} --erase SECOND-0002",
            f"livebuilder usb check {second}",
        ):
            done = pc.run(command)
            assert done.status == 0, done.output
        assert tree_of(pc, f"{second}1") == before
        listed = json.loads(pc.run(f"livebuilder --quiet usb diff {second} --json").output)["differences"]
        what = {one["path"]: one["what"] for one in listed}
        assert what["/etc/motd"] == "deleted" and what["/www"] == "replaced" and what["/etc/key"] == "changed"
        assert pc.run(f"livebuilder usb reset {second} --erase SECOND-0002 --keep /etc/key").status == 0
        left = tree_of(pc, f"{second}1")
        assert "/media/upper/etc/key" in left and "/media/upper/www" not in left and "/media/upper/etc/motd" not in left

    def test_what_has_to_be_mounted_is_carried_from_f2fs_to_btrfs_and_back(self, pc: UsbGuest) -> None:
        used = device_of(pc, "USED-0004")
        assert pc.run(f"livebuilder usb prepare {used} --erase USED-0004 --fs f2fs").status == 0
        (pc.share / "use.sh").write_text(_USE.replace("@1", f"{used}1"))
        (pc.share / "pull.sh").write_text(_PULL.replace("@1", f"{used}1"))
        assert pc.run("sh /mnt/use.sh").status == 0
        before = tree_of(pc, f"{used}1")
        assert "trusted.overlay.opaque" in before["/media/upper/www"][-1]
        pulled = pc.run("sh /mnt/pull.sh && livebuilder usb diff /tmp/pulled.img")
        assert pulled.status == 0 and " /late\n" in pulled.output, "what is in the log alone is there too"
        for command in (
            f"livebuilder usb backup {used} /mnt/f.tar.zst",
            f"livebuilder usb prepare {used} --erase USED-0004 --fs btrfs",
            f"livebuilder usb restore /mnt/f.tar.zst {used} --erase USED-0004",
        ):
            done = pc.run(command)
            assert done.status == 0, done.output
        assert tree_of(pc, f"{used}1") == before
        assert pc.run(f"livebuilder usb reset {used} --erase USED-0004 --keep /etc/key").status == 0
        left = tree_of(pc, f"{used}1")
        assert "/media/upper/etc/key" in left and "/media/upper/www" not in left and "/media/upper/etc/motd" not in left
        assert pc.run("grep livebuilder- /proc/mounts; losetup -a").output == "", "nothing stays mounted"

    def test_in_a_chroot_that_is_no_mount_it_says_what_helps(self, pc: UsbGuest) -> None:
        used = device_of(pc, "USED-0004")
        (pc.share / "jail.sh").write_text(_JAIL.replace("@KEPT@", shlex.join(kept_folders())))
        refused = pc.run(f"unshare --mount sh /mnt/jail.sh livebuilder usb diff {used}")
        assert refused.status == 1 and "without others seeing it" in refused.output, refused.output
        done = pc.run(f"unshare --mount sh /mnt/jail.sh env TMPDIR=/dev/shm livebuilder usb diff {used}")
        assert done.status == 0 and " /etc/key" in done.output, done.output

    def test_without_udevd_the_kernel_tells_enough(self, pc: UsbGuest) -> None:
        with_udev = listed(pc)
        assert pc.run("udevadm control --exit && rm -rf /run/udev").status == 0
        without = listed(pc)
        told = ("path", "serial", "size_bytes", "bus", "removable", "read_only", "table", "volumes")
        for serial, device in with_udev.items():
            assert {key: without[serial][key] for key in told} == {key: device[key] for key in told}


# -- plugged, swapped, pulled out -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lively(boot: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[UsbGuest]:
    folder = tmp_path_factory.mktemp("lively")
    slow = blank(folder / "slow.img", 256 * MIB)
    extra = (
        "-drive", f"if=none,id=slow,format=raw,file={slow},throttling.bps-write=3000000",
        "-device", "usb-storage,id=slow-stick,bus=usb.0,drive=slow,serial=SLOW-0009,removable=on",
    )  # fmt: skip
    with usb_guest(boot, folder / "share", log=folder / "boot.log", extra=extra) as guest:
        yield guest


class TestPlugging:
    """Sticks come and go in one PC."""

    def test_ctrl_c_in_the_middle_of_a_write_says_how_it_is_left(
        self, lively: UsbGuest, default_image: BuiltImage
    ) -> None:
        shutil.copy(default_image.iso, lively.share)
        words = f"/mnt/router.iso {device_of(lively, 'SLOW-0009')} --erase SLOW-0009"
        # The installed command: what the terminal's Ctrl-C reaches is its own process.
        lively.session.type_line(f"env livebuilder usb write {words}; echo status''=$?")
        lively.session.wait_for("Writing ", timeout_seconds=SECONDS)
        time.sleep(1)
        lively.session.type_text("\x03")
        said = lively.session.wait_for(r"(?s).*?status=(\d+)\s", timeout_seconds=SECONDS)
        assert said[1] == "130" and "is half written: write it again" in said[0] and "Traceback" not in said[0]

    def test_unplugged_in_the_middle_of_a_write_it_says_so(self, lively: UsbGuest, default_image: BuiltImage) -> None:
        log = lively.share / "unplugged"
        shutil.copy(default_image.iso, lively.share)
        lively.start(
            f"livebuilder usb write /mnt/router.iso {device_of(lively, 'SLOW-0009')} --erase SLOW-0009", log.name
        )
        until(lambda: "Writing " in log.read_text() or "status " in log.read_text())
        time.sleep(1)
        lively.session.command("device_del", id="slow-stick")
        until(lambda: "status " in log.read_text())
        said = log.read_text()
        assert said.endswith("status 1\n") and "Traceback" not in said
        assert "half written" in said and "write it again" in said, said

    def test_watch_waits_for_the_stick_that_is_meant(self, lively: UsbGuest, tmp_path: Path) -> None:
        log = lively.share / "watched"
        lively.start("livebuilder usb prepare --watch --erase LATE-0006", log.name)
        until(lambda: "Waiting for a stick" in log.read_text())
        other = lively.session.plug(Stick(blank(tmp_path / "other.img"), serial="OTHER-0005"))
        lively.session.plug(Stick(blank(tmp_path / "late.img"), serial="LATE-0006"))
        until(lambda: "status " in log.read_text())
        assert log.read_text().endswith("status 0\n"), log.read_text()
        lively.run("sync")
        assert probe(tmp_path / "late.img")["LABEL"] == "rootfs_data"
        assert not any((tmp_path / "other.img").read_bytes())
        lively.session.unplug(other)

    def test_list_watch_tells_what_comes_and_goes(self, lively: UsbGuest, tmp_path: Path) -> None:
        log = lively.share / "events"
        lively.start("timeout 90 livebuilder usb list --watch", log.name)
        until(lambda: bool(log.read_text()))
        name = lively.session.plug(Stick(blank(tmp_path / "event.img"), serial="EVENT-0007"))
        until(lambda: "added: " in log.read_text() and "EVENT-0007" in log.read_text())
        lively.session.unplug(name)
        until(lambda: "removed: " in log.read_text())
        assert "Traceback" not in log.read_text()

    def test_a_target_that_is_swapped_before_the_first_write_is_left_alone(
        self, lively: UsbGuest, tmp_path: Path
    ) -> None:
        first = lively.session.plug(Stick(blank(tmp_path / "meant.img"), serial="MEANT-1111"))
        until(lambda: "MEANT-1111" in lively.run("lsblk --nodeps --output SERIAL").output)
        node = device_of(lively, "MEANT-1111")
        lively.session.type_line(f"livebuilder usb prepare {node}; echo status''=$?")
        lively.session.wait_for("Type the serial number", timeout_seconds=SECONDS)
        lively.session.unplug(first)
        lively.session.plug(Stick(blank(tmp_path / "wrong.img"), serial="WRONG-2222"))
        time.sleep(3)
        lively.session.type_line("MEANT-1111")
        assert lively.session.wait_for(r"status=(\d+)", timeout_seconds=SECONDS)[1] == "1"
        assert device_of(lively, "WRONG-2222") == node, "the name is the same: that is the danger"
        assert not any((tmp_path / "wrong.img").read_bytes())
        assert not any((tmp_path / "meant.img").read_bytes())

    def test_two_sticks_with_one_serial_number_are_both_refused(self, lively: UsbGuest, tmp_path: Path) -> None:
        for name in ("one", "two"):
            lively.session.plug(Stick(blank(tmp_path / f"{name}.img"), serial="TWIN-3333"))
        until(lambda: lively.run("lsblk --nodeps --output SERIAL").output.count("TWIN-3333") == 2)
        refused = lively.run(f"livebuilder usb prepare {device_of(lively, 'TWIN-3333')} --erase TWIN-3333")
        assert refused.status == 1 and "have the same serial number TWIN-3333: unplug all but one" in refused.output
        assert not any((tmp_path / "one.img").read_bytes() + (tmp_path / "two.img").read_bytes())
