import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from livebuilder.iso import iso9660
from livebuilder.iso.iso9660 import (
    SECTOR,
    Disc,
    IsoError,
    Record,
    open_disc,
    read_descriptors,
    read_records,
    record_seconds,
    volume_seconds,
)
from livebuilder.iso.writer import write_iso
from livebuilder.tree import Kind
from tests.support.isos import EPOCH, SmallIso, both, small_plan

PRIMARY = 16 * SECTOR


@pytest.fixture(scope="module")
def iso(tmp_path_factory: pytest.TempPathFactory) -> SmallIso:
    return SmallIso(tmp_path_factory.mktemp("iso"))


@pytest.fixture
def disc(iso: SmallIso) -> Iterator[Disc]:
    with open_disc(iso.path) as disc:
        yield disc


def read(path: Path) -> tuple[list[str], tuple[Record, ...]]:
    """The problems of a disc, and what is on it."""
    with open_disc(path) as disc:
        records, _ = read_records(disc, read_descriptors(disc).primary)
        return disc.problems, records


def test_descriptors(disc: Disc) -> None:
    found = read_descriptors(disc)
    assert (found.primary.volume_id, found.primary.system_id) == ("ATTIC_PC", "LINUX")
    assert found.primary.application_id == "LIVEBUILDER"
    assert found.joliet is not None
    assert found.joliet.volume_id == "ATTIC_PC"
    assert found.primary.sectors * SECTOR <= disc.size_bytes


def test_names_of_every_kind(disc: Disc) -> None:
    found = read_descriptors(disc)
    records, rock_ridge = read_records(disc, found.primary)
    assert rock_ridge
    assert {record.path: record.loader_path for record in records} == {
        path: path.upper()
        for path in ("boot", "isolinux", "isolinux/boot.cat", *(file for file in small_plan().all_files()))
    } | {"boot": "BOOT", "isolinux": "ISOLINUX"}
    assert found.joliet is not None
    joliet, rock_ridge = read_records(disc, found.joliet)
    assert not rock_ridge
    assert {record.path for record in joliet} == {record.path for record in records}
    assert disc.problems == []


def test_kinds_and_modes(disc: Disc) -> None:
    records = {r.path: r for r in read_records(disc, read_descriptors(disc).primary)[0]}
    assert (records["boot"].kind, records["boot"].mode) == (Kind.DIRECTORY, 0o040555)
    assert (records["boot/vmlinuz"].kind, records["boot/vmlinuz"].mode) == (Kind.FILE, 0o100444)


def test_every_time_is_found(disc: Disc) -> None:
    """In descriptors: 3 of each of two, and two roots; in folders: every record, with Rock Ridge some more."""
    found = read_descriptors(disc)
    records = len(read_records(disc, found.primary)[0])
    primary = len(disc.times)
    assert found.joliet is not None
    assert len(read_records(disc, found.joliet)[0]) == records
    folders, joliet = 3, len(disc.times) - primary
    assert joliet == records + 2 * folders
    assert primary > joliet + 8
    assert {time.seconds for time in disc.times} == {EPOCH}
    assert len({time.offset for time in disc.times}) == len(disc.times)


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        ("7b0b0e160d1400", EPOCH),
        ("7b0b0e170d1404", EPOCH),  # an hour to the east of Greenwich, where it is an hour later
        ("46010100000000", 0),
        ("00000000000000", None),
        ("7b0d0e160d1400", None),  # the thirteenth month
        ("7b0b0e180d1400", None),
    ],
)
def test_times_in_folders(data: str, seconds: int | None) -> None:
    assert record_seconds(bytes.fromhex(data)) == seconds


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (b"2023111422132000\0", EPOCH),
        (b"2023111421132000\xfc", EPOCH),
        (b"0000000000000000\0", None),
        (b"2023 1142213200 \0", None),
        (b"20231114221x2000\0", None),
        (b"\xff" * 17, None),
    ],
)
def test_times_in_descriptors(data: bytes, seconds: int | None) -> None:
    assert volume_seconds(data) == seconds


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"\0" * 40 * SECTOR, b"MZ" * 100_000], ids=len)
def test_what_is_no_disc_is_said_to_be_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.iso").write_bytes(data)
    with open_disc(tmp_path / "x.iso") as disc, pytest.raises(IsoError, match="is not an ISO 9660 disc"):
        read_descriptors(disc)


