"""The stick in real boots: every file system, every fault, and what is on the stick afterwards."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from livebuilder.process import run
from livebuilder.vm.machine import Stick
from livebuilder.vm.session import Session
from livebuilder.vm.shell import GuestShell
from tests.support.boots import SECONDS, Boot, booting, observe, power_off, time_of
from tests.support.builds import BuiltImage
from tests.support.sticks import (
    Table,
    change_ext4,
    damage_ext4,
    ext4_state,
    extracted,
    fill_ext4,
    list_folder,
    probe,
    read_file,
    stick_image,
)
from tests.vm.conftest import build_small

pytestmark = pytest.mark.vm

SETTING = "/etc/config/kept"
ON_STICK = f"upper{SETTING}"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# -- every file system, on every kind of disk ----------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A stick, how e2fsck and its like are asked about it, and the command that gives it another label."""

    fs: str
    table: Table
    check: tuple[str, ...]
    relabel: str

    @property
    def label(self) -> str:
        return f"keeps_{self.fs}"


KINDS = (
    Kind("f2fs", "gpt", ("fsck.f2fs", "--dry-run"), "f2fslabel"),
    Kind("btrfs", "dos", ("btrfs", "check", "--readonly"), "btrfs filesystem label"),
    Kind("ext3", "dos", ("e2fsck", "-fn"), "e2label"),
    Kind("ext2", "none", ("e2fsck", "-fn"), "e2label"),
)


@pytest.fixture(scope="module")
def sticks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("file-systems")
    return {
        kind.fs: stick_image(folder / f"{kind.fs}.img", fs=kind.fs, label=kind.label, table=kind.table)
        for kind in KINDS
    }


@pytest.fixture(scope="module")
def boots(small_image: BuiltImage, sticks: dict[str, Path]) -> dict[str, Boot]:
    boots = {}
    for kind in KINDS:
        plugged = [Stick(path, serial=name.upper()) for name, path in sticks.items()]
        log = sticks[kind.fs].with_suffix(".log")
        with booting(small_image, f"lb.label={kind.label}", sticks=plugged, log=log) as session:
            boot, shell = observe(session)
            boots[kind.fs] = boot
            found = shell.run(f"cat {SETTING}")
            assert found.status != 0, f"{kind.fs} is new, and another stick's setting is seen: {found}"
            assert shell.run(f"echo kept on {kind.fs} > {SETTING}").status == 0
            if kind is KINDS[-1]:
                _read_others(boot, session)
            power_off(session)
    return boots


def _read_others(boot: Boot, session: Session) -> None:
    """What the earlier boots saved, through the kernel's own eyes."""
    shell = GuestShell(session)
    for other in boot.record.storage.candidates:
        said = shell.run(
            f"mkdir -p /tmp/m && mount -t {other.fstype} -o ro {other.device} /tmp/m"
            f" && cat /tmp/m/{ON_STICK} && umount /tmp/m"
        )
        assert (said.status, said.output) == (0, f"kept on {other.fstype}\n")


