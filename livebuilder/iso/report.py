"""What is on an ISO: every fact `inspect` shows and the linter judges, read back with a reader of our own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from livebuilder.iso.eltorito import (
    BOOT_INFO_BYTES,
    CATALOG_BYTES,
    PLATFORM_BIOS,
    BootInfo,
    read_boot_info,
    read_catalog,
)
from livebuilder.iso.hybrid import Hybrid, read_hybrid
from livebuilder.iso.iso9660 import SECTOR, Disc, IsoError, Record, TimeField, open_disc, read_descriptors, read_records
from livebuilder.iso.loader import isolinux_version
from livebuilder.iso.menu import SEARCHED_CONFIGS
from livebuilder.sizes import render_size
from livebuilder.tree import Kind

# No boot image or configuration of a sane disc is larger; a damaged disc may claim anything.
_MAX_IMAGE_BYTES = 4 * 1024 * 1024
_MAX_CONFIG_BYTES = 256 * 1024


@dataclass(frozen=True)
class IsoFile:
    """A file: its name for Linux, its name for a boot loader, and where its bytes are."""

    path: str
    loader_path: str
    sector: int
    size_bytes: int


@dataclass(frozen=True)
class BootImage:
    """An entry of the boot catalogue, and what is known of the image it names."""

    platform: str
    platform_id: int
    bootable: bool
    media: str
    load_segment: int
    load_sectors: int
    sector: int
    path: str | None
    loader: str | None
    boot_info: BootInfo | None


@dataclass(frozen=True)
class LoaderConfig:
    """The configuration ISOLINUX finds, and the files it names (as they are called there)."""

    path: str
    named: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class IsoReport:
    """All there is to know about an ISO short of its files' bytes. Made of plain values: `asdict` gives its JSON.

    Sizes in bytes, sectors of 2,048 bytes, times in seconds since 1970 (`oldest` and `newest` of every time that
    stands anywhere on the disc). `problems` are those of a damaged disc; what a sound disc ought to be is for
    the linter.
    """

    path: str
    size_bytes: int
    volume_size_bytes: int
    volume_id: str
    joliet_volume_id: str | None
    system_id: str
    application_id: str
    publisher_id: str
    rock_ridge: bool
    joliet: bool
    oldest: int | None
    newest: int | None
    catalog_sector: int | None
    boot_images: tuple[BootImage, ...]
    hybrid: Hybrid | None
    config: LoaderConfig | None
    files: tuple[IsoFile, ...]
    joliet_files: tuple[IsoFile, ...]
    folders: int
    problems: tuple[str, ...]


def read_iso(path: Path) -> IsoReport:
    """Read an ISO, ours or anybody's; raises `IsoError` when it is none."""
    with open_disc(path) as disc:
        return _read(disc)


def time_fields(path: Path) -> tuple[TimeField, ...]:
    """Every place of an ISO where a time stands."""
    with open_disc(path) as disc:
        _read(disc)
        return tuple(disc.times)


def read_file(disc: Disc, file: IsoFile, *, limit: int) -> bytes:
    """The first `limit` bytes of a file at most; raises `IsoError` when the disc ends before."""
    return disc.read(file.sector * SECTOR, min(file.size_bytes, limit), what=f"/{file.path}")


def _read(disc: Disc) -> IsoReport:
    descriptors = read_descriptors(disc)
    records, rock_ridge = read_records(disc, descriptors.primary)
    files = _files(records)
    joliet: tuple[IsoFile, ...] = ()
    if descriptors.joliet is not None:
        joliet = _files(read_records(disc, descriptors.joliet)[0])
    for file in (*files, *joliet):
        if file.size_bytes and file.sector * SECTOR + file.size_bytes > disc.size_bytes:
            disc.note(f"/{file.path} lies beyond the end of the disc")
    images = _boot_images(disc, descriptors.catalog_sector, files)
    hybrid = read_hybrid(disc.read(0, 1024, what="the boot sector"))
    config = _config(disc, files) if any(i.loader and i.loader.startswith("ISOLINUX") for i in images) else None
    seconds = [found.seconds for found in disc.times if found.seconds is not None]
    volume = descriptors.primary
    return IsoReport(
        path=str(disc.path),
        size_bytes=disc.size_bytes,
        volume_size_bytes=volume.sectors * SECTOR,
        volume_id=volume.volume_id,
        joliet_volume_id=descriptors.joliet.volume_id if descriptors.joliet else None,
        system_id=volume.system_id,
        application_id=volume.application_id,
        publisher_id=volume.publisher_id,
        rock_ridge=rock_ridge,
        joliet=descriptors.joliet is not None,
        oldest=min(seconds, default=None),
        newest=max(seconds, default=None),
        catalog_sector=descriptors.catalog_sector,
        boot_images=images,
        hybrid=hybrid,
        config=config,
        files=files,
        joliet_files=joliet,
        folders=sum(record.kind is Kind.DIRECTORY for record in records),
        problems=tuple(disc.problems),
    )


def _files(records: Iterable[Record]) -> tuple[IsoFile, ...]:
    found = (IsoFile(r.path, r.loader_path, r.sector, r.size_bytes) for r in records if r.kind is Kind.FILE)
    return tuple(sorted(found, key=lambda file: file.path))


