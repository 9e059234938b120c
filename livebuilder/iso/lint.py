"""What a disc ought to be. One rule per function; every finding says what is wrong with which thing."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from livebuilder.iso.eltorito import BOOT_INFO_BYTES, PLATFORM_BIOS, boot_checksum
from livebuilder.iso.iso9660 import DESCRIPTORS_SECTOR, SECTOR, Disc, IsoError, open_disc
from livebuilder.iso.plan import BOOT_CATALOG, ISOLINUX_BIN, IsoPlan
from livebuilder.iso.report import BootImage, IsoFile, IsoReport
from livebuilder.sizes import MIB
from livebuilder.tree import Content

# El Torito loads 512-byte sectors; AMI BIOSes of the nineties refuse every other number for a no-emulation image.
LOAD_SECTORS = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """An `error` keeps the disc from being what it should be; a `warning` may be meant so."""

    severity: Literal["error", "warning"]
    message: str


def lint_iso(report: IsoReport, plan: IsoPlan | None = None) -> tuple[Finding, ...]:
    """What is wrong with a disc: with any that should boot an old PC, and with `plan` against what was to be on it.

    With a plan every file's bytes are read from the disc at `report.path` and compared.
    """
    findings = [*(Finding("error", problem) for problem in report.problems)]
    findings += _catalog(report)
    findings += _images(report)
    findings += _config(report, ours=plan is not None)
    findings += _hybrid(report)
    if plan is not None:
        findings += _against_plan(report, plan)
        findings += _bytes(report, plan)
    return tuple(findings)


def _error(message: str) -> Finding:
    return Finding("error", message)


def _bios_images(report: IsoReport) -> list[BootImage]:
    return [image for image in report.boot_images if image.platform_id == PLATFORM_BIOS]


def _catalog(report: IsoReport) -> Iterator[Finding]:
    images = _bios_images(report)
    if report.catalog_sector is None:
        yield _error("it does not boot as a CD: there is no El Torito boot catalogue")
    elif not images:
        yield _error("it does not boot on a PC with a BIOS: the boot catalogue has no entry for one")
    elif len(images) > 1:
        yield _error(f"the boot catalogue has {len(images)} entries for a BIOS; some take the last, some none")


def _images(report: IsoReport) -> Iterator[Finding]:
    sizes = {file.path: file.size_bytes for file in report.files}
    for image in _bios_images(report):
        name = image.path or f"the boot image at sector {image.sector}"
        if not image.bootable:
            yield _error(f"{name} is marked as not bootable")
        if image.media == "no emulation" and image.load_sectors != LOAD_SECTORS:
            yield Finding("warning", f"{name}: {image.load_sectors} sectors are loaded; old BIOSes take {LOAD_SECTORS}")
        if not (image.loader or "").startswith("ISOLINUX"):
            continue
        info = image.boot_info
        if info is None:
            yield _error(f"{name} has no boot info table: ISOLINUX would have to guess where it is")
            continue
        if (info.descriptor_sector, info.sector) != (DESCRIPTORS_SECTOR, image.sector):
            yield _error(
                f"{name}: its boot info table names sectors {info.descriptor_sector} and {info.sector},"
                f" which are {DESCRIPTORS_SECTOR} and {image.sector}"
            )
        if image.path and info.size_bytes != sizes[image.path]:
            yield _error(f"{name}: its boot info table says {info.size_bytes} bytes, it has {sizes[image.path]}")
        if info.checksum != info.actual_checksum:
            yield _error(f"{name}: its checksum is {info.actual_checksum:08x}, its table says {info.checksum:08x}")


def _config(report: IsoReport, *, ours: bool) -> Iterator[Finding]:
    loaders = [image.loader for image in report.boot_images if image.loader and image.loader.startswith("ISOLINUX")]
    if not loaders:
        return
    if report.config is None:
        yield _error("ISOLINUX finds no isolinux.cfg")
        return
    home = report.config.path.rpartition("/")[0]
    if int(loaders[0].split()[1].split(".")[0]) >= 5:
        names = {file.loader_path.upper() for file in report.files}
        if not any(
            f"{folder}LDLINUX.C32".lstrip("/") in names
            for folder in (f"{home.upper()}/", "BOOT/ISOLINUX/", "ISOLINUX/", "")
        ):
            yield _error("ISOLINUX finds no ldlinux.c32")
    for name in report.config.missing:
        # Other people's menus name files that are only there on some discs.
        yield Finding("error" if ours else "warning", f"{report.config.path} names {name}, which is not on the disc")


def _hybrid(report: IsoReport) -> Iterator[Finding]:
    hybrid = report.hybrid
    if hybrid is None or hybrid.code == "none":
        yield Finding("warning", "it does not boot from a disk or a stick: there is no boot sector")
        return
    if hybrid.image_sector is None:
        return
    sectors = [image.sector * 4 for image in _bios_images(report)]
    if hybrid.image_sector not in sectors:
        yield _error(f"the boot sector starts what is at sector {hybrid.image_sector}, where no boot image is")
    if sum(partition.active for partition in hybrid.partitions) != 1:
        yield _error("the boot sector does not have exactly one active partition; old BIOSes want one")
    for partition in hybrid.partitions:
        end = (partition.start_sector + partition.sectors) * 512
        if end > report.size_bytes:
            yield _error(f"partition {partition.number} ends {end - report.size_bytes} bytes behind the file")


def _against_plan(report: IsoReport, plan: IsoPlan) -> Iterator[Finding]:
    facts = (
        ("the volume id", report.volume_id, plan.volume_id),
        ("the Joliet volume id", report.joliet_volume_id, plan.volume_id),
        ("Rock Ridge", report.rock_ridge, True),
        ("the oldest time", report.oldest, plan.epoch),
        ("the newest time", report.newest, plan.epoch),
        ("the boot images", tuple(image.path for image in report.boot_images), (ISOLINUX_BIN,)),
        ("the loaded sectors", tuple(image.load_sectors for image in report.boot_images), (LOAD_SECTORS,)),
        ("the disk id", report.hybrid.disk_id if report.hybrid else None, plan.disk_id),
        ("the boot sector's code", report.hybrid.code if report.hybrid else None, "isohybrid"),
        # Partitions of whole cylinders, 64 heads of 32 sectors: what isohybrid pads a disc to.
        ("bytes behind the last whole cylinder", report.size_bytes % MIB, 0),
    )
    for what, found, wanted in facts:
        if found != wanted:
            yield _error(f"{what}: {found!r} is on the disc, {wanted!r} was to be there")
    for path in sorted({path for path, _, _ in _places(report.files) ^ _places(report.joliet_files)}):
        yield _error(f"/{path} is not the same file under its Joliet name")


def _places(files: tuple[IsoFile, ...]) -> set[tuple[str, int, int]]:
    return {(file.path, file.sector if file.size_bytes else 0, file.size_bytes) for file in files}


def _bytes(report: IsoReport, plan: IsoPlan) -> Iterator[Finding]:
    wanted = plan.all_files()
    found = {file.path: file for file in report.files}
    yield from (_error(f"/{path} is not on the disc") for path in sorted(set(wanted) - set(found)))
    strangers = set(found) - set(wanted) - {BOOT_CATALOG}
    yield from (_error(f"/{path} is on the disc and in no plan") for path in sorted(strangers))
    with open_disc(Path(report.path)) as disc:
        for path in sorted(set(wanted) & set(found)):
            file, content = found[path], wanted[path]
            if path == ISOLINUX_BIN:
                content = Content.from_bytes(with_boot_info(content.read(), sector=file.sector))
            if file.size_bytes != content.size:
                yield _error(f"/{path} has {file.size_bytes} bytes on the disc, {content.size} in the plan")
                continue
            try:
                same = _same_bytes(disc, file, content)
            except IsoError as error:
                yield _error(error.message)
                continue
            if not same:
                yield _error(f"the bytes of /{path} on the disc are not those of the plan")


def _same_bytes(disc: Disc, file: IsoFile, content: Content) -> bool:
    with _stream(content) as stream:
        for offset in range(0, file.size_bytes, MIB):
            size = min(MIB, file.size_bytes - offset)
            if disc.read(file.sector * SECTOR + offset, size, what=f"/{file.path}") != stream.read(size):
                return False
    return True


def _stream(content: Content) -> BinaryIO:
    if content.path is None:
        return io.BytesIO(content.read())
    stream = content.path.open("rb")
    stream.seek(content.offset)
    return stream


def with_boot_info(image: bytes, *, sector: int) -> bytes:
    """`image` as it stands on a disc at `sector`, with its boot info table."""
    table = struct.pack("<4I40x", DESCRIPTORS_SECTOR, sector, len(image), boot_checksum(image))
    return image[:8] + table + image[BOOT_INFO_BYTES:]