class TestFileSystems:
    """Four sticks in one PC; each boot names another one, and the last one looks into all of them."""

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.fs)
    def test_it_is_found_by_its_label_and_kept(self, boots: dict[str, Boot], kind: Kind) -> None:
        storage = boots[kind.fs].record.storage
        assert (storage.state, storage.reason) == ("persistent", None)
        assert (storage.fstype, storage.label) == (kind.fs, kind.label)
        assert re.fullmatch(r"/dev/sd[a-d]" if kind.table == "none" else r"/dev/sd[a-d]1", storage.device or "")
        assert f"storage=persistent device={storage.device} label={kind.label} " in boots[kind.fs].summary
        assert f"Settings are kept on {storage.device} ({kind.label})." in boots[kind.fs].login

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.fs)
    def test_ext_is_checked_before_it_is_mounted_and_others_are_not(self, boots: dict[str, Boot], kind: Kind) -> None:
        assert boots[kind.fs].record.storage.fsck == (0 if kind.fs.startswith("ext") else None)

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.fs)
    def test_the_others_are_in_the_record_with_their_cure(
        self, boots: dict[str, Boot], sticks: dict[str, Path], kind: Kind
    ) -> None:
        seen = {candidate.fstype: candidate for candidate in boots[kind.fs].record.storage.candidates}
        assert seen.keys() == {other.fs for other in KINDS} - {kind.fs}
        for other in KINDS:
            if other is not kind:
                candidate = seen[other.fs]
                assert candidate.label == other.label
                assert candidate.uuid == probe(sticks[other.fs])["UUID"]
                assert candidate.cure is not None and not candidate.cure.erases
                assert candidate.cure.command == f"{other.relabel} {candidate.device} {kind.label}"
                assert candidate.cure.here == (other.relabel == "e2label")

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.fs)
    def test_after_power_off_it_is_sound(self, boots: dict[str, Boot], sticks: dict[str, Path], kind: Kind) -> None:
        with extracted(sticks[kind.fs]) as volume:
            run([*kind.check, volume])

    def test_this_host_finds_the_setting_too(self, boots: dict[str, Boot], sticks: dict[str, Path]) -> None:
        for fs in ("ext2", "ext3"):
            assert read_file(sticks[fs], ON_STICK) == f"kept on {fs}\n".encode()
            assert ext4_state(sticks[fs]).unmounted


# -- not a stick at all: an IDE disk, or a CF card in an adapter ---------------------------------------------


def test_a_disk_behind_ide_is_found_too(default_image: BuiltImage, tmp_path: Path) -> None:
    disk = stick_image(tmp_path / "cf.img", table="dos")
    ide = ("-drive", f"file={disk},format=raw,if=ide,index=0")
    with booting(default_image, log=tmp_path / "boot.log", extra=ide) as session:
        boot, shell = observe(session)
        assert shell.run("cd /sys/class/block && readlink -f sda").output.endswith(
            "/ata1/host0/target0:0:0/0:0:0:0/block/sda\n"
        )
        power_off(session)
    storage = boot.record.storage
    assert (storage.state, storage.device, storage.fsck) == ("persistent", "/dev/sda1", 0)
    assert ext4_state(disk).unmounted


# -- late ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def late(small_image: BuiltImage, tmp_path_factory: pytest.TempPathFactory) -> Boot:
    folder = tmp_path_factory.mktemp("late")
    stick = stick_image(folder / "stick.img")
    clock = ("-icount", "shift=3", "-rtc", "clock=vm")
    with booting(small_image, log=folder / "boot.log", loglevel=7, extra=clock) as session:
        session.wait_for(r"livebuilder: storage: waiting up to 15 s", timeout_seconds=SECONDS)
        began = _clock(session)
        while _clock(session) - began < 8:
            session.read(0.05)
        session.plug(Stick(stick))
        boot, shell = observe(session)
        kernel = shell.run("dmesg | grep -e livebuilder: -e 'USB device number'").output
    return Boot(**{**vars(boot), "steps": kernel})


def _clock(session: Session) -> int:
    """The PC's own clock, in seconds."""
    time = session.command("qom-get", path="/machine", property="rtc-time")
    assert isinstance(time, dict)
    return int(time["tm_hour"]) * 3600 + int(time["tm_min"]) * 60 + int(time["tm_sec"])


class TestLate:
    """The guest's clock counts its own instructions here, so that a busy host does not make it late."""

    def test_a_stick_put_in_after_eight_seconds_is_used_within_one(self, late: Boot) -> None:
        waiting = time_of("storage: waiting up to 15 s", late.steps)
        plugged = time_of("new .*USB device number", late.steps)
        taken = waiting + late.record.storage.waited_seconds
        assert 7 <= plugged - waiting < 14, "it was not put in when the test meant to"
        assert plugged < taken <= plugged + 1

    def test_settings_are_kept(self, late: Boot) -> None:
        assert (late.record.storage.state, late.record.storage.fsck) == ("persistent", 0)


# -- two with the same label, one of them damaged; the power is cut -------------------------------------------


@dataclass(frozen=True)
class Twins:
    """The stick that must be taken (its UUID sorts first) and the other one, and two boots with both."""

    first: Path
    other: Path
    other_before: str
    boots: tuple[Boot, Boot]
    found: str
    needed_recovery: bool


