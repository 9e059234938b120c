"""Preparing a stick: it is built whole in a scratch file, unprivileged, and what matters of it is written.

What matters: all that is data in the scratch file, and the first and last MiB of the disk and of the partition, zeros
as well, where old tables, RAID and file systems have their marks. All of it is read back from the disk itself.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from livebuilder.console import measured_step, step
from livebuilder.errors import LivebuilderError
from livebuilder.sizes import MIB, render_size
from livebuilder.staging import SCRATCH_HINT, verify_room
from livebuilder.usb.extents import Extent, FileSlice
from livebuilder.usb.filesystem import scratch_bytes
from livebuilder.usb.plan import SECTOR_BYTES, StickPlan
from livebuilder.usb.probe import probe_capacity
from livebuilder.usb.ranges import Range, merged, widened
from livebuilder.usb.stick import StickReport, build_table, build_volume, check_tools, data_ranges, read_stick
from livebuilder.usb.target import Target

EDGE_BYTES = MIB


def prepare(target: Target, plan: StickPlan) -> StickReport:
    """Make the stick `target` as planned and return what was read back from it.

    All that was on it is lost. Raises `LivebuilderError`; what state it is in then, `open_target()` says.
    """
    verify_fits(target, plan.size_bytes)
    check_tools(plan.file_system)
    with scratch_folder(scratch_bytes(plan.file_system, plan.partition_bytes)) as scratch:
        with step(f"Making {plan.file_system.name} labelled {plan.label}, {render_size(plan.partition_bytes)}"):
            table = build_table(scratch, plan)
            volume = build_volume(scratch, plan, for_used_disk=True)
        extents = (*table_extents(table, plan), *volume_extents(volume, plan))
        target.verify_identity()
        if target.is_disk:
            probe_capacity(target)
            target.verify_identity()
        write_and_read_back(target, extents)
        return read_stick(Path(target.path_for_tools()), plan, shown=Path(target.path))


def verify_fits(target: Target, size_bytes: int) -> None:
    """Raises `LivebuilderError` when `target` is no whole disk of the size that was planned for, in sectors of 512."""
    device = target.device
    if device.kind == "partition":
        raise LivebuilderError(
            f"{device.path} is a partition, and a partition table belongs onto the whole disk {device.parent}",
            hint=f"livebuilder usb list   # shows what else is on {device.parent}, which would be lost",
        )
    if device.sector_bytes != SECTOR_BYTES:
        raise LivebuilderError(
            f"{device.path} has sectors of {device.sector_bytes} bytes, from which no PC's BIOS starts"
            f" and which old kernels cannot read: only those of {SECTOR_BYTES} will do",
            hint="take another stick",
        )
    if device.size_bytes != size_bytes:
        raise LivebuilderError(
            f"{device.path} has {device.size_bytes} bytes and the plan is for {size_bytes}",
            hint="livebuilder usb list   # then plan again",
        )


@contextmanager
def scratch_folder(needed_bytes: int) -> Iterator[Path]:
    """A folder for what is built, gone afterwards; raises `LivebuilderError` when there is no room for it."""
    parent = Path(tempfile.gettempdir())
    verify_room(parent, needed_bytes, what="building what is to be written", hint=SCRATCH_HINT)
    try:
        with tempfile.TemporaryDirectory(prefix="livebuilder-") as scratch:
            yield Path(scratch)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        what = f"building in {parent} failed: {error.strerror or error}"
        raise LivebuilderError(what, hint=SCRATCH_HINT if full else None) from error


def write_and_read_back(target: Target, extents: Sequence[Extent]) -> None:
    """Write `extents`, have the kernel look at the new table, and compare every byte with what the disk has."""
    size = render_size(sum(extent.length for extent in extents))
    with measured_step(f"Writing {size} to {target.path}") as progress:
        target.write_extents(extents, progress)
    with step("Waiting until it is all on the disk"):
        target.flush()
        target.reread_table()
    with measured_step(f"Reading {target.path} back") as progress:
        target.read_back(extents, progress)


def table_extents(table: Path, plan: StickPlan) -> tuple[Extent, ...]:
    """All but the partition: both edges of the disk, as they are in the file `table`, which is as long as the disk."""
    start, end = plan.partition_offset_bytes, plan.partition_offset_bytes + plan.partition_bytes
    ranges = [(0, min(EDGE_BYTES, start)), (max(end, plan.size_bytes - EDGE_BYTES), plan.size_bytes)]
    return _extents(merged(widened(ranges, size_bytes=plan.size_bytes)), table, offset=0)


def volume_extents(volume: Path, plan: StickPlan) -> tuple[Extent, ...]:
    """The partition: both its edges, and all that is data in the file `volume`, which is as long as it."""
    size = plan.partition_bytes
    edges = [(0, min(EDGE_BYTES, size)), (max(0, size - EDGE_BYTES), size)]
    with volume.open("rb") as stream:
        ranges = merged(widened((*edges, *data_ranges(stream.fileno())), size_bytes=size))
    return _extents(ranges, volume, offset=plan.partition_offset_bytes)


def _extents(ranges: Iterable[Range], file: Path, *, offset: int) -> tuple[Extent, ...]:
    return tuple(Extent(offset + start, end - start, FileSlice(file, start)) for start, end in ranges)
