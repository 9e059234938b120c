"""Sticks of others made to fit: everything else on them stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.process import run
from livebuilder.sizes import MIB
from livebuilder.tree import RootTree, directory, file, symlink
from livebuilder.usb.adopt import AdoptionPlan, adopt, plan_adoption
from livebuilder.usb.blockdevice import BlockDevice, Volume
from livebuilder.usb.content import read_content
from livebuilder.usb.devices import describe
from livebuilder.usb.plan import LINUX_GUID
from tests.support.contents import assert_holds, assert_sound, opened, put
from tests.support.sticks import stick_image

VOLUME = Volume(path="/dev/sdx1", number=1, offset_bytes=MIB, size_bytes=64 * MIB, fs="ext4", label="data", name="x")
DISK = BlockDevice(path="/dev/sdx", kind="disk", size_bytes=66 * MIB, table="gpt", volumes=(VOLUME,))
WORK_IS_A_FILE = RootTree([file("work", b"")])
PREPARED = RootTree([directory("upper"), directory("work"), symlink(".fs_state", "2")])


def adopted(path: Path) -> AdoptionPlan:
    with opened(path) as (target, volume):
        with read_content(target, volume) as tree:
            plan = plan_adoption(target.device, volume, tree)
        adopt(target, volume, plan)
        return plan


@pytest.mark.parametrize("table", ["gpt", "dos", "none"])
def test_a_stick_of_somebody_else_fits_afterwards(tmp_path: Path, table: str) -> None:
    path = tmp_path / "stick"
    stick_image(path, label="ROOTFS_DATA", table=table, size_bytes=24 * MIB)  # type: ignore[arg-type]
    mine = RootTree(
        [file("holiday.jpg", b"\xff\xd8"), directory("upper"), file("upper/etc", b""), symlink(".fs_state", "1")]
    )
    put(path, mine)
    before = describe(path).volumes[0]
    plan = adopted(path)
    assert plan.paths == ("work", ".fs_state")
    after = describe(path).volumes[0]
    assert (after.label, after.uuid, after.offset_bytes) == ("rootfs_data", before.uuid, before.offset_bytes)
    assert after.name == ("rootfs_data" if table == "gpt" else "")
    mine.remove(".fs_state")
    for entry in (directory("work"), symlink(".fs_state", "2")):
        mine.add(entry)
    assert_holds(path, mine)
    if table != "none":
        assert_sound(path)
        assert "No errors" in run(["sfdisk", "--verify", path]).stdout
    image = path.read_bytes()
    assert "nothing to change" in adopted(path).render()
    assert path.read_bytes() == image


def test_the_plan_says_all_that_it_changes() -> None:
    plan = plan_adoption(DISK, VOLUME, RootTree([file("a", b""), directory("upper")]))
    assert (plan.label, plan.partition_name, plan.paths) == ("rootfs_data", "rootfs_data", ("work", ".fs_state"))
    text = plan.render()
    for words in (
        "'data' becomes 'rootfs_data'",
        "'x' becomes",
        "work/ is added",
        ".fs_state says '2'",
        "stays and is not",
    ):
        assert words in text
    assert plan.to_json()["changes"] == plan.changes
    assert plan_adoption(DISK, VOLUME, PREPARED, label="data").label is None


@pytest.mark.parametrize(
    ("fs", "label", "tree", "message"),
    [
        ("vfat", "rootfs_data", PREPARED, "vfat cannot keep settings: it keeps neither owners"),
        ("exfat", "rootfs_data", PREPARED, "exfat cannot keep"), ("ntfs", "rootfs_data", PREPARED, "ntfs cannot keep"),
        ("", "rootfs_data", PREPARED, "what is on it cannot keep"), ("ext4", "a" * 17, PREPARED, "longer than the 16"),
        ("ext4", "a b", PREPARED, "not one word"), ("ext4", "rootfs_data", WORK_IS_A_FILE, "/work on it is a file"),
    ],
)  # fmt: skip
def test_what_cannot_be_adopted(fs: str, label: str, tree: RootTree, message: str) -> None:
    volume = Volume(path="/dev/sdx1", number=1, offset_bytes=MIB, size_bytes=64 * MIB, fs=fs)
    with pytest.raises(LivebuilderError, match=message):
        plan_adoption(DISK, volume, tree, label=label)


def test_a_partition_alone_keeps_its_name() -> None:
    part = BlockDevice(path="/dev/sdx1", kind="partition", size_bytes=64 * MIB, parent="/dev/sdx")
    plan = plan_adoption(part, replace(VOLUME, type=LINUX_GUID), PREPARED)
    assert plan.partition_name is None
    assert "give the whole disk" in plan.render()