@pytest.fixture(scope="module")
def twins(small_image: BuiltImage, tmp_path_factory: pytest.TempPathFactory) -> Twins:
    folder = tmp_path_factory.mktemp("twins")
    pair = [stick_image(folder / "a.img"), stick_image(folder / "b.img")]
    first, other = sorted(pair, key=lambda path: probe(path)["UUID"])
    damage_ext4(first, repairable=True)
    before = sha256(other)
    with booting(small_image, sticks=[Stick(first), Stick(other)], log=folder / "first.log") as session:
        one, shell = observe(session)
        assert shell.run(f"echo kept > {SETTING}; sync").status == 0
        session.cut_power()
    needed_recovery = ext4_state(first).needs_recovery
    with booting(small_image, sticks=[Stick(other), Stick(first)], log=folder / "second.log") as session:
        two, shell = observe(session)
        found = shell.run(f"cat {SETTING}").output
        power_off(session)
    return Twins(first, other, before, (one, two), found, needed_recovery)


class TestTwins:
    """Two sticks with the label; the right one is damaged. Then the power is cut, and they change places."""

    def test_the_same_stick_is_taken_in_whichever_socket_it_is(self, twins: Twins) -> None:
        uuid = probe(twins.first)["UUID"]
        assert [boot.record.storage.uuid for boot in twins.boots] == [uuid, uuid]

    def test_a_warning_names_both_in_the_record_and_on_the_console(self, twins: Twins) -> None:
        for boot in twins.boots:
            (warning,) = boot.record.warnings
            for path in (twins.first, twins.other):
                assert probe(path)["UUID"] in warning
            assert "/dev/sda1" in warning and "/dev/sdb1" in warning
            assert f"taking {boot.record.storage.device}" in warning
            assert f"livebuilder: warning: {warning}" in boot.text
            assert f"WARNING: {warning}" in boot.login

    def test_damage_is_repaired_before_the_mount_and_recorded(self, twins: Twins) -> None:
        assert [boot.record.storage.fsck for boot in twins.boots] == [1, 0]
        assert [boot.record.storage.state for boot in twins.boots] == ["persistent", "persistent"]

    def test_cut_off_power_leaves_a_journal_that_the_next_boot_recovers(self, twins: Twins) -> None:
        assert twins.needed_recovery
        assert "recovering journal" in twins.boots[1].steps
        assert twins.found == "kept\n"

    def test_power_off_leaves_it_clean(self, twins: Twins) -> None:
        assert ext4_state(twins.first).unmounted
        with extracted(twins.first) as volume:
            run(["e2fsck", "-fn", volume])
        assert read_file(twins.first, ON_STICK) == b"kept\n"

    def test_the_other_one_is_not_touched(self, twins: Twins) -> None:
        assert sha256(twins.other) == twins.other_before


# -- sticks that cannot be used, or not be written -----------------------------------------------------------


@pytest.mark.parametrize("damage", ["superblock", "folders"])
def test_beyond_repair_it_is_left_as_it_is(small_image: BuiltImage, tmp_path: Path, damage: str) -> None:
    stick = stick_image(tmp_path / "stick.img")
    if damage == "superblock":
        damage_ext4(stick, repairable=False)
    else:
        change_ext4(stick, "set_inode_field /upper mode 0100644", "set_super_value state 2")
    before = stick.read_bytes()
    with booting(small_image, sticks=[Stick(stick)], log=tmp_path / "boot.log") as session:
        boot, shell = observe(session)
        mounts = shell.run("cat /proc/mounts").output
        power_off(session)
    storage = boot.record.storage
    assert (storage.state, storage.device) == ("volatile", "/dev/sda1")
    assert storage.fsck is not None and storage.fsck & ~3, storage
    assert storage.reason == (f"e2fsck could not repair /dev/sda1 (exit {storage.fsck}): run e2fsck -f on it by hand")
    assert "/dev/sda1" not in mounts
    assert "CHANGES ARE NOT KEPT: this system runs from memory only" in boot.login
    assert storage.reason in boot.login
    assert stick.read_bytes() == before