def _boot_images(disc: Disc, catalog_sector: int | None, files: tuple[IsoFile, ...]) -> tuple[BootImage, ...]:
    if catalog_sector is None:
        return ()
    try:
        catalog = disc.read(catalog_sector * SECTOR, CATALOG_BYTES, what="the boot catalogue")
    except IsoError as error:
        disc.note(error.message)
        return ()
    entries, problems = read_catalog(catalog)
    for problem in problems:
        disc.note(problem)
    by_sector = {file.sector: file for file in files if file.size_bytes}
    images = []
    for entry in entries:
        file = by_sector.get(entry.sector)
        # An image that has no name on the disc is as long as what the firmware loads of it.
        size = min(file.size_bytes if file else entry.load_sectors * 512, _MAX_IMAGE_BYTES)
        try:
            image = disc.read(entry.sector * SECTOR, size, what=f"the {entry.platform} boot image")
        except IsoError as error:
            disc.note(error.message)
            image = b""
        bios = entry.platform_id == PLATFORM_BIOS
        images.append(
            BootImage(
                entry.platform, entry.platform_id, entry.bootable, entry.media, entry.load_segment,
                entry.load_sectors, entry.sector, file.path if file else None, _loader_name(image),
                read_boot_info(image, sector=entry.sector) if bios and size > BOOT_INFO_BYTES else None,
            )
        )  # fmt: skip
    return tuple(images)


def _loader_name(image: bytes) -> str | None:
    version = isolinux_version(image)
    if version is not None:
        return f"ISOLINUX {version}"
    if b"GRUB" in image[:65536]:
        return "GRUB"
    return None


def _config(disc: Disc, files: tuple[IsoFile, ...]) -> LoaderConfig | None:
    by_loader_path = {file.loader_path.upper(): file for file in files}
    for path in SEARCHED_CONFIGS:
        file = by_loader_path.get(path.upper())
        if file is None:
            continue
        try:
            text = read_file(disc, file, limit=_MAX_CONFIG_BYTES).decode("ascii", "replace")
        except IsoError as error:
            disc.note(error.message)
            return None
        named = files_named(text)
        home = path.rpartition("/")[0]
        missing = [n for n in named if _loader_path(n, home) not in by_loader_path]
        return LoaderConfig(file.path, named, tuple(missing))
    return None


_FILE_WORD = re.compile(r"(?:kernel|linux|initrd|com32|display|include|ui|f\d{1,2})\s+(\S+)", re.IGNORECASE)
_INITRD = re.compile(r"\binitrd=(\S+)")


def files_named(config: str) -> tuple[str, ...]:
    """The files an isolinux.cfg names, in order, each once."""
    names: dict[str, None] = {}
    for line in config.splitlines():
        words = line.strip()
        match = _FILE_WORD.match(words)
        found = match[1].split(",") if match else []
        if words[:6].lower() == "append":
            found = [name for group in _INITRD.findall(words) for name in group.split(",")]
        names.update((name, None) for name in found if name)
    return tuple(names)


def _loader_path(name: str, home: str) -> str:
    path = name if name.startswith("/") else f"{home}/{name}"
    return re.sub(r"/+", "/", path).strip("/").upper()


def render_report(report: IsoReport) -> str:
    """The report for a reader."""
    lines = [
        f"{report.path}: ISO 9660, {render_size(report.size_bytes)} ({report.size_bytes} bytes)",
        f"  volume      {report.volume_id or '(no name)'}, {_names(report)}",
        f"  times       {_times(report)}",
    ]
    if report.application_id:
        lines.append(f"  made by     {report.application_id}")
    if not report.boot_images:
        lines.append("  CD boot     no")
    for image in report.boot_images:
        lines.append(f"  CD boot     {image.platform}: {image.path or f'sector {image.sector}'}{_image_facts(image)}")
    lines.append(f"  disk boot   {_hybrid_facts(report.hybrid)}")
    if report.config:
        lines.append(f"  menu        {report.config.path}, names {', '.join(report.config.named) or 'no file'}")
    lines += [f"  problem     {problem}" for problem in report.problems]
    lines.append(f"  files       {len(report.files)} in {report.folders} folders")
    width = max((len(str(file.size_bytes)) for file in report.files), default=1)
    lines += [f"    {file.size_bytes:>{width}}  {file.path}" for file in report.files]
    return "\n".join(lines) + "\n"


def _names(report: IsoReport) -> str:
    kinds = [name for name, there in (("Rock Ridge", report.rock_ridge), ("Joliet", report.joliet)) if there]
    return " and ".join(kinds) or "plain names"


def _times(report: IsoReport) -> str:
    if report.oldest is None or report.newest is None:
        return "none"
    oldest, newest = (
        datetime.fromtimestamp(s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") for s in (report.oldest, report.newest)
    )
    return f"all {oldest}" if oldest == newest else f"{oldest} to {newest}"


def _image_facts(image: BootImage) -> str:
    facts = [image.loader] if image.loader else []
    facts += [image.media, f"load {image.load_sectors} x 512 bytes"]
    if not image.bootable:
        facts.append("marked as not bootable")
    if image.boot_info:
        right = image.boot_info.checksum == image.boot_info.actual_checksum
        facts.append(f"boot info table, checksum {image.boot_info.checksum:08x} {'right' if right else 'WRONG'}")
    return f" ({', '.join(facts)})"


def _hybrid_facts(hybrid: Hybrid | None) -> str:
    if hybrid is None:
        return "no"
    parts = [
        f"partition {part.number}{' (active)' if part.active else ''}: type {part.type:#04x},"
        f" {part.sectors} sectors from {part.start_sector}"
        for part in hybrid.partitions
    ]
    code = "no boot code" if hybrid.code == "none" else f"{hybrid.code} boot code"
    return "; ".join([f"{code}, disk id {hybrid.disk_id:08x}", *parts, *(["GPT"] if hybrid.gpt else [])])
