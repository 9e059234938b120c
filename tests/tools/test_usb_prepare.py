"""Preparing sticks that held something else before, judged by everybody else's tools."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from livebuilder import process
from livebuilder.errors import LivebuilderError
from livebuilder.process import run
from livebuilder.sizes import GIB, KIB, MIB
from livebuilder.usb.bootcode import BOOT_CODE
from livebuilder.usb.devices import describe
from livebuilder.usb.filesystem import EXT, FILE_SYSTEMS, check_command, scratch_bytes
from livebuilder.usb.plan import StickIdentity, StickPlan, plan_stick, plan_to_json
from livebuilder.usb.prepare import prepare
from livebuilder.usb.probe import MARK_BYTES, mark_offsets, probe_capacity
from livebuilder.usb.stick import StickReport, build_volume
from livebuilder.usb.target import Target, open_target
from tests.support.host import loop_device
from tests.support.sticks import extracted, list_folder, probe

SIZE = 80 * MIB + 1536
GARBAGE = b"\xff" * MIB


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """An image file full of garbage: what counts on zeros finds none."""
    return _garbage(tmp_path / "stick.img", SIZE)


def _garbage(path: Path, size: int) -> Path:
    with path.open("xb") as stream:
        for _ in range(0, size, MIB):
            stream.write(GARBAGE)
        stream.truncate(size)
    return path


@pytest.fixture
def loop(used: Path) -> Iterator[Path]:
    with loop_device(used) as device:
        yield device


def _plan(*, fs: str = "ext4", table: str = "gpt", size: int = SIZE) -> StickPlan:
    return plan_stick(size_bytes=size, fs=fs, table=table, identity=StickIdentity.random())


def _prepare(path: Path, plan: StickPlan) -> StickReport:
    with open_target(describe(path), writable=True) as target:
        report = prepare(target, plan)
        assert target.state == "written and verified"
    return report


@pytest.mark.parametrize("table", ["gpt", "dos"])
@pytest.mark.parametrize("fs", FILE_SYSTEMS)
def test_a_used_stick_becomes_what_was_planned(used: Path, fs: str, table: str) -> None:
    plan = _plan(fs=fs, table=table)
    report = _prepare(used, plan)

    seen = json.loads(run(["sfdisk", "--json", used]).stdout)["partitiontable"]
    (partition,) = seen["partitions"]
    assert (seen["label"], seen["id"]) == (table, plan.disk_id)
    assert (partition["start"], partition["size"]) == (2048, plan.sectors)
    assert "No errors" in run(["sfdisk", "--verify", used]).stdout
    with used.open("rb") as stream:
        assert stream.read(440) == BOOT_CODE.ljust(440, b"\0")
    found = probe(used)
    assert (found["TYPE"], found["LABEL"], found["UUID"]) == (fs, "rootfs_data", plan.file_system_uuid)
    with extracted(used) as volume:
        assert run(check_command(plan.file_system, volume).argv, check=False).returncode == 0
    if fs in EXT:
        assert list_folder(used)[".fs_state"] == (0o120777, 0, 0)
        assert set(list_folder(used)) == {"upper", "work", ".fs_state", "lost+found"}
    assert report.to_json() == {**plan_to_json(plan), "path": str(used), "used_bytes": used.stat().st_blocks * 512}
    assert report.render().splitlines()[0].startswith(f"stick        {used}: 80.0 MiB")


@pytest.mark.parametrize("fs", EXT)
def test_all_tables_of_inodes_and_the_journal_are_written(used: Path, fs: str) -> None:
    """Not only those that a check looks at: Linux uses them one day."""
    _prepare(used, _plan(fs=fs))
    with extracted(used) as volume:
        groups = run(["dumpe2fs", volume]).stdout.splitlines()
        data = volume.read_bytes()
    tables = [line.split(" at ")[1].split()[0] for line in groups if "Inode table at" in line]
    assert tables
    for table in tables:
        first, last = map(int, table.split("-"))
        assert GARBAGE[: 4 * KIB] not in data[first * 4096 : (last + 1) * 4096]
    if fs != "ext2":
        with extracted(used) as volume:
            run(["debugfs", "-R", f"dump <8> {volume.with_name('journal')}", volume])
            assert GARBAGE[: 4 * KIB] not in volume.with_name("journal").read_bytes()


def test_old_tables_and_file_systems_are_gone(used: Path) -> None:
    run(["mke2fs", "-q", "-F", used])
    run(["sfdisk", "--quiet", "--wipe", "never", used], input_bytes=b"label: gpt\nstart=2048, size=2048\nsize=4096\n")
    _prepare(used, _plan(table="dos"))
    assert json.loads(run(["sfdisk", "--json", used]).stdout)["partitiontable"]["label"] == "dos"
    assert b"EFI PART" not in used.read_bytes()
    kinds = run(["wipefs", "--noheadings", "--output", "TYPE", used]).stdout.split()
    assert kinds == ["dos"]


@pytest.mark.host("loop")
@pytest.mark.parametrize("fs", ["ext4", "ext3", "ext2"])  # which any kernel has
def test_linux_mounts_it_and_keeps_files(used: Path, fs: str, tmp_path: Path) -> None:
    _prepare(used, _plan(fs=fs))
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    run(["mount", "-t", fs, "-o", f"loop,offset={MIB}", used, mountpoint])
    try:
        for number in range(300):
            (mountpoint / "upper" / str(number)).write_bytes(b"x" * 5000)
        assert (mountpoint / ".fs_state").readlink() == Path("2")
    finally:
        run(["umount", mountpoint])
    with extracted(used) as volume:
        assert run(check_command(FILE_SYSTEMS[fs], volume).argv, check=False).returncode == 0


@pytest.mark.host("loop")
@pytest.mark.parametrize("fs", FILE_SYSTEMS)
def test_a_disk_is_prepared_as_a_file_is(loop: Path, used: Path, fs: str) -> None:
    plan = _plan(fs=fs)
    report = _prepare(loop, plan)
    assert report.used_bytes is None
    assert report.path == loop
    assert probe(used)["UUID"] == plan.file_system_uuid
    with extracted(used) as volume:
        assert run(check_command(plan.file_system, volume).argv, check=False).returncode == 0


def test_what_is_beside_the_file_system_stays_unwritten(used: Path) -> None:
    """A stick of 64 GB is prepared in a moment, not in an hour."""
    _prepare(used, _plan())
    assert used.read_bytes().count(0xFF) > 60 * MIB


@pytest.mark.parametrize("fs", ["ext4", "f2fs", "btrfs"])
def test_of_a_large_stick_little_is_written(tmp_path: Path, fs: str) -> None:
    plan = _plan(fs=fs, size=8 * GIB)
    volume = build_volume(tmp_path, plan, for_used_disk=True)
    used_bytes = volume.stat().st_blocks * 512
    assert used_bytes < min(120 * MIB, scratch_bytes(plan.file_system, plan.partition_bytes))


@pytest.mark.parametrize("fs", FILE_SYSTEMS)
def test_the_room_that_building_takes_is_known(tmp_path: Path, fs: str) -> None:
    plan = _plan(fs=fs, size=1 * GIB)
    volume = build_volume(tmp_path, plan, for_used_disk=True)
    assert volume.stat().st_blocks * 512 < scratch_bytes(plan.file_system, plan.partition_bytes)


# Refused, and nothing is written


def test_a_plan_for_another_size_writes_nothing(used: Path) -> None:
    with pytest.raises(LivebuilderError, match=r"the plan is for 83888128; .*stick\.img is untouched"):
        _prepare(used, _plan(size=SIZE + 512))
    assert used.read_bytes().count(0xFF) == SIZE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sector_bytes": 4096}, "has sectors of 4096 bytes"),
        ({"kind": "partition", "parent": "/dev/sdb"}, "belongs onto the whole disk /dev/sdb"),
    ],
)
def test_what_no_table_can_be_made_on_is_refused(used: Path, change: dict[str, Any], said: str) -> None:
    with used.open("r+b") as stream, pytest.raises(LivebuilderError, match=said):
        prepare(Target(replace(describe(used), **change), stream.fileno(), redo="prepare it again"), _plan())
    assert used.read_bytes().count(0xFF) == SIZE


def test_a_tool_that_fails_leaves_the_stick_as_it_was(
    used: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "e2fsck").write_text("#!/bin/sh\necho broken >&2; exit 4\n")
    (tools / "e2fsck").chmod(0o755)
    monkeypatch.setattr(process, "SEARCH_PATH", f"{tools}:{process.SEARCH_PATH}")
    with pytest.raises(LivebuilderError, match=r"broken; .*stick\.img is untouched"):
        _prepare(used, _plan())
    assert used.read_bytes().count(0xFF) == SIZE


def test_a_disk_that_changed_since_it_was_looked_at_is_not_written(used: Path) -> None:
    planned = replace(describe(used), serial="4C530001")
    with (
        pytest.raises(LivebuilderError, match="nothing was written: the serial is '', not '4C530001'"),
        open_target(planned, writable=True) as target,
    ):
        prepare(target, _plan())
    assert used.read_bytes().count(0xFF) == SIZE


# Sticks that are not what they say: a file behind wrong addresses


class Forged(Target):
    """A disk of `real` bytes that says it has more: it wraps, or loses what is written behind."""

    real = 16 * MIB
    wraps = True

    def _write_from(self, view: memoryview, offset: int) -> None:
        if self.wraps:
            offset %= self.real
        if offset < self.real:
            super()._write_from(view, offset)

    def _read_into(self, view: memoryview, offset: int) -> None:
        super()._read_into(view, offset % self.real if self.wraps else offset)


class Losing(Forged):
    """It loses what is written behind `real`."""

    wraps = False


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Forged, "of 80.0 MiB it holds no more than 16.0 MiB, and what is written behind that overwrites"),
        (Losing, "of 80.0 MiB it holds 12.6 MiB or a little more, and loses what is written at 16.5 MiB and behind"),
    ],
)
def test_a_forged_stick_is_named_with_its_capacity(used: Path, kind: type[Forged], said: str) -> None:
    before = used.read_bytes()
    with used.open("r+b") as stream:
        target = kind(describe(used), stream.fileno(), redo="prepare it again")
        with pytest.raises(LivebuilderError) as caught:
            probe_capacity(target)
    assert said in caught.value.message
    assert used.read_bytes() == before


def test_an_honest_stick_is_as_it_was_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "stick.img"
    path.write_bytes(os.urandom(SIZE))
    before = path.read_bytes()
    with open_target(describe(path), writable=True) as target:
        probe_capacity(target)
        assert target.state == "untouched"
    assert path.read_bytes() == before


class Interrupted(Target):
    """Ctrl-C at the fifth write."""

    writes = 0

    def write(self, offset: int, data: bytes) -> None:
        self.writes += 1
        if self.writes == 5:
            raise KeyboardInterrupt
        super().write(offset, data)


def test_an_interrupted_probe_puts_back_what_was_there(used: Path) -> None:
    assert len(mark_offsets(SIZE)) * MARK_BYTES > 5 * MARK_BYTES
    with used.open("r+b") as stream, pytest.raises(KeyboardInterrupt):
        probe_capacity(Interrupted(describe(used), stream.fileno(), redo="prepare it again"))
    assert used.read_bytes().count(0xFF) == SIZE
