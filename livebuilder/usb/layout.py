"""What is on a disk or in an image file: its table, the partitions, and what stands on each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from livebuilder.usb.fdisk import FdiskError, Partition, open_disk
from livebuilder.usb.signature import HEAD_BYTES, Signature, parse_signature, tail_start

_EXTENDED = {"5", "F", "85"}  # partitions of a DOS table that only hold others
_FLOPPY_LIKE = {"vfat", "exfat", "ntfs"}  # their boot sectors end like a DOS table's


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What was read from a disk. `data`: it is not all zeros where tables and file systems begin."""

    data: bool
    signature: Signature | None
    table: str
    partitions: Mapping[int, Partition]
    signatures: Mapping[int, Signature]


def read_layout(node: Path, *, sector_bytes: int) -> Layout:
    """What is on the disk or image file `node`. Raises `OSError`."""
    descriptor = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        head, tail = _ends(descriptor, 0, size)
        signature = parse_signature(head, tail, size_bytes=size)
        table, partitions = _read_table(node)
        if signature is not None and signature.fs in _FLOPPY_LIKE and not partitions:
            table = ""
        signatures: dict[int, Signature] = {}
        for number, partition in partitions.items():
            start, length = partition.start_sector * sector_bytes, partition.sectors * sector_bytes
            if partition.type not in _EXTENDED:
                found = parse_signature(*_ends(descriptor, start, length), size_bytes=length)
                signatures |= {number: found} if found is not None else {}
    finally:
        os.close(descriptor)
    data = bool(partitions) or any(part.count(0) != len(part) for part in (head, tail))
    return Layout(data=data, signature=signature, table=table, partitions=partitions, signatures=signatures)


def _ends(descriptor: int, start: int, length: int) -> tuple[bytes, bytes]:
    tail_from = tail_start(length)
    head = os.pread(descriptor, min(HEAD_BYTES, length), start)
    return head, os.pread(descriptor, length - tail_from, start + tail_from)


def _read_table(node: Path) -> tuple[str, dict[int, Partition]]:
    try:
        with open_disk(node) as disk:
            return disk.label or "", {partition.number: partition for partition in disk.partitions()}
    except FdiskError:  # too small for libfdisk, for one
        return "", {}
