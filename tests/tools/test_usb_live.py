"""Live USB sticks: the ISO's bytes, and the storage behind them, as other tools see them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.process import run
from livebuilder.sizes import MIB
from livebuilder.usb.devices import describe
from livebuilder.usb.filesystem import FILE_SYSTEMS, check_command
from livebuilder.usb.live import LiveReport, plan_live, write_iso
from livebuilder.usb.plan import StickIdentity
from livebuilder.usb.target import Target, open_target
from tests.support.isos import SmallIso

SIZE = 100 * MIB + 512
SECOND_LINE = slice(446 + 16, 446 + 32)


@pytest.fixture(scope="module")
def iso(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SmallIso(tmp_path_factory.mktemp("disc")).path


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    path = tmp_path / "stick.img"
    with path.open("xb") as stream:
        for _ in range(0, SIZE, MIB):
            stream.write(b"\xff" * MIB)
        stream.truncate(SIZE)
    return path


def _write(iso: Path, stick: Path, *, storage: bool, fs: str = "ext4") -> LiveReport:
    plan = plan_live(iso, size_bytes=SIZE, storage=storage, fs=fs, identity=StickIdentity.random())
    with open_target(describe(stick), writable=True, redo="write it again") as target:
        return write_iso(target, plan)


def test_without_storage_the_stick_begins_as_the_iso_and_old_marks_at_its_end_are_gone(iso: Path, stick: Path) -> None:
    report = _write(iso, stick, storage=False)
    data, wanted = stick.read_bytes(), iso.read_bytes()
    assert data[: len(wanted)] == wanted
    assert data[-MIB:] == bytes(MIB)
    assert data[len(wanted) : -MIB].count(0xFF) == len(data) - len(wanted) - MIB
    assert report.to_json() == {
        "path": str(stick), "iso": str(iso), "iso_bytes": len(wanted),
        "size_bytes": SIZE, "storage": None,
    }  # fmt: skip
    assert "no storage for settings" in report.render()


@pytest.mark.parametrize("fs", FILE_SYSTEMS)
def test_storage_is_the_second_partition_and_nothing_else_of_the_iso_changes(iso: Path, stick: Path, fs: str) -> None:
    before = json.loads(run(["sfdisk", "--json", iso]).stdout)["partitiontable"]
    report = _write(iso, stick, storage=True, fs=fs)

    seen = json.loads(run(["sfdisk", "--json", stick]).stdout)["partitiontable"]
    first, second = seen["partitions"]
    assert (seen["label"], seen["id"]) == ("dos", before["id"])
    assert {**first, "node": ""} == {**before["partitions"][0], "node": ""}
    start = -(-iso.stat().st_size // MIB) * MIB
    assert (second["start"] * 512, second["size"] * 512, second["type"]) == (start, 100 * MIB - start, "83")

    data, wanted = bytearray(stick.read_bytes()), bytearray(iso.read_bytes())
    assert data[SECOND_LINE] != wanted[SECOND_LINE]
    data[SECOND_LINE] = wanted[SECOND_LINE] = bytes(16)
    assert data[: len(wanted)] == wanted
    assert data[len(wanted) : start].count(0) == start - len(wanted)

    volume = stick.with_name("volume")
    volume.write_bytes(data[start : 100 * MIB])
    assert run(check_command(FILE_SYSTEMS[fs], volume).argv, check=False).returncode == 0
    words = run(["blkid", "-p", "-o", "export", volume]).stdout.splitlines()
    assert {f"TYPE={fs}", "LABEL=rootfs_data"} <= set(words)
    assert report.storage is not None
    assert report.to_json()["storage"] == report.storage.to_json()
    assert (report.storage.partition.number, report.storage.superblock.type) == (2, fs)


def test_the_plan_says_what_is_done(iso: Path) -> None:
    plan = plan_live(iso, size_bytes=SIZE, storage=True, identity=StickIdentity.random())
    assert plan.storage is not None
    assert plan.to_json()["iso_bytes"] == iso.stat().st_size
    assert plan.render().splitlines()[0].startswith(f"live image   {iso}, ")
    assert "labelled rootfs_data" in plan.render()


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2 // 2048 * 2048]


def _no_code(data: bytes) -> bytes:
    return bytes(512) + data[512:]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_cut, "is cut short or was changed"),
        (_no_code, "is not made to start from a USB stick"),
        (lambda _: b"", "is not made to start from a USB stick"),
        (lambda data: data + b"x", "is cut short or was changed"),
    ],
)
def test_what_would_not_start_is_refused(
    iso: Path, tmp_path: Path, change: Callable[[bytes], bytes], said: str
) -> None:
    other = tmp_path / "other.iso"
    other.write_bytes(change(iso.read_bytes()))
    with pytest.raises(LivebuilderError, match=said) as caught:
        plan_live(other, size_bytes=SIZE, identity=StickIdentity.random())
    assert caught.value.hint


def test_what_does_not_fit_and_what_is_not_there_is_refused(iso: Path, tmp_path: Path) -> None:
    with pytest.raises(LivebuilderError, match="does not fit"):
        plan_live(iso, size_bytes=MIB // 2, identity=StickIdentity.random())
    with pytest.raises(LivebuilderError, match="No such file"):
        plan_live(tmp_path / "none.iso", size_bytes=SIZE, identity=StickIdentity.random())
    with pytest.raises(LivebuilderError, match="no storage behind"):
        plan_live(iso, size_bytes=8 * MIB, storage=True, identity=StickIdentity.random())


def test_to_a_table_of_another_kind_no_partition_is_added(iso: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.iso"
    data = bytearray(iso.read_bytes())
    data[SECOND_LINE] = data[446 : 446 + 16]
    other.write_bytes(data)
    with pytest.raises(LivebuilderError, match="a partition table of another kind"):
        plan_live(other, size_bytes=SIZE, storage=True, identity=StickIdentity.random())
    plan_live(other, size_bytes=SIZE, identity=StickIdentity.random())


class Changing(Target):
    """While it is flushed, somebody builds the ISO anew."""

    iso: Path

    def flush(self) -> None:
        super().flush()
        os.utime(self.iso, ns=(1, 1))


def test_an_iso_that_changes_meanwhile_is_told(iso: Path, stick: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.iso"
    copy.write_bytes(iso.read_bytes())
    plan = plan_live(copy, size_bytes=SIZE, identity=StickIdentity.random())
    with stick.open("r+b") as stream:
        target = Changing(describe(stick), stream.fileno(), redo="write it again")
        target.iso = copy
        with pytest.raises(LivebuilderError, match="changed while it was written"):
            write_iso(target, plan)