def test_what_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IsoError, match=r"none.iso cannot be read: No such file"):
        open_disc(tmp_path / "none.iso")
    with pytest.raises(IsoError, match="cannot be read: Is a directory"):
        open_disc(tmp_path)
    with pytest.raises(IsoError, match="neither a file nor a drive"):
        open_disc(Path("/dev/null"))


def test_reading_behind_the_end_is_an_error(disc: Disc) -> None:
    with pytest.raises(IsoError, match="a thing would end at byte"):
        disc.read(disc.size_bytes - 10, 11, what="a thing")
    assert len(disc.read(disc.size_bytes - 10, 10, what="a thing")) == 10


# What is done to a sound disc, as (byte, new bytes) by a function of it, and what is then said of it.
DAMAGE: dict[str, tuple[Callable[[SmallIso], tuple[int, bytes]], str]] = {
    "one byte order": (lambda iso: (PRIMARY + 80, b"\x77\x77"), "a number is 3"),
    "cut short": (lambda iso: (PRIMARY + 80, both(600)), "the file is cut short"),
    "time": (lambda iso: (PRIMARY + 813, b"20231399"), "creation: its time is no time"),
    "no terminator": (lambda iso: (19 * SECTOR, b"\0" * 8), "do not end with a terminator"),
    "root elsewhere": (lambda iso: (PRIMARY + 158, both(0xFFFFFF)), "folder / would end at byte"),
    "root too large": (lambda iso: (PRIMARY + 166, both(0xFFFFFFFF)), "folder / is too large to be true"),
    "a loop": (lambda iso: (iso.record(b"\x04BOOT") + 1 + 2, both(root_sector(iso))), "already met: a loop"),
    "a record too short": (lambda iso: (iso.record(b"VMLINUZ.;1"), b"\x21"), "folder /boot has a damaged record"),
    "a name too long": (lambda iso: (iso.record(b"VMLINUZ.;1") + 32, b"\xf0"), "folder /boot has a damaged record"),
    "Rock Ridge": (lambda iso: (iso.record(b"VMLINUZ.;1") + 33 + 11 + 2, b"\xf0"), "a damaged Rock Ridge field"),
    "path table": (lambda iso: (path_table(iso, 140, "<") + 2, b"\x99"), "names 3 folders, the walk finds"),
    "big path table": (lambda iso: (path_table(iso, 148, ">") + 5, b"\x99"), "names 3 folders, the walk finds"),
    "path table name": (lambda iso: (path_table(iso, 140, "<") + 18, b"X"), "path tables do not say the same"),
    "path table away": (lambda iso: (PRIMARY + 140, b"\xff\xff\xff"), "path table at sector 16777215 would end"),
    "path table large": (lambda iso: (PRIMARY + 132, both(0xFFFFFFF)), "is too large to be true"),
}


def root_sector(iso: SmallIso) -> int:
    return int(struct.unpack_from("<I", iso.data, PRIMARY + 158)[0])


def path_table(iso: SmallIso, pointer: int, order: str) -> int:
    return int(struct.unpack_from(f"{order}I", iso.data, PRIMARY + pointer)[0]) * SECTOR


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_and_the_rest_is_read(iso: SmallIso, tmp_path: Path, name: str) -> None:
    change, said = DAMAGE[name]
    problems, _ = read(iso.broken(tmp_path, change(iso)))
    assert any(said in problem for problem in problems), problems


def test_a_sound_disc_has_no_problem(iso: SmallIso) -> None:
    assert read(iso.path)[0] == []


