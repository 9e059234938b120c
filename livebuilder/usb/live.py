"""A live USB stick: the bytes of a hybrid ISO from the first on, and behind them, if wanted, a partition for settings.

sector 0      the ISO's own boot sector; its DOS table gets a second line
0 … ISO       the ISO, byte for byte otherwise
next MiB      partition 2, type 83, with the file system of a prepared stick, to the end
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from livebuilder.console import step
from livebuilder.errors import LivebuilderError
from livebuilder.iso.hybrid import BOOT_SECTOR_BYTES, Hybrid, read_hybrid
from livebuilder.sizes import MIB, render_size
from livebuilder.usb.extents import Extent, FileSlice
from livebuilder.usb.fdisk import open_disk
from livebuilder.usb.filesystem import scratch_bytes
from livebuilder.usb.plan import (
    DEFAULT_FS,
    DEFAULT_LABEL,
    SECTOR_BYTES,
    StickIdentity,
    StickPlan,
    plan_storage_behind,
    plan_to_json,
    render_plan,
)
from livebuilder.usb.prepare import (
    EDGE_BYTES,
    scratch_folder,
    verify_fits,
    volume_extents,
    write_and_read_back,
)
from livebuilder.usb.probe import probe_capacity
from livebuilder.usb.stick import StickReport, build_volume, check_tools, read_stick
from livebuilder.usb.target import Target

_SECOND_LINE = slice(446 + 16, 446 + 32)  # of the DOS table, in sector 0


@dataclass(frozen=True)
class LivePlan:
    """The ISO of `iso_bytes` that comes onto a stick of `size_bytes`, and the partition behind it, if any."""

    iso: Path
    iso_bytes: int
    size_bytes: int
    storage: StickPlan | None

    def to_json(self) -> dict[str, object]:
        """The plan as plain data; sizes in bytes, `storage` as of a prepared stick or null."""
        return {
            "iso": os.fspath(self.iso),
            "iso_bytes": self.iso_bytes,
            "size_bytes": self.size_bytes,
            "storage": None if self.storage is None else plan_to_json(self.storage),
        }

    def render(self) -> str:
        """The plan for a reader, one fact to a line."""
        iso = f"live image   {self.iso}, {render_size(self.iso_bytes)}, from the first byte on"
        if self.storage is not None:
            return f"{iso}\n{render_plan(self.storage)}"
        return f"{iso}\nsize         {render_size(self.size_bytes)}"


@dataclass(frozen=True)
class LiveReport:
    """A live USB stick as it was read back, every byte compared with the ISO."""

    path: Path
    plan: LivePlan
    storage: StickReport | None

    def to_json(self) -> dict[str, object]:
        """The report as plain data; `storage` as of a prepared stick or null."""
        return {
            "path": os.fspath(self.path),
            "iso": os.fspath(self.plan.iso),
            "iso_bytes": self.plan.iso_bytes,
            "size_bytes": self.plan.size_bytes,
            "storage": None if self.storage is None else self.storage.to_json(),
        }

    def render(self) -> str:
        """The report for a reader, one fact to a line."""
        iso = f"live image   {self.plan.iso}, {render_size(self.plan.iso_bytes)}, every byte compared"
        if self.storage is not None:
            return f"{iso}\n{self.storage.render()}"
        return f"{iso}\nstick        {self.path}: {render_size(self.plan.size_bytes)}; no storage for settings on it"


def plan_live(
    iso: Path,
    *,
    size_bytes: int,
    storage: bool = False,
    fs: str = DEFAULT_FS,
    label: str = DEFAULT_LABEL,
    identity: StickIdentity,
) -> LivePlan:
    """What a stick of `size_bytes` will be with `iso` on it, and with `storage` behind it.

    Raises `LivebuilderError` for an ISO that starts from no disk, or is cut short, or does not fit.
    """
    hybrid, iso_bytes = _read_iso(iso)
    if iso_bytes > size_bytes:
        raise LivebuilderError(
            f"{iso} has {render_size(iso_bytes)} and the stick {render_size(size_bytes)}: it does not fit",
            hint="take a larger stick",
        )
    if not storage:
        return LivePlan(iso, iso_bytes, size_bytes, None)
    if hybrid.gpt or [partition.number for partition in hybrid.partitions] != [1]:
        raise LivebuilderError(
            f"{iso} has a partition table of another kind than livebuilder's: none is added to it",
            hint="write it without --storage, and prepare a second stick: livebuilder usb prepare",
        )
    plan = plan_storage_behind(
        iso_bytes, size_bytes=size_bytes, disk_id=hybrid.disk_id, fs=fs, label=label, identity=identity
    )
    return LivePlan(iso, iso_bytes, size_bytes, plan)


def _read_iso(iso: Path) -> tuple[Hybrid, int]:
    try:
        with iso.open("rb") as stream:
            head = stream.read(2 * BOOT_SECTOR_BYTES)
            size = stream.seek(0, os.SEEK_END)
    except OSError as error:
        raise LivebuilderError(f"reading {iso} failed: {error.strerror}", hint="livebuilder build") from error
    hybrid = read_hybrid(head)
    if hybrid is None or hybrid.code != "isohybrid" or not hybrid.partitions:
        raise LivebuilderError(
            f"{iso} is not made to start from a USB stick: it has no isohybrid boot sector",
            hint=f"livebuilder inspect {iso}   # tells more; livebuilder build makes one that has",
        )
    end = max(partition.start_sector + partition.sectors for partition in hybrid.partitions) * SECTOR_BYTES
    if end > size or size % SECTOR_BYTES:
        raise LivebuilderError(
            f"{iso} is cut short or was changed: it has {size} bytes, and its boot sector speaks of {end}",
            hint="copy or build it again",
        )
    return hybrid, size


def write_iso(target: Target, plan: LivePlan) -> LiveReport:
    """Write the live image as planned, compare every byte, and return what was read back.

    All that was on the stick is lost. Raises `LivebuilderError`; what state it is in then, `open_target()` says.
    """
    verify_fits(target, plan.size_bytes)
    storage = plan.storage
    if storage is None:
        return _write(target, plan, extents=_image_extents(plan, sector=None))
    check_tools(storage.file_system)
    with scratch_folder(scratch_bytes(storage.file_system, storage.partition_bytes)) as scratch:
        with step(
            f"Making {storage.file_system.name} labelled {storage.label}, {render_size(storage.partition_bytes)}"
        ):
            sector = _boot_sector(scratch, plan.iso, storage)
            volume = build_volume(scratch, storage, for_used_disk=True)
        extents = (*_image_extents(plan, sector=sector), *volume_extents(volume, storage))
        return _write(target, plan, extents=extents)


def _write(target: Target, plan: LivePlan, *, extents: Sequence[Extent]) -> LiveReport:
    target.verify_identity()
    if target.is_disk:
        probe_capacity(target)
        target.verify_identity()
    before = _stamp(plan.iso)
    write_and_read_back(target, extents)
    if _stamp(plan.iso) != before:
        raise LivebuilderError(f"{plan.iso} changed while it was written", hint="write it again")
    path, shown = Path(target.path_for_tools()), Path(target.path)
    storage = None if plan.storage is None else read_stick(path, plan.storage, shown=shown)
    return LiveReport(shown, plan, storage)


def _image_extents(plan: LivePlan, *, sector: bytes | None) -> list[Extent]:
    """The ISO, and zeros where they do no harm: up to the storage, and over the last MiB, where old tables end.

    `sector` takes the place of the ISO's first one.
    """
    iso = plan.iso_bytes
    extents = [Extent(0, iso, FileSlice(plan.iso))]
    if sector is not None:
        rest = Extent(SECTOR_BYTES, iso - SECTOR_BYTES, FileSlice(plan.iso, SECTOR_BYTES))
        extents = [Extent(0, SECTOR_BYTES, sector), rest]
    used = iso
    if plan.storage is not None:
        used = plan.storage.partition_offset_bytes + plan.storage.partition_bytes
        gap = plan.storage.partition_offset_bytes - iso
        extents += [Extent(iso, gap)] if gap else []
    tail = max(used, plan.size_bytes - EDGE_BYTES)
    return extents + ([Extent(tail, plan.size_bytes - tail)] if tail < plan.size_bytes else [])


def _boot_sector(scratch: Path, iso: Path, storage: StickPlan) -> bytes:
    """The ISO's first sector with the partition in its table, as libfdisk writes it."""
    head = scratch / "head"
    with head.open("xb") as stream, iso.open("rb") as reader:
        before = reader.read(MIB)
        stream.write(before)
        stream.truncate(storage.size_bytes)
    with open_disk(head, writable=True) as disk:
        disk.add(storage.new_partition)
        disk.write()
    with head.open("rb") as stream:
        after = stream.read(MIB)
    added = after[_SECOND_LINE]
    if after != before[: _SECOND_LINE.start] + added + before[_SECOND_LINE.stop :]:
        raise LivebuilderError(f"adding a partition to the table of {iso} changed more of it than that")
    return after[:SECTOR_BYTES]


def _stamp(path: Path) -> tuple[int, ...]:
    """What is another when the file is."""
    facts = path.stat()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns
