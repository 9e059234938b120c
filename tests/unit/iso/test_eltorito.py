import struct

import pytest

from livebuilder.iso.eltorito import BootInfo, CatalogEntry, boot_checksum, read_boot_info, read_catalog

ENTRY = struct.pack("<BBHBBHI20x", 0x88, 0, 0, 0, 0, 4, 30)
UEFI = struct.pack("<BBHBBHI20x", 0x88, 0, 0, 0, 0, 80, 99)
BIOS_ENTRY = CatalogEntry(0, True, "no emulation", 0, 4, 30)
UEFI_ENTRY = CatalogEntry(0xEF, True, "no emulation", 0, 80, 99)


def validation(platform: int = 0) -> bytes:
    entry = bytearray(struct.pack("<BB2x24xH2s", 1, platform, 0, b"\x55\xaa"))
    struct.pack_into("<H", entry, 28, -sum(struct.unpack("<16H", entry)) & 0xFFFF)
    return bytes(entry)


def section(mark: int, platform: int, count: int) -> bytes:
    return struct.pack("<BBH28x", mark, platform, count)


@pytest.mark.parametrize(
    ("data", "entries", "problems"),
    [
        (validation() + ENTRY, (BIOS_ENTRY,), ()),
        (validation() + ENTRY + section(0x91, 0xEF, 1) + UEFI, (BIOS_ENTRY, UEFI_ENTRY), ()),
        (
            validation() + ENTRY + section(0x90, 0xEF, 1) + UEFI + section(0x91, 0, 1) + ENTRY,
            (BIOS_ENTRY, UEFI_ENTRY, BIOS_ENTRY),
            (),
        ),
        (  # an extension belongs to the entry before it
            validation() + ENTRY + section(0x91, 0xEF, 2) + UEFI + b"\x44" + b"\0" * 31 + UEFI,
            (BIOS_ENTRY, UEFI_ENTRY, UEFI_ENTRY),
            (),
        ),
        (  # what follows the last section is nothing
            validation() + ENTRY + section(0x91, 0xEF, 1) + UEFI + section(0x91, 0, 1) + ENTRY,
            (BIOS_ENTRY, UEFI_ENTRY),
            (),
        ),
        (
            validation() + ENTRY + section(0x91, 0xEF, 65535),
            (BIOS_ENTRY,),
            ("a section of the boot catalogue tells of more entries than it has",),
        ),
        (
            validation()[:4] + b"x" + validation()[5:] + ENTRY,
            (BIOS_ENTRY,),
            ("the checksum of the boot catalogue is wrong",),
        ),
        (b"", (), ("the boot catalogue does not begin with a validation entry",)),
        (b"\0" * 2048, (), ("the boot catalogue does not begin with a validation entry",)),
        (validation(), (), ("the boot catalogue does not begin with a validation entry",)),
    ],
)
def test_catalog(data: bytes, entries: tuple[CatalogEntry, ...], problems: tuple[str, ...]) -> None:
    assert read_catalog(data) == (entries, problems)
    if entries:
        assert read_catalog(data.ljust(2048, b"\0")) == (entries, problems), "and in a whole sector"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (b"\x00" + ENTRY[1:], CatalogEntry(0, False, "no emulation", 0, 4, 30)),
        (ENTRY[:1] + b"\x02\xc0\x07" + ENTRY[4:], CatalogEntry(0, True, "1.44 MB floppy", 0x7C0, 4, 30)),
        (ENTRY[:1] + b"\x0e" + ENTRY[2:], CatalogEntry(0, True, "media 14", 0, 4, 30)),
    ],
)
def test_entries(entry: bytes, expected: CatalogEntry) -> None:
    assert read_catalog(validation() + entry) == ((expected,), ())


def test_an_entry_that_is_neither_bootable_nor_not() -> None:
    entries, problems = read_catalog(validation() + b"\x12" + ENTRY[1:])
    assert not entries[0].bootable
    assert problems == ("an entry of the boot catalogue has the boot indicator 0x12",)


@pytest.mark.parametrize(
    ("number", "name"), [(0, "BIOS"), (1, "PowerPC"), (2, "Mac"), (0xEF, "UEFI"), (7, "platform 0x07")]
)
def test_platforms(number: int, name: str) -> None:
    assert CatalogEntry(number, True, "", 0, 4, 30).platform == name


IMAGE = b"\xfa" * 64 + struct.pack("<4I", 1, 2, 0xFFFFFFFF, 3) + b"\1\2\3"


def with_table(*numbers: int) -> bytes:
    return IMAGE[:8] + struct.pack("<4I40x", *numbers) + IMAGE[64:]


def test_the_checksum_is_of_words_behind_the_table_and_fills_up_with_zeros() -> None:
    assert boot_checksum(IMAGE) == (1 + 2 + 0xFFFFFFFF + 3 + 0x030201) & 0xFFFFFFFF
    assert boot_checksum(b"x" * 64) == 0


SUM = boot_checksum(IMAGE)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (with_table(16, 30, len(IMAGE), SUM), BootInfo(16, 30, len(IMAGE), SUM, SUM)),
        (with_table(16, 30, len(IMAGE), 5), BootInfo(16, 30, len(IMAGE), 5, SUM)),
        (with_table(16, 31, len(IMAGE), SUM), BootInfo(16, 31, len(IMAGE), SUM, SUM)),
        (with_table(17, 30, 9, SUM), BootInfo(17, 30, 9, SUM, SUM)),
        (with_table(16, 0, 0, 0), None),  # 16 alone may be chance
        (IMAGE, None),
        (b"", None),
        (with_table(16, 30, 79, SUM)[:63], None),
    ],
)
def test_boot_info(image: bytes, found: BootInfo | None) -> None:
    assert read_boot_info(image, sector=30) == found
