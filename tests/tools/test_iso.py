"""Our discs as other people's tools see them, and other people's discs as we see them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from livebuilder.iso.iso9660 import SECTOR
from livebuilder.iso.lint import lint_iso
from livebuilder.iso.loader import find_loader
from livebuilder.iso.report import IsoReport, read_iso, render_report
from livebuilder.iso.writer import write_iso
from livebuilder.process import run
from tests.support.isos import EPOCH, INITRAMFS, KERNEL, SmallIso, small_plan

MENU_C32 = find_loader().modules["ldlinux.c32"].parent / "menu.c32"


@pytest.fixture(scope="module")
def iso(tmp_path_factory: pytest.TempPathFactory) -> SmallIso:
    return SmallIso(tmp_path_factory.mktemp("iso"))


def xorriso(iso: Path, *words: str) -> str:
    # Its facts come on stdout, what it thinks of them on stderr.
    done = run(["xorriso", "-abort_on", "WARNING", "-indev", iso, *words], timeout_seconds=60)
    return done.stdout + done.stderr


# --- ours, read by others --------------------------------------------------------------------------------------


def test_xorriso_sees_the_boot_catalogue_and_the_boot_sector(iso: SmallIso) -> None:
    said = xorriso(iso.path, "-report_el_torito", "plain", "-report_system_area", "plain")
    image = iso.file("isolinux/isolinux.bin") // SECTOR
    for fact in (
        f"El Torito catalog  : {iso.catalog // SECTOR}  1",
        "El Torito cat path : /isolinux/boot.cat",
        rf"El Torito boot img :   1  BIOS  y   none  0x0000  0x00      4 +{image}",
        r"El Torito img path :   1  /isolinux/isolinux.bin",
        r"El Torito img opts :   1  boot-info-table isohybrid-suitable",
        r"System area summary: MBR isohybrid cyl-align-on",
        rf"ISO image size/512 : {iso.report.volume_size_bytes // 512}",
        r"MBR partition      :   1   0x80  0x17 +0 +2048",
    ):
        assert re.search(fact, said), f"{fact}\n{said}"
    assert len(re.findall(r"El Torito boot img", said)) == 1
    assert "WARNING" not in said


def test_xorriso_finds_every_byte_under_the_rock_ridge_names(iso: SmallIso, tmp_path: Path) -> None:
    run(["xorriso", "-osirrox", "on", "-indev", iso.path, "-extract", "/", tmp_path / "out"], timeout_seconds=60)
    assert_all_files(iso, tmp_path / "out")
    assert (tmp_path / "out/boot/vmlinuz").stat().st_mtime == EPOCH
    assert (tmp_path / "out/boot").stat().st_mtime == EPOCH


@pytest.mark.parametrize("option", ["", "!joliet", "!rockridge"], ids=["default", "rock ridge", "joliet"])
def test_bsdtar_finds_every_byte_under_either_kind_of_name(iso: SmallIso, tmp_path: Path, option: str) -> None:
    chosen = ["--options", f"iso9660:{option}"] if option else []
    run(["bsdtar", "-xf", iso.path, "-C", tmp_path, *chosen], timeout_seconds=60)
    assert_all_files(iso, tmp_path)


def assert_all_files(iso: SmallIso, folder: Path) -> None:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    wanted = {path: content.read() for path, content in iso.plan.all_files().items()}
    assert set(found) == {*wanted, "isolinux/boot.cat"}
    image = "isolinux/isolinux.bin"
    assert found[image][:8] + found[image][64:] == wanted[image][:8] + wanted[image][64:], "but for its table"
    assert {path: found[path] for path in wanted if path != image} == {p: d for p, d in wanted.items() if p != image}


def test_sfdisk_sees_one_active_partition_and_the_fixed_id(iso: SmallIso) -> None:
    table = json.loads(run(["sfdisk", "--json", iso.path]).stdout)["partitiontable"]
    assert (table["label"], table["id"]) == ("dos", f"0x{iso.plan.disk_id:08x}")
    (partition,) = table["partitions"]
    assert (partition["start"], partition["size"], partition["type"]) == (0, iso.report.size_bytes // 512, "17")
    assert partition["bootable"] is True


def test_blkid_sees_the_volume_and_the_time(iso: SmallIso) -> None:
    said = dict(
        line.split("=", 1) for line in run(["blkid", "-p", "-o", "export", iso.path]).stdout.splitlines() if "=" in line
    )
    assert (said["TYPE"], said["LABEL"], said["UUID"]) == ("iso9660", "ATTIC_PC", "2023-11-14-22-13-20-00")


def test_a_stranger_finds_the_damage_that_we_find(iso: SmallIso, tmp_path: Path) -> None:
    """The negative control of the tests above: they would see it."""
    path = iso.broken(tmp_path, (iso.catalog + 4, b"x"), (iso.file("boot/vmlinuz") + 9, b"!"))
    assert any("checksum of the boot catalogue" in finding.message for finding in lint_iso(read_iso(path)))
    run(["bsdtar", "-xf", path, "-C", tmp_path], timeout_seconds=60)
    assert (tmp_path / "boot/vmlinuz").read_bytes() != KERNEL


# --- others', read by us ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is on a disc of a distribution: two boot images, deep folders, long names, links."""
    tree = tmp_path_factory.mktemp("tree")
    (tree / "boot/grub").mkdir(parents=True)
    (tree / "boot/grub/eltorito.img").write_bytes(b"GRUB " * 900)
    (tree / "boot/grub/efi.img").write_bytes(b"\xeb\x3c\x90mkfs.fat" + bytes(40_000))
    (tree / "isolinux").mkdir()
    loader = find_loader()
    (tree / "isolinux/isolinux.bin").write_bytes(loader.isolinux_bin.read_bytes())
    (tree / "isolinux/ldlinux.c32").write_bytes(loader.modules["ldlinux.c32"].read_bytes())
    (tree / "isolinux/menu.c32").write_bytes(MENU_C32.read_bytes())
    (tree / "isolinux/isolinux.cfg").write_text(
        "UI menu.c32\nLABEL linux\n KERNEL /casper/linux\n APPEND initrd=/casper/initrd.lz quiet\n"
    )
    (tree / "casper").mkdir()
    (tree / "casper/linux").write_bytes(KERNEL)
    (tree / "casper/initrd.lz").write_bytes(INITRAMFS)
    deep = tree / "pool/a/b/c/d/e/f/g/h/i"
    deep.mkdir(parents=True)
    (deep / ("a-long-name_" * 20 + ".deb")).write_bytes(b"deb")
    (tree / "README").symlink_to("pool")
    return tree


def mkisofs(tree: Path, target: Path, *words: str | Path) -> IsoReport:
    run(["xorriso", "-as", "mkisofs", "-quiet", "-o", target, *words, tree], timeout_seconds=60)
    report = read_iso(target)
    assert report.problems == ()
    assert render_report(report)
    return report


NO_EMULATION = ("-no-emul-boot", "-boot-load-size", "4", "-boot-info-table")


def findings(report: IsoReport) -> list[tuple[str, str]]:
    return [(finding.severity, finding.message) for finding in lint_iso(report)]


def test_a_disc_like_debians_with_isolinux_and_uefi_and_a_hybrid_boot_sector(tree: Path, tmp_path: Path) -> None:
    code = find_loader().isolinux_bin.with_name("isohdpfx.bin")
    report = mkisofs(
        tree, tmp_path / "x.iso", "-R", "-J", "-joliet-long", "-V", "Debian 12.5 i386",
        "-isohybrid-mbr", code, "-c", "isolinux/boot.cat", "-b", "isolinux/isolinux.bin", *NO_EMULATION,
        "-eltorito-alt-boot", "-e", "boot/grub/efi.img", "-no-emul-boot", "-isohybrid-gpt-basdat",
    )  # fmt: skip
    assert report.volume_id == "Debian 12.5 i386"
    assert [(image.platform, image.path) for image in report.boot_images] == [
        ("BIOS", "isolinux/isolinux.bin"), ("UEFI", "boot/grub/efi.img"),
    ]  # fmt: skip
    assert report.boot_images[0].loader == f"ISOLINUX {find_loader().version}"
    assert report.hybrid is not None
    assert (report.hybrid.code, report.hybrid.gpt) == ("isohybrid", True)
    assert report.config is not None
    assert report.config.named == ("menu.c32", "/casper/linux", "/casper/initrd.lz")
    assert findings(report) == []


def test_a_disc_of_grub_for_both_kinds_of_firmware(tree: Path, tmp_path: Path) -> None:
    report = mkisofs(
        tree, tmp_path / "x.iso", "-R", "-c", "boot/boot.cat", "-b", "boot/grub/eltorito.img", *NO_EMULATION,
        "-eltorito-alt-boot", "-e", "boot/grub/efi.img", "-no-emul-boot",
    )  # fmt: skip
    assert [image.loader for image in report.boot_images] == ["GRUB", None]
    assert not report.joliet
    assert report.config is None
    assert findings(report) == [("warning", "it does not boot from a disk or a stick: there is no boot sector")]


def test_a_disc_that_loads_too_much_for_an_old_bios(tree: Path, tmp_path: Path) -> None:
    report = mkisofs(
        tree, tmp_path / "x.iso", "-R", "-c", "isolinux/boot.cat", "-b", "isolinux/isolinux.bin", "-no-emul-boot",
        "-boot-load-size", "full",
    )  # fmt: skip
    found = findings(report)
    assert any("its boot info table names sectors 16 and 0, which are 16 and" in message for _, message in found)
    assert ("warning", "isolinux/isolinux.bin: 76 sectors are loaded; old BIOSes take 4") in found


def test_a_disc_of_data_only(tree: Path, tmp_path: Path) -> None:
    report = mkisofs(tree, tmp_path / "x.iso", "-R", "-J", "-joliet-long")
    assert report.boot_images == ()
    assert findings(report)[0] == ("error", "it does not boot as a CD: there is no El Torito boot catalogue")


def test_names_of_each_kind_as_bsdtar_lists_them(tree: Path, tmp_path: Path) -> None:
    report = mkisofs(tree, tmp_path / "x.iso", "-R", "-J", "-iso-level", "2")
    ours = {
        "!joliet": {file.path for file in report.files},
        "!rockridge": {file.path for file in report.joliet_files},
        "!joliet,!rockridge": {file.loader_path for file in report.files},
    }
    for options, names in ours.items():
        listed = run(["bsdtar", "-tvf", tmp_path / "x.iso", "--options", f"iso9660:{options}"]).stdout.splitlines()
        files = {line.split(maxsplit=8)[8] for line in listed if line.startswith("-")} - {"README"}
        assert {name.upper().rstrip(".") for name in files} == {name.upper() for name in names}, options
        assert any("A-LONG-NAME" in name.upper().replace("_", "-") for name in names)


@pytest.fixture(params=["R", "J"])
def wide(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[IsoReport]:
    """A folder of several sectors."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(300):
        (tree / f"file-with-a-name-{number}").write_bytes(b"%d" % number)
    yield mkisofs(tree, tmp_path / "x.iso", f"-{request.param}")


def test_a_folder_of_many_sectors(wide: IsoReport) -> None:
    files = wide.joliet_files or wide.files
    assert {file.path for file in files} == {f"file-with-a-name-{number}" for number in range(300)}
    data = Path(wide.path).read_bytes()
    for file in files:
        assert data[file.sector * SECTOR :][: file.size_bytes] == file.path.rpartition("-")[2].encode()


def test_times_survive_the_year_2038(tmp_path: Path) -> None:
    epoch = 4_000_000_000
    write_iso(small_plan(epoch=epoch), tmp_path / "x.iso")
    run(["bsdtar", "-xf", tmp_path / "x.iso", "-C", tmp_path, "boot/vmlinuz"])
    assert (tmp_path / "boot/vmlinuz").stat().st_mtime == epoch
