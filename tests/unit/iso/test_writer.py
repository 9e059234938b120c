import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.iso import writer as iso
from livebuilder.iso.iso9660 import IsoError
from livebuilder.iso.plan import IsoPlan
from livebuilder.iso.report import read_iso, time_fields
from livebuilder.iso.writer import write_iso
from livebuilder.sizes import MIB
from livebuilder.tree import Content
from tests.support.isos import EPOCH, small_plan


@contextmanager
def time_zone(name: str) -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_what_is_read_back(tmp_path: Path) -> None:
    report = write_iso(small_plan(), tmp_path / "out" / "live.iso")
    assert listing(tmp_path / "out") == ["live.iso"]
    assert report == read_iso(tmp_path / "out" / "live.iso")


def test_the_same_plan_gives_the_same_bytes_whatever_the_clock_zone_umask_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_iso(small_plan(), tmp_path / "first.iso")
    (tmp_path / "folder").mkdir()
    before = os.umask(0o077)
    try:
        with time_zone("Asia/Kolkata"):
            monkeypatch.setattr(time, "time", lambda: 2_000_000_000.75)
            write_iso(small_plan(), tmp_path / "folder" / "second.iso")
    finally:
        os.umask(before)
        monkeypatch.undo()
    first = (tmp_path / "first.iso").read_bytes()
    assert first == (tmp_path / "folder" / "second.iso").read_bytes()


@pytest.mark.parametrize(
    "other",
    [small_plan(epoch=EPOCH + 1), small_plan(volume_id="OTHER"), small_plan(mbr_id=5), small_plan(files={"a": b""})],
    ids=["epoch", "volume id", "disk id", "a file"],
)
def test_another_plan_gives_other_bytes(tmp_path: Path, other: IsoPlan) -> None:
    write_iso(small_plan(), tmp_path / "a.iso")
    write_iso(other, tmp_path / "b.iso")
    assert (tmp_path / "a.iso").read_bytes() != (tmp_path / "b.iso").read_bytes()


@pytest.mark.parametrize("epoch", [0, EPOCH, 951_782_399, 5_869_583_999])
def test_every_time_on_the_disc_is_the_plans(tmp_path: Path, epoch: int) -> None:
    path = tmp_path / "live.iso"
    write_iso(small_plan(epoch=epoch), path)
    assert {found.seconds for found in time_fields(path)} == {epoch}


def test_no_time_of_the_writer_is_overlooked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pycdlib's clock leaves no byte: two drafts that differ in time differ nowhere but where we set the time."""
    drafts = []
    for now in (1_000_000_000.0, 1_999_999_999.0):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        iso._master(small_plan(), tmp_path / "draft.iso")
        drafts.append((tmp_path / "draft.iso").read_bytes())
    monkeypatch.undo()
    fields = time_fields(tmp_path / "draft.iso")
    ours = {offset for found in fields for offset in range(found.offset, found.offset + found.width)}
    differing = {offset for offset, pair in enumerate(zip(*drafts, strict=True)) if pair[0] != pair[1]}
    assert differing, "or the clock did not move"
    assert differing <= ours


def test_folders_and_empty_files_and_long_names(tmp_path: Path) -> None:
    files = {"a/b/c/deep.txt": b"deep", "empty": b"", "A_name_of_thirty_characters_ab": b"long", "manifest.json": b"{}"}
    report = write_iso(small_plan(files=files), tmp_path / "live.iso")
    found = {file.path: file for file in report.files}
    assert {name: found[name].size_bytes for name in files} == {name: len(data) for name, data in files.items()}
    assert found["manifest.json"].loader_path == "MANIFEST.JSON"
    assert found["A_name_of_thirty_characters_ab"].loader_path == "A_NAME_OF_THIRTY_CHARACTERS_AB"


def test_content_in_files_and_in_parts_of_files(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"before" + b"kernel" * 5000 + b"behind")
    whole, part = Content.from_file(tmp_path / "data"), Content.from_file(tmp_path / "data", offset=6, size=30000)
    plan = small_plan()
    report = write_iso(replace(plan, files={**plan.files, "whole": whole, "part": part}), tmp_path / "live.iso")
    data = (tmp_path / "live.iso").read_bytes()
    found = {file.path: data[file.sector * 2048 :][: file.size_bytes] for file in report.files}
    assert found["part"] == b"kernel" * 5000
    assert found["whole"] == (tmp_path / "data").read_bytes()


def test_a_disc_is_hardly_larger_than_what_is_on_it(tmp_path: Path) -> None:
    big = os.urandom(6 * MIB)
    plan = small_plan(files={"boot/initramfs": big})
    report = write_iso(plan, tmp_path / "live.iso")
    payload = sum(content.size for content in plan.all_files().values())
    assert report.volume_size_bytes <= 1.02 * payload
    assert report.size_bytes - report.volume_size_bytes < MIB, "isohybrid pads to whole cylinders"


def test_when_the_disk_is_full_there_is_an_error_and_nothing_else(tmp_path: Path) -> None:
    plan = small_plan(files={"boot/initramfs": os.urandom(3 * MIB)})
    out = tmp_path / "out"
    with file_size_limit(2 * MIB), pytest.raises(LivebuilderError, match=rf"writing to {out} failed: File too large"):
        write_iso(plan, out / "live.iso")
    assert listing(tmp_path) == []
    write_iso(plan, out / "live.iso")


def test_an_older_disc_stays_when_the_new_one_fails(tmp_path: Path) -> None:
    path = tmp_path / "live.iso"
    path.write_bytes(b"old")
    with file_size_limit(MIB // 2), pytest.raises(LivebuilderError, match="File too large"):
        write_iso(small_plan(), path)
    assert (path.read_bytes(), listing(tmp_path)) == (b"old", ["live.iso"])
    write_iso(small_plan(), path)
    assert (path.stat().st_size, listing(tmp_path)) == (MIB, ["live.iso"])


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_draft: Path, _epoch: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(iso, "_set_times", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_iso(small_plan(), tmp_path / "out" / "live.iso")
    assert listing(tmp_path) == []


def test_a_disc_that_is_not_as_planned_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iso, "_set_times", lambda _draft, _epoch: None)
    with pytest.raises(IsoError, match=r"live.iso was not written as planned: .*the newest time"):
        write_iso(small_plan(), tmp_path / "live.iso")
    assert listing(tmp_path) == []


@pytest.mark.parametrize("size", [0, 100, 99_999])
def test_a_file_that_shrinks_while_the_disc_is_written_is_an_error(tmp_path: Path, size: int) -> None:
    (tmp_path / "initramfs").write_bytes(b"i" * 100_000)
    plan = small_plan()
    plan = replace(plan, files={**plan.files, "boot/initramfs": Content.from_file(tmp_path / "initramfs")})
    os.truncate(tmp_path / "initramfs", size)
    with pytest.raises(LivebuilderError, match="changed while it was being read"):
        write_iso(plan, tmp_path / "out" / "live.iso")
    assert listing(tmp_path) == ["initramfs"]


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "initramfs").write_bytes(b"i" * 100)
    plan = small_plan()
    plan = replace(plan, files={**plan.files, "boot/initramfs": Content.from_file(tmp_path / "initramfs")})
    (tmp_path / "initramfs").unlink()
    with pytest.raises(LivebuilderError, match="initramfs cannot be read: No such file or directory"):
        write_iso(plan, tmp_path / "out" / "live.iso")
    assert listing(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LivebuilderError, match="output folder"):
        write_iso(small_plan(), tmp_path / "file" / "live.iso")
