from __future__ import annotations

import errno
import gc
import inspect
import re
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.usb import fdisk
from livebuilder.usb.fdisk import FdiskError, NewPartition, TableName, gpt_name_problem, open_disk

LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
DISK_ID = "11111111-2222-4333-8444-555555555555"
UUID = "AAAAAAAA-BBBB-4CCC-8DDD-EEEEEEEEEEEE"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with path.open("xb") as stream:
        stream.truncate(16 << 20)
    return path


def _with_table(image: Path, table: TableName, *new: NewPartition) -> Path:
    with open_disk(image, writable=True) as disk:
        disk.create_label(table)
        for partition in new:
            disk.add(partition)
        disk.write()
    return image


def test_an_empty_file_has_no_table(image: Path) -> None:
    with open_disk(image) as disk:
        assert disk.label is None
        assert disk.partitions() == ()
        assert (disk.sectors, disk.sector_bytes) == (32768, 512)
        with pytest.raises(FdiskError) as caught:
            disk.add(NewPartition(start_sector=2048, sectors=1, type="83"))
        assert caught.value.errno == errno.EINVAL


def test_a_gpt_table_is_read_back_as_it_was_made(image: Path) -> None:
    with open_disk(image, writable=True) as disk:
        disk.create_label("gpt", disk_id=DISK_ID)
        number = disk.add(
            NewPartition(start_sector=2049, sectors=3001, type="linux filesystem", name="rootfs_dätä", uuid=UUID)
        )
        disk.write()
    assert number == 1
    with open_disk(image) as disk:
        assert (disk.label, disk.disk_id) == ("gpt", DISK_ID)
        (partition,) = disk.partitions()
    assert (partition.number, partition.start_sector, partition.sectors) == (1, 2049, 3001)
    assert (partition.type, partition.type_name) == (LINUX, "Linux filesystem")
    assert (partition.name, partition.uuid, partition.bootable) == ("rootfs_dätä", UUID, False)


def test_a_dos_table_is_read_back_as_it_was_made(image: Path) -> None:
    with open_disk(image, writable=True) as disk:
        disk.create_label("dos", disk_id="0x12345678")
        disk.add(NewPartition(start_sector=2048, sectors=2048, type="0x83"))
        disk.add(NewPartition(start_sector=4096, sectors=2048, type="c"))
        disk.write()
    with open_disk(image) as disk:
        assert (disk.label, disk.disk_id) == ("dos", "0x12345678")
        assert [(p.number, p.type) for p in disk.partitions()] == [(1, "83"), (2, "C")]


def test_without_an_id_every_table_gets_one_of_its_own(image: Path) -> None:
    ids = set()
    for _ in range(2):
        _with_table(image, "gpt")
        with open_disk(image) as disk:
            ids.add(disk.disk_id)
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("table", "wanted", "given"),
    [
        ("gpt", "Linux filesystem", LINUX),
        ("gpt", "LINUX SWAP", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"),
        ("gpt", LINUX.lower(), LINUX),
        ("gpt", "12345678-1234-4234-8234-123456789ABC", "12345678-1234-4234-8234-123456789ABC"),  # of nobody's table
        ("dos", "Linux", "83"),
        ("dos", "0x83", "83"),
        ("dos", "7f", "7F"),
    ],
)
def test_types_go_by_name_guid_or_code(image: Path, table: TableName, wanted: str, given: str) -> None:
    _with_table(image, table, NewPartition(start_sector=2048, sectors=2048, type=wanted))
    with open_disk(image) as disk:
        assert disk.partitions()[0].type == given


@pytest.mark.parametrize(
    ("table", "wanted"), [("gpt", "Linux fs"), ("gpt", "83"), ("dos", LINUX), ("dos", "zz"), ("dos", "")]
)
def test_an_unknown_type_is_refused(image: Path, table: TableName, wanted: str) -> None:
    with pytest.raises(FdiskError, match="no type of partition") as caught:
        _with_table(image, table, NewPartition(start_sector=2048, sectors=2048, type=wanted))
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("table", ["gpt", "dos"])
def test_the_boot_flag_is_set_and_taken_away(image: Path, table: TableName) -> None:
    _with_table(image, table, NewPartition(start_sector=2048, sectors=2048, type="Linux" if table == "dos" else LINUX))
    seen = []
    for wanted in (True, True, False):
        with open_disk(image, writable=True) as disk:
            disk.set_boot_flag(1, wanted)
            disk.write()
        with open_disk(image) as disk:
            seen.append(disk.partitions()[0].bootable)
    assert seen == [True, True, False]
    with open_disk(image, writable=True) as disk, pytest.raises(FdiskError, match="no partition 2"):
        disk.set_boot_flag(2)