@pytest.mark.parametrize("journal", ["clean", "to be recovered"])
def test_write_protected_it_is_a_layer_to_be_read(small_image: BuiltImage, tmp_path: Path, journal: str) -> None:
    made_before = "config system\n\toption hostname 'from-the-stick'\n"
    stick = stick_image(tmp_path / "stick.img", files={"upper/etc/config/system": made_before})
    if journal != "clean":
        change_ext4(stick, "feature needs_recovery")
    assert ext4_state(stick).needs_recovery == (journal != "clean")
    before = sha256(stick)
    with booting(small_image, sticks=[Stick(stick, read_only=True)], log=tmp_path / "boot.log") as session:
        boot, shell = observe(session)
        mounts = shell.run("cat /proc/mounts").output
        assert shell.run("hostname").output == "from-the-stick\n"
        assert shell.run(f"echo lost > {SETTING} && cat {SETTING}").output == "lost\n", "for this boot it counts"
        power_off(session)
    storage = boot.record.storage
    assert (storage.state, storage.device, storage.reason) == (
        "read-only", "/dev/sda1", "/dev/sda1 is write-protected",
    )  # fmt: skip
    assert boot.summary.startswith(
        'root=ext2 storage=read-only reason="/dev/sda1 is write-protected" device=/dev/sda1 label=rootfs_data '
    )
    assert re.search(r"^/dev/sda1 /overlay ext4 ro,", mounts, re.MULTILINE)
    assert re.search(r"^overlayfs:/overlay / overlay rw,", mounts, re.MULTILINE)
    assert "CHANGES ARE NOT KEPT: /dev/sda1 (rootfs_data) is read-only" in boot.login
    assert sha256(stick) == before


def test_a_full_stick_boots_and_can_be_emptied(small_image: BuiltImage, tmp_path: Path) -> None:
    stick = stick_image(tmp_path / "stick.img")
    fill_ext4(change_ext4(stick, "mkdir /work/work"))  # as it is once an overlay was on it
    with booting(small_image, sticks=[Stick(stick)], log=tmp_path / "boot.log") as session:
        boot, shell = observe(session)
        assert shell.run(f"echo kept > {SETTING} && sync {SETTING}").status != 0, "it was not full"
        assert shell.run(f"rm /overlay/filler* && sync && echo kept > {SETTING}").status == 0
        power_off(session)
    assert boot.record.storage.state == "persistent"
    (warning,) = boot.record.warnings
    assert warning.startswith("/dev/sda1 is full")
    assert f"livebuilder: warning: {warning}" in boot.text
    assert f"WARNING: {warning}" in boot.login
    assert read_file(stick, ON_STICK) == b"kept\n"
    assert ext4_state(stick).unmounted


# -- e2fsck that asks for a reboot ---------------------------------------------------------------------------


def test_a_reboot_that_e2fsck_asks_for_happens_once(tmp_path: Path) -> None:
    files = tmp_path / "files" / "sbin"
    files.mkdir(parents=True)
    (files / "e2fsck").write_text("#!/bin/sh\nexit 2\n")
    (files / "e2fsck").chmod(0o755)
    build_small(tmp_path / "image", f"root.files={files.parent}")
    image, stick = BuiltImage(tmp_path / "image"), stick_image(tmp_path / "stick.img")

    with booting(image, sticks=[Stick(stick)], log=tmp_path / "first.log") as session:
        session.wait_for(r"livebuilder: e2fsck repaired /dev/sda1 and asks for a reboot", timeout_seconds=SECONDS)
        assert session.wait_for_end(timeout_seconds=SECONDS) == 0
        assert "reboot: Restarting system" in session.text
    marks = [name for name in list_folder(stick) if name.startswith(".livebuilder-")]
    assert len(marks) == 1

    with booting(image, sticks=[Stick(stick)], log=tmp_path / "second.log") as session:
        boot, _ = observe(session)
        power_off(session)
    assert "asks for a reboot" not in boot.text
    assert (boot.record.storage.state, boot.record.storage.fsck) == ("persistent", 2)
    assert not [name for name in list_folder(stick) if name.startswith(".livebuilder-")], "it would never reboot again"
