import json
from dataclasses import asdict
from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.iso.iso9660 import IsoError
from livebuilder.iso.lint import lint_iso
from livebuilder.iso.report import files_named, read_iso, render_report
from tests.support.isos import EPOCH, INITRAMFS, KERNEL, SmallIso, small_plan, structurally_mutated


@pytest.fixture(scope="module")
def iso(tmp_path_factory: pytest.TempPathFactory) -> SmallIso:
    return SmallIso(tmp_path_factory.mktemp("iso"))


def test_a_disc_of_ours(iso: SmallIso) -> None:
    report = iso.report
    assert (report.volume_id, report.joliet_volume_id, report.application_id) == ("ATTIC_PC", "ATTIC_PC", "LIVEBUILDER")
    assert (report.rock_ridge, report.joliet) == (True, True)
    assert (report.oldest, report.newest) == (EPOCH, EPOCH)
    assert report.size_bytes == iso.path.stat().st_size
    assert report.problems == ()
    (image,) = report.boot_images
    assert (image.platform, image.bootable, image.media) == ("BIOS", True, "no emulation")
    assert (image.load_sectors, image.load_segment, image.path) == (4, 0, "isolinux/isolinux.bin")
    assert image.loader == f"ISOLINUX {iso.plan.loader.version}"
    assert image.boot_info is not None
    assert image.boot_info.checksum == image.boot_info.actual_checksum
    assert (image.boot_info.descriptor_sector, image.boot_info.sector) == (16, image.sector)
    assert report.hybrid is not None
    assert (report.hybrid.code, report.hybrid.disk_id) == ("isohybrid", iso.plan.disk_id)
    assert report.hybrid.image_sector == image.sector * 4
    (partition,) = report.hybrid.partitions
    assert (partition.active, partition.type, partition.start_sector) == (True, 0x17, 0)
    assert partition.sectors * 512 == report.size_bytes
    assert report.config is not None
    assert report.config.missing == ()


def test_files_stand_where_they_are_said_to(iso: SmallIso) -> None:
    for path, data in {"boot/vmlinuz": KERNEL, "boot/initramfs": INITRAMFS}.items():
        assert iso.data[iso.file(path) :][: len(data)] == data
    assert [file.path for file in iso.report.files] == sorted([*small_plan().all_files(), "isolinux/boot.cat"])


def test_the_report_is_plain_json_whose_keys_stay(iso: SmallIso) -> None:
    found = json.loads(json.dumps(asdict(iso.report)))
    assert list(found) == [
        "path", "size_bytes", "volume_size_bytes", "volume_id", "joliet_volume_id", "system_id", "application_id",
        "publisher_id", "rock_ridge", "joliet", "oldest", "newest", "catalog_sector", "boot_images", "hybrid",
        "config", "files", "joliet_files", "folders", "problems",
    ]  # fmt: skip
    assert list(found["boot_images"][0]) == [
        "platform", "platform_id", "bootable", "media", "load_segment", "load_sectors", "sector", "path", "loader",
        "boot_info",
    ]  # fmt: skip
    assert list(found["hybrid"]) == ["code", "disk_id", "image_sector", "partitions", "gpt"]
    assert list(found["files"][0]) == ["path", "loader_path", "sector", "size_bytes"]


def test_the_report_as_text(iso: SmallIso) -> None:
    text = render_report(iso.report)
    for said in (
        "ATTIC_PC, Rock Ridge and Joliet",
        "all 2023-11-14 22:13:20 UTC",
        f"BIOS: isolinux/isolinux.bin (ISOLINUX {iso.plan.loader.version}, no emulation, load 4 x 512 bytes",
        "boot info table, checksum",
        f"isohybrid boot code, disk id {iso.plan.disk_id:08x}; partition 1 (active): type 0x17, 2048 sectors from 0",
        "isolinux/isolinux.cfg, names /isolinux/menu.msg",
        f"{len(KERNEL)}  boot/vmlinuz",
    ):
        assert said in text
    assert "problem" not in text
    assert "WRONG" not in text


def test_a_wrong_checksum_is_shown(iso: SmallIso, tmp_path: Path) -> None:
    place = iso.file("isolinux/isolinux.bin") + 5000
    text = render_report(read_iso(iso.broken(tmp_path, (place, b"wrong"))))
    assert "WRONG" in text


def test_problems_are_shown(iso: SmallIso, tmp_path: Path) -> None:
    (tmp_path / "short.iso").write_bytes(iso.data[: iso.file("isolinux/isolinux.bin") + 100])
    text = render_report(read_iso(tmp_path / "short.iso"))
    assert "problem     the file is cut short" in text
    assert "problem     /isolinux/isolinux.bin lies beyond the end of the disc" in text


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("", ()),
        ("# KERNEL no\nLABEL x\n KERNEL /a\n APPEND initrd=/b,/c root=/d\n", ("/a", "/b", "/c")),
        (
            "linux a\ninitrd b,c\nDISPLAY d.msg\nF1 e\nf12 g\ndefault menu\nui menu.c32\n",
            ("a", "b", "c", "d.msg", "e", "g", "menu.c32"),
        ),
        ("kernel a\nkernel a\n", ("a",)),
        ("label kernel\nsay initrd=x\n", ()),
    ],
)
def test_files_named(config: str, named: tuple[str, ...]) -> None:
    assert files_named(config) == named


def test_two_hundred_broken_discs_give_reports_or_errors(iso: SmallIso, tmp_path: Path) -> None:
    """The same two hundred each time: what the bytes of the structures are changed to is what a bad disc has."""
    verdicts = {"error": 0, "findings": 0, "sound": 0}
    path = tmp_path / "mutated.iso"
    for seed in range(200):
        path.write_bytes(structurally_mutated(iso.data, seed))
        try:
            report = read_iso(path)
        except IsoError:
            verdicts["error"] += 1
            continue
        render_report(report)
        verdicts["findings" if lint_iso(report, iso.plan) else "sound"] += 1
    assert sum(verdicts.values()) == 200
    assert verdicts["error"] >= 1, verdicts
    # The others have changes in what nobody reads: the publisher, link counts, the rest of a descriptor.
    assert verdicts["findings"] >= 150, verdicts


@pytest.mark.parametrize("keep", [0, 1, 511, 2048 * 16, 2048 * 16 + 40, 2048 * 17, 2048 * 20, 2048 * 24 + 7])
def test_discs_cut_short_anywhere(iso: SmallIso, tmp_path: Path, keep: int) -> None:
    (tmp_path / "short.iso").write_bytes(iso.data[:keep])
    try:
        report = read_iso(tmp_path / "short.iso")
    except LivebuilderError:
        assert keep < 2048 * 17
    else:
        assert any("cut short" in problem for problem in report.problems)