def test_a_partition_is_renamed_and_keeps_the_rest(image: Path) -> None:
    new = NewPartition(start_sector=2048, sectors=2048, type=LINUX, name="ROOTFS_DATA", uuid=UUID)
    _with_table(image, "gpt", new)
    with open_disk(image, writable=True) as disk:
        before = disk.partitions()[0]
        disk.rename(1, "rootfs_data")
        disk.write()
    with open_disk(image) as disk:
        after = disk.partitions()[0]
    assert after.name == "rootfs_data"
    assert (after.start_sector, after.sectors, after.type, after.uuid) == (
        before.start_sector, before.sectors, before.type, before.uuid
    )  # fmt: skip


def test_nothing_is_written_without_write(image: Path) -> None:
    with open_disk(image, writable=True) as disk:
        disk.create_label("gpt")
        disk.add(NewPartition(start_sector=2048, sectors=2048, type=LINUX))
        assert len(disk.partitions()) == 1
    assert image.read_bytes().count(0) == image.stat().st_size


def test_a_disk_opened_to_be_read_cannot_be_written(image: Path) -> None:
    _with_table(image, "dos")
    before = image.read_bytes()
    with pytest.raises(FdiskError) as caught, open_disk(image) as disk:
        disk.create_label("gpt")
        disk.write()
    assert caught.value.errno in (errno.EBADF, errno.EINVAL, errno.EACCES, errno.EPERM)
    assert image.read_bytes() == before


@pytest.mark.parametrize(
    ("new", "problem"),
    [
        (NewPartition(start_sector=2048, sectors=10**9, type=LINUX), "failed"),
        (NewPartition(start_sector=10**9, sectors=1, type=LINUX), "failed"),
        (NewPartition(start_sector=2048, sectors=8, type=LINUX, uuid="not a uuid"), "failed"),
        (NewPartition(start_sector=2048, sectors=8, type=LINUX, name="x" * 37), "holds 36"),
        (NewPartition(start_sector=2048, sectors=8, type=LINUX, name="\N{PENGUIN}"), "cannot put"),
    ],
)
def test_a_partition_that_cannot_be_is_refused_with_a_number(image: Path, new: NewPartition, problem: str) -> None:
    with pytest.raises(FdiskError, match=problem) as caught:
        _with_table(image, "gpt", new)
    assert caught.value.errno > 0
    assert isinstance(caught.value, LivebuilderError)


def test_overlapping_partitions_are_refused(image: Path) -> None:
    first = NewPartition(start_sector=2048, sectors=2048, type=LINUX)
    second = NewPartition(start_sector=3000, sectors=2048, type=LINUX)
    with pytest.raises(FdiskError):
        _with_table(image, "gpt", first, second)


@pytest.mark.parametrize("field", ["name", "uuid"])
def test_a_dos_table_has_neither_names_nor_uuids(image: Path, field: str) -> None:
    extra = {field: UUID}
    with pytest.raises(FdiskError, match="a dos table has no") as caught:
        _with_table(image, "dos", NewPartition(start_sector=2048, sectors=2048, type="83", **extra))
    assert caught.value.errno == errno.EINVAL


def test_a_name_of_36_characters_is_kept_whole(image: Path) -> None:
    name = "é" * 36
    assert gpt_name_problem(name) is None
    _with_table(image, "gpt", NewPartition(start_sector=2048, sectors=8, type=LINUX, name=name))
    with open_disk(image) as disk:
        assert disk.partitions()[0].name == name


def test_a_file_that_is_not_there_carries_enoent(tmp_path: Path) -> None:
    with pytest.raises(FdiskError, match="No such file") as caught, open_disk(tmp_path / "none"):
        pass
    assert caught.value.errno == errno.ENOENT


