"""Ranges of the bytes of a disk or a file, as arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from livebuilder.sizes import KIB, MIB, align_up

Range = tuple[int, int]
"""Bytes from the first number up to, and without, the second."""

GRAIN_BYTES = 4 * KIB  # more than any sector, and what file systems write at once


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same bytes in order, no byte twice, neighbours in one."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif start < end:
            found.append((start, end))
    return found


def subtracted(ranges: Sequence[Range], taken: Sequence[Range]) -> list[Range]:
    """What of `ranges` is not in `taken`; both as `merged()` gives them."""
    found = []
    place = 0
    for start, end in ranges:
        while place < len(taken) and taken[place][1] <= start:
            place += 1
        at, here = start, place
        while here < len(taken) and taken[here][0] < end:
            if at < taken[here][0]:
                found.append((at, taken[here][0]))
            at = max(at, taken[here][1])
            here += 1
        if at < end:
            found.append((at, end))
    return found


def widened(ranges: Iterable[Range], *, size_bytes: int) -> Iterator[Range]:
    """Each of `ranges` that has any bytes, to whole grains of 4 KiB as far as `size_bytes` reaches."""
    for start, end in ranges:
        if start < end:
            yield start // GRAIN_BYTES * GRAIN_BYTES, min(align_up(end, GRAIN_BYTES), size_bytes)


def pieces(ranges: Iterable[Range]) -> Iterator[tuple[int, int]]:
    """The ranges as (offset, length) of at most a MiB."""
    for start, end in ranges:
        for offset in range(start, end, MIB):
            yield offset, min(MIB, end - offset)


def differing(old: bytes, new: bytes) -> list[Range]:
    """Where two pieces of the same length differ, in grains of 4 KiB."""
    if old == new:
        return []
    return merged(
        (at, min(len(new), at + GRAIN_BYTES))
        for at in range(0, len(new), GRAIN_BYTES)
        if old[at : at + GRAIN_BYTES] != new[at : at + GRAIN_BYTES]
    )
