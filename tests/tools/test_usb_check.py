"""Is a stick right? On real images, good ones and ones gone wrong."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from livebuilder.process import run
from livebuilder.sizes import MIB
from livebuilder.tree import RootTree, directory, file, symlink
from livebuilder.usb.blockdevice import BlockDevice, Volume
from livebuilder.usb.check import (
    CheckReport,
    boot_sentence,
    check_start,
    check_stick,
    check_table,
    check_volumes,
    is_near_miss,
)
from livebuilder.usb.devices import describe
from livebuilder.usb.plan import LINUX_GUID
from livebuilder.usb.target import open_target
from tests.support.contents import ALL_FEATURES, a_stick, put
from tests.support.sticks import stick_image

LABEL = "rootfs_data"


def checked(path: Path, *, write_test: bool = False) -> CheckReport:
    device = describe(path)
    with open_target(device, writable=write_test) as target:
        return check_stick(device, target, write_test=write_test)


def codes(report: CheckReport, level: str) -> set[str]:
    return {one.code for one in report.observations if one.level == level}


@pytest.mark.parametrize("fs", ["ext4", "ext3"])
@pytest.mark.parametrize("table", ["gpt", "dos"])
def test_a_stick_of_ours_is_right(tmp_path: Path, fs: str, table: str) -> None:
    path = tmp_path / "stick"
    stick_image(path, fs=fs, table=table, size_bytes=24 * MIB)  # type: ignore[arg-type]
    before = path.read_bytes()
    report = checked(path)
    assert report.fits, report.render()
    assert codes(report, "note") == set()
    assert report.boot.startswith("keep its settings on ")
    assert report.render().endswith(report.boot)
    assert json.loads(json.dumps(report.to_json()))["fits"] is True
    checked(path, write_test=True)
    assert path.read_bytes() == before


def test_without_a_target_only_the_record_speaks(tmp_path: Path) -> None:
    report = check_stick(describe(a_stick(tmp_path / "stick")), None)
    assert codes(report, "good") == {"table", "label"}


def test_what_old_systems_cannot_do_is_noted(tmp_path: Path) -> None:
    report = checked(a_stick(tmp_path / "a", "ext4", *ALL_FEATURES, "-L", LABEL))
    (features,) = (one.text for one in report.observations if one.code == "features")
    for name in ("metadata_csum", "64bit", "orphan_file", "inline_data", "large_dir"):
        assert name in features
    assert {"layout", "features"} <= codes(report, "note")
    assert "journal" in codes(checked(a_stick(tmp_path / "b", "ext2")), "note")


def test_settings_of_machines_and_from_before_a_reset_are_told(tmp_path: Path) -> None:
    names = ("52:54:00:AA:BB:CC", "52-54-00-12-34-56", "525400000001", "attic", "52:54:00:aa:bb")
    path = a_stick(tmp_path / "stick")
    old = [directory(f".livebuilder/old/{number}/upper") for number in (1, 2)]
    folders = [directory(folder) for folder in ("upper", "work")]
    machines = [file(f"by-mac/{name}/etc/note", "x" * 100) for name in names]
    put(path, RootTree([*folders, symlink(".fs_state", "2"), *machines, *old]))
    report = checked(path)
    assert report.fits
    told = {one.text for one in report.observations if one.code in ("machine", "old")}
    assert told == {
        *(f"the machine with the network card {name} has settings of its own" for name in names[:3]),
        *(f"/by-mac/{name} is not named by the address of a network card" for name in names[3:]),
        f"{path} keeps 2 states from before a reset in /.livebuilder/old",
    }
    assert f"{path} keeps 500 B of settings and files" in {one.text for one in report.observations}


def test_what_is_damaged_or_missing(tmp_path: Path) -> None:
    path = a_stick(tmp_path / "stick")
    put(path, RootTree([directory("upper")]))
    notes = [one for one in checked(path).observations if one.level == "note"]
    assert [one.cure for one in notes] == [f"livebuilder usb adopt {path}"] * 2
    with path.open("r+b") as stream:
        stream.write(bytes(440))
        stream.truncate(32 * MIB)  # as after dd onto a larger stick
    report = checked(path)
    assert "backup-table" in codes(report, "bad")
    assert "boot-code" in codes(report, "note")
    with path.open("r+b") as stream:
        stream.seek(MIB + 8192)
        stream.write(os.urandom(512 * 1024))
    report = checked(path)
    assert "damaged" in codes(report, "bad")
    assert not report.fits
    assert "try to mend" in report.boot


def test_what_a_boot_makes_of_a_damaged_one() -> None:
    for fs, said in (("ext4", "try to mend"), ("f2fs", "mount /dev/sdx1 as it is")):
        device = replace(DISK, volumes=(replace(VOLUME, fs=fs),))
        assert said in boot_sentence(device, label=LABEL, damaged=True)


@pytest.mark.parametrize(
    "label", ["ROOTFS_DATA", "rootfs-data", "rootfs_data ", "rootfs data", "rootfs_dat", "rootfsdata"]
)
def test_a_near_miss_is_named_with_its_cure(tmp_path: Path, label: str) -> None:
    path = a_stick(tmp_path / "stick")
    run(["tune2fs", "-L", label, f"{path}?offset={MIB}"])
    report = checked(path)
    (near,) = (one for one in report.observations if one.code == "near-miss")
    assert repr(label) in near.text
    assert near.cure == f"livebuilder usb adopt {path}"
    assert report.boot.startswith("keep no settings")


@pytest.mark.parametrize(
    ("text", "near"), [("", False), (LABEL, False), ("data", False), ("KINGSTON", False), ("Rootfs_Data", True)]
)
def test_what_a_near_miss_is(text: str, near: bool) -> None:
    assert is_near_miss(text, LABEL) is near


VOLUME = Volume(
    path="/dev/sdx1", number=1, offset_bytes=MIB, size_bytes=64 * MIB, type=LINUX_GUID, name=LABEL, fs="ext4",
    label=LABEL, uuid="2222",
)  # fmt: skip
DISK = BlockDevice(path="/dev/sdx", kind="disk", size_bytes=66 * MIB, table="gpt", volumes=(VOLUME,))


@pytest.mark.parametrize(
    ("volume", "bad", "boot"),
    [
        (VOLUME, set(), "keep its settings on /dev/sdx1 (ext4, UUID 2222)"),
        (replace(VOLUME, label=""), {"name-only", "no-label"}, "keep no settings: nothing"),
        (replace(VOLUME, label="data"), {"name-only", "no-label"}, "keep no settings: nothing"),
        (replace(VOLUME, label="data", name="ROOTFS_DATA"), {"near-miss", "no-label"}, "keep no settings: nothing"),
        (
            replace(VOLUME, label="ROOTFS_DATA", fs="vfat"),
            {"refused", "no-label"},
            "keep no settings: /dev/sdx1 is labelled",
        ),
        (replace(VOLUME, label="", name="", fs=""), {"no-label"}, "keep no settings: nothing"),
    ],
)
def test_labels_and_names(volume: Volume, bad: set[str], boot: str) -> None:
    disk = replace(DISK, volumes=(volume,))
    assert {one.code for one in check_volumes(disk, label=LABEL) if one.level == "bad"} == bad
    assert boot_sentence(disk, label=LABEL).startswith(boot)


def test_twins_and_nothing_at_all() -> None:
    twin = replace(VOLUME, path="/dev/sdx2", number=2, uuid="1111")
    disk = replace(DISK, volumes=(VOLUME, twin))
    assert "twins" in {one.code for one in check_volumes(disk, label=LABEL)}
    assert "/dev/sdx2" in boot_sentence(disk, label=LABEL)
    assert [one.code for one in check_volumes(replace(DISK, volumes=()), label=LABEL)] == ["empty"]
    other = replace(VOLUME, name="other")
    assert "name" in {one.code for one in check_volumes(replace(DISK, volumes=(other,)), label=LABEL)}


def test_tables_alignment_and_types() -> None:
    def seen(disk: BlockDevice) -> list[str]:
        return [one.code for one in check_table(disk)]

    assert seen(DISK) == ["table"]
    assert seen(replace(DISK, volumes=(replace(VOLUME, offset_bytes=63 * 512, type="83"),))) == [
        "table",
        "alignment",
        "type",
    ]
    assert seen(replace(DISK, table="", volumes=())) == ["no-table"]
    assert [one.level for one in check_table(replace(DISK, table="bsd", volumes=()))] == ["bad"]
    assert seen(replace(DISK, kind="partition")) == []
    assert [one.level for one in check_start(DISK, b"\xeb" * 512)] == ["note"]
    assert list(check_start(replace(DISK, kind="partition"), bytes(512))) == []