def test_what_libfdisk_says_of_a_damaged_table_is_kept(image: Path) -> None:
    _with_table(image, "gpt", NewPartition(start_sector=2048, sectors=8, type=LINUX, name="rootfs_data"))
    with image.open("r+b") as stream:
        stream.seek(512 + 16)  # the checksum of the first header
        stream.write(b"\0\0\0\0")
    with open_disk(image) as disk:
        assert disk.partitions()[0].name == "rootfs_data"
        assert any("backup" in message.lower() for message in disk.messages)


def test_a_closed_disk_says_so(image: Path) -> None:
    with open_disk(image) as disk:
        pass
    disk.close()
    for use in (disk.partitions, disk.reread):
        with pytest.raises(FdiskError, match="is closed") as caught:
            use()
        assert caught.value.errno == errno.EBADF


def test_an_image_needs_no_rereading(image: Path) -> None:
    _with_table(image, "gpt", NewPartition(start_sector=2048, sectors=8192, type=LINUX))
    before = image.read_bytes()
    with open_disk(image, writable=True) as disk:
        disk.reread()  # libfdisk asks the kernel for block devices only
        assert len(disk.partitions()) == 1
    assert image.read_bytes() == before


def test_closing_lets_go_of_the_file_and_of_the_disk(image: Path) -> None:
    def open_files() -> list[Path]:
        links = list(Path("/proc/self/fd").iterdir())
        return [link.readlink() for link in links if link.is_symlink()]  # the one that lists is gone by now

    with open_disk(image) as disk:
        assert image in open_files()
    assert image not in open_files()
    seen = weakref.ref(disk)
    del disk
    gc.collect()
    assert seen() is None


def resident_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]


def _leaks(act: Callable[[], object], *, times: int) -> bool:
    """Whether doing it `times` takes memory that is not given back; a leak is to make 4 MiB and more of it."""
    for _ in range(20):
        act()
    before = resident_kib()
    for _ in range(times):
        act()
    return resident_kib() - before > 2500


def test_the_measure_sees_a_leak() -> None:
    kept: list[bytes] = []
    assert _leaks(lambda: kept.append(b"x" * 2_000_000), times=100)


def test_a_disk_that_is_closed_leaks_no_memory(image: Path) -> None:
    def look() -> None:
        with open_disk(image) as disk:
            assert disk.label == "gpt"

    _with_table(image, "gpt")
    assert not _leaks(look, times=300)  # the entries of a GPT alone are 16 KiB


def test_what_is_read_and_made_leaks_no_memory(image: Path) -> None:
    _with_table(image, "gpt", *(NewPartition(start_sector=2048 + n * 8, sectors=8, type=LINUX) for n in range(64)))
    with open_disk(image) as disk:

        def make_type() -> None:
            with disk._type("12345678-1234-4234-8234-123456789ABC"):
                pass

        def make_partition() -> None:
            with disk._partition():
                pass

        assert not _leaks(lambda: disk.disk_id, times=100_000)
        assert not _leaks(disk.partitions, times=300)
        assert not _leaks(make_type, times=60_000)
        assert not _leaks(make_partition, times=60_000)


def test_every_function_that_is_called_has_its_types_declared() -> None:
    source = inspect.getsource(fdisk)
    called = set(re.findall(r"(?:call|_library|library)\.(fdisk_\w+)", source))
    assert called
    assert called == set(fdisk._SIGNATURES)


def test_a_missing_library_names_doctor(monkeypatch: pytest.MonkeyPatch, image: Path) -> None:
    fdisk._library.cache_clear()
    monkeypatch.setattr(fdisk, "LIBRARY", "libfdisk-that-is-not-there.so.1")
    try:
        with pytest.raises(FdiskError, match="not installed") as caught, open_disk(image):
            pass
    finally:
        fdisk._library.cache_clear()
    assert caught.value.errno == errno.ENOENT
    assert "livebuilder doctor" in (caught.value.hint or "")


def test_a_library_that_lacks_a_function_says_which(monkeypatch: pytest.MonkeyPatch, image: Path) -> None:
    fdisk._library.cache_clear()
    monkeypatch.setitem(fdisk._SIGNATURES, "fdisk_of_the_future", (None, ()))
    try:
        with pytest.raises(FdiskError, match="too old: it lacks fdisk_of_the_future") as caught, open_disk(image):
            pass
    finally:
        fdisk._library.cache_clear()
    assert caught.value.errno == errno.ENOSYS
