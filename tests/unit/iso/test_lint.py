import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from livebuilder.iso.iso9660 import SECTOR
from livebuilder.iso.lint import lint_iso, with_boot_info
from livebuilder.iso.plan import IsoPlan
from livebuilder.iso.report import read_iso
from livebuilder.tree import Content
from tests.support.isos import EPOCH, INITRAMFS, SmallIso, small_plan

PRIMARY = 16 * SECTOR


@pytest.fixture(scope="module")
def iso(tmp_path_factory: pytest.TempPathFactory) -> SmallIso:
    return SmallIso(tmp_path_factory.mktemp("iso"))


def errors(path: Path, plan: IsoPlan | None) -> list[str]:
    return [finding.message for finding in lint_iso(read_iso(path), plan) if finding.severity == "error"]


def test_a_disc_as_planned_has_no_finding(iso: SmallIso) -> None:
    assert lint_iso(iso.report, iso.plan) == ()
    assert lint_iso(iso.report) == ()


LOADER = "isolinux/isolinux.bin"
CONFIG = "isolinux/isolinux.cfg"

# What is changed on a sound disc, and what is then said of it without a plan.
ANY_DISC: dict[str, tuple[Callable[[SmallIso], tuple[int, bytes]], str]] = {
    "no catalogue": (lambda iso: (17 * SECTOR + 7, b"NO TORITO"), "does not boot as a CD"),
    "catalogue checksum": (lambda iso: (iso.catalog + 4, b"x"), "checksum of the boot catalogue is wrong"),
    "only UEFI": (lambda iso: (iso.catalog + 1, b"\xef"), "has no entry for one"),
    "not bootable": (lambda iso: (iso.catalog + 32, b"\0"), "is marked as not bootable"),
    "image elsewhere": (lambda iso: (iso.catalog + 40, b"\x02"), "the boot sector starts what is at sector"),
    "image away": (lambda iso: (iso.catalog + 40, b"\xff\xff\xff"), "the BIOS boot image would end at byte"),
    "no boot info": (lambda iso: (iso.file(LOADER) + 8, b"\0" * 16), "has no boot info table"),
    "boot info sector": (lambda iso: (iso.file(LOADER) + 12, b"\1"), "its boot info table names sectors 16 and"),
    "boot info length": (lambda iso: (iso.file(LOADER) + 16, b"\1"), "its boot info table says"),
    "boot info checksum": (lambda iso: (iso.file(LOADER) + 20, b"\1\2\3"), "its table says"),
    "loader changed": (lambda iso: (iso.file(LOADER) + 6000, b"virus"), "its checksum is"),
    "no config": (lambda iso: (iso.record(b"ISOLINUX.CFG;1") + 33, b"X"), "ISOLINUX finds no isolinux.cfg"),
    "no ldlinux": (lambda iso: (iso.record(b"LDLINUX.C32;1") + 33, b"X"), "ISOLINUX finds no ldlinux.c32"),
    "hybrid pointer": (lambda iso: (432, b"\1"), "the boot sector starts what is at sector"),
    "hybrid not active": (lambda iso: (446, b"\0"), "exactly one active partition"),
    "hybrid two active": (lambda iso: (462, b"\x80\0\0\0\x83"), "exactly one active partition"),
    "hybrid too large": (lambda iso: (458, struct.pack("<I", 4000)), "partition 1 ends"),
}


@pytest.mark.parametrize("name", ANY_DISC)
def test_what_is_wrong_with_any_disc(iso: SmallIso, tmp_path: Path, name: str) -> None:
    change, said = ANY_DISC[name]
    found = errors(iso.broken(tmp_path, change(iso)), None)
    assert any(said in message for message in found), found


# What is changed on a sound disc that only the plan can tell.
AGAINST_PLAN: dict[str, tuple[Callable[[SmallIso], tuple[int, bytes]], str]] = {
    "volume id": (lambda iso: (PRIMARY + 40, b"B"), "the volume id: 'BTTIC_PC' is on the disc, 'ATTIC_PC' was"),
    "Joliet id": (lambda iso: (18 * SECTOR + 41, b"B"), "the Joliet volume id: 'BTTIC_PC'"),
    "a time": (lambda iso: (iso.record(b"VMLINUZ.;1") + 18, b"\x20"), "the oldest time"),
    "a descriptor's time": (lambda iso: (PRIMARY + 830, b"2050"), "the newest time"),
    "disk id": (lambda iso: (440, b"\x01\x02"), "the disk id"),
    "loaded sectors": (lambda iso: (iso.catalog + 38, b"\x4c"), "the loaded sectors: (76,)"),
    "a name": (lambda iso: (iso.data.index(b"vmlinuz"), b"w"), "/boot/vmlinuz is not on the disc"),
    "another name": (lambda iso: (iso.data.index(b"vmlinuz"), b"w"), "/boot/wmlinuz is on the disc and in no plan"),
    "a Joliet name": (
        lambda iso: (iso.data.index("vmlinuz".encode("utf-16-be")) + 1, b"w"),
        "/boot/vmlinuz is not the same file under its Joliet name",
    ),
    "a byte of the kernel": (lambda iso: (iso.file("boot/vmlinuz") + 5000, b"!"), "the bytes of /boot/vmlinuz"),
    "the last byte": (
        lambda iso: (iso.file("boot/initramfs") + len(INITRAMFS) - 1, b"!"),
        "the bytes of /boot/initramfs",
    ),
    "a loader's byte": (lambda iso: (iso.file("isolinux/ldlinux.c32") + 9, b"!"), "the bytes of /isolinux/ldlinux.c32"),
    "a length": (lambda iso: (iso.record(b"VMLINUZ.;1") + 10, b"\1"), "/boot/vmlinuz has 10497 bytes on the disc"),
}