def test_blocks_of_another_size_are_refused(iso: SmallIso, tmp_path: Path) -> None:
    with (
        open_disc(iso.broken(tmp_path, (PRIMARY + 128, b"\0\2\2\0"))) as disc,
        pytest.raises(IsoError, match="has blocks of 512 bytes"),
    ):
        read_descriptors(disc)


def test_a_chain_of_continuation_areas_ends(iso: SmallIso, tmp_path: Path) -> None:
    """A CE field whose area is the field itself."""
    record = iso.record(b"VMLINUZ.;1")
    at = record + 33 + 11
    field = b"CE\x1c\1" + both(at // SECTOR) + both(at % SECTOR) + both(28)
    problems, records = read(iso.broken(tmp_path, (at, field)))
    assert any("a chain of continuation areas without an end" in problem for problem in problems)
    assert "boot/initramfs" in {found.path for found in records}


def test_a_file_in_several_extents(tmp_path: Path) -> None:
    """What a writer does with 4 GiB and more: records of one name, all but the last marked. Made of two files."""
    write_iso(small_plan(files={"aaaa": b"a" * SECTOR, "bbbb": b"b" * 100}), tmp_path / "x.iso")
    data = bytearray((tmp_path / "x.iso").read_bytes())
    data[data.index(b"AAAA.;1") - 33 + 25] |= 0x80
    for name in (b"BBBB.;1", b"bbbb"):
        place = data.index(name)
        data[place : place + 4] = name[:4].replace(b"B", b"A").replace(b"b", b"a")
    (tmp_path / "x.iso").write_bytes(data)
    _, records = read(tmp_path / "x.iso")
    assert [(record.path, record.size_bytes) for record in records if "a" * 4 in record.path] == [
        ("aaaa", SECTOR + 100)
    ]
    assert "bbbb" not in {record.path for record in records}


def test_names_cannot_command_a_terminal(iso: SmallIso, tmp_path: Path) -> None:
    place = iso.data.index(b"vmlinuz")
    _, records = read(iso.broken(tmp_path, (place, b"\x1b[2J\r\n\7")))
    assert "boot/\ufffd[2J\ufffd\ufffd\ufffd" in {found.path for found in records}


def hostile_folder(iso: SmallIso, folder: Path, size: int) -> Path:
    """A disc whose root says it is `size` bytes of records, all of them the same small one."""
    record = bytearray(iso.data[iso.record(b"VMLINUZ.;1") :][:44])
    record[0] = 44
    row = (bytes(record) * (SECTOR // 44)).ljust(SECTOR, b"\0")
    path = folder / "hostile.iso"
    with path.open("wb") as stream:
        stream.write(iso.data[: 32 * SECTOR])
        for _ in range(size // SECTOR):
            stream.write(row)
        stream.seek(0)
        head = bytearray(iso.data[: 17 * SECTOR])
        head[PRIMARY + 158 : PRIMARY + 174] = both(32) + both(size)
        stream.write(head)
    return path


def test_a_disc_of_nothing_but_records_is_bounded(
    iso: SmallIso, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hostile_folder(iso, tmp_path, 64 * SECTOR)
    everything = 64 * (SECTOR // 44)
    assert len(read(path)[1]) == everything, "or the bound is not what stops it"
    monkeypatch.setattr(iso9660, "_MAX_ENTRIES", 1000)
    problems, records = read(path)
    assert any("more than 1000 records" in problem for problem in problems)
    assert len(records) == 1000


def test_a_folder_larger_than_any_real_one_is_not_read(iso: SmallIso, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iso9660, "_MAX_FOLDER_BYTES", SECTOR)
    assert read(iso.path)[0] == []
    monkeypatch.setattr(iso9660, "_MAX_FOLDER_BYTES", SECTOR // 2)
    assert any("folder / is too large to be true: 2048 bytes" in problem for problem in read(iso.path)[0])