@pytest.mark.parametrize("name", AGAINST_PLAN)
def test_what_is_not_as_planned(iso: SmallIso, tmp_path: Path, name: str) -> None:
    change, said = AGAINST_PLAN[name]
    found = errors(iso.broken(tmp_path, change(iso)), iso.plan)
    assert any(said in message for message in found), found


def test_a_file_name_in_the_menu_that_is_not_on_the_disc(iso: SmallIso, tmp_path: Path) -> None:
    place = iso.file(CONFIG) + iso.data[iso.file(CONFIG) :].index(b"/boot/vmlinuz")
    path = iso.broken(tmp_path, (place, b"/boot/wmlinuz"))
    said = "isolinux/isolinux.cfg names /boot/wmlinuz, which is not on the disc"
    assert said in errors(path, iso.plan)
    assert [(f.severity, f.message) for f in lint_iso(read_iso(path))] == [("warning", said)], "others may mean it"


def test_another_plan_is_not_what_is_on_the_disc(iso: SmallIso) -> None:
    more = small_plan(files={"README.txt": b"read me"}, epoch=EPOCH + 1, volume_id="OTHER")
    found = [finding.message for finding in lint_iso(iso.report, more)]
    assert "/README.txt is not on the disc" in found
    assert any("the oldest time" in message for message in found)
    assert any("the disk id" in message for message in found), "it is made of the volume id"


def test_two_entries_for_a_bios_are_one_too_many(iso: SmallIso, tmp_path: Path) -> None:
    entry = iso.data[iso.catalog + 32 : iso.catalog + 64]
    section = struct.pack("<BBH28x", 0x91, 0, 1)
    found = errors(iso.broken(tmp_path, (iso.catalog + 64, section + entry)), None)
    assert "the boot catalogue has 2 entries for a BIOS; some take the last, some none" in found


def test_an_entry_for_uefi_beside_the_one_for_a_bios_is_fine(iso: SmallIso, tmp_path: Path) -> None:
    entry = iso.data[iso.catalog + 32 : iso.catalog + 64]
    section = struct.pack("<BBH28x", 0x91, 0xEF, 1)
    assert lint_iso(read_iso(iso.broken(tmp_path, (iso.catalog + 64, section + entry)))) == ()


def test_what_may_be_meant_so_is_a_warning(iso: SmallIso, tmp_path: Path) -> None:
    for change, said in (
        ((iso.catalog + 38, b"\x4c"), "76 sectors are loaded; old BIOSes take 4"),
        ((510, b"\0\0"), "it does not boot from a disk or a stick: there is no boot sector"),
    ):
        (finding,) = lint_iso(read_iso(iso.broken(tmp_path, change)))
        assert finding.severity == "warning"
        assert finding.message.endswith(said)


def test_content_that_is_a_part_of_a_file_is_compared_as_that_part(iso: SmallIso, tmp_path: Path) -> None:
    kernel = iso.plan.files["boot/vmlinuz"].read()
    (tmp_path / "big").write_bytes(b"before" + kernel + b"behind")
    part = Content(len(kernel), None, tmp_path / "big", 6)
    plan = replace(iso.plan, files={**iso.plan.files, "boot/vmlinuz": part})
    assert lint_iso(iso.report, plan) == ()
    off = replace(plan, files={**plan.files, "boot/vmlinuz": replace(part, offset=5)})
    assert [f.message for f in lint_iso(iso.report, off)] == [
        "the bytes of /boot/vmlinuz on the disc are not those of the plan"
    ]


def test_the_boot_info_table_is_what_mkisofs_documents() -> None:
    image = bytes(64) + struct.pack("<2I", 5, 0xFFFFFFFF)
    assert with_boot_info(image, sector=33) == bytes(8) + struct.pack("<4I40x", 16, 33, 72, 4) + image[64:]
