"""Whether a stick has the capacity it claims: a few marks all over it, written, read back and compared.

A forged stick says 64 GB and holds 8. What is written behind its end is lost, or lands again at its beginning (the
higher bits of the address are ignored). The marks lie so that with any such wrap two of them meet: at 2^n and half way
to the next, all at the same place within their MiB, and at one, two, three … halves of the whole length. What was there
is put back.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from livebuilder.console import Progress, measured_step
from livebuilder.errors import LivebuilderError
from livebuilder.sizes import KIB, MIB, render_size
from livebuilder.usb.target import Target

T = TypeVar("T")

MARK_BYTES = 64 * KIB  # together more than a stick's own cache is likely to hold
_PLACES_IN_MIB = range(512 * KIB, 960 * KIB, 64 * KIB)  # away from tables and superblocks, should the power fail


@dataclass(frozen=True)
class Capacity:
    """What the marks say: all good, or data is safe up to `good_bytes` and not any more at `bad_bytes`.

    `wraps` when what is written behind the end lands at the beginning; then `good_bytes` is where it does so.
    """

    genuine: bool
    good_bytes: int
    bad_bytes: int
    wraps: bool = False


def mark_offsets(size_bytes: int, *, sector_bytes: int = 512) -> tuple[int, ...]:
    """Where the marks go, in order; they are whole sectors and do not overlap."""
    last = size_bytes - MARK_BYTES
    halves = {last}
    part = size_bytes // 2
    while part > 2 * MIB:
        halves.add((part - MARK_BYTES) // sector_bytes * sector_bytes)
        part //= 2
    powers = {0}
    power = MIB
    while power < size_bytes:
        powers |= {power, power + power // 2}
        power *= 2
    # All powers move together until none of them is in the way of a half: a mark left out could be one that tells.
    place = min(
        _PLACES_IN_MIB, key=lambda place: sum(_meet(power + place, half) for power in powers for half in halves)
    )
    found: list[int] = []
    for offset in sorted(halves | {power + place for power in powers}, reverse=True):  # the very end has precedence
        if 0 <= offset <= last and (not found or offset + MARK_BYTES <= found[-1]):
            found.append(offset)
    return tuple(reversed(found))


def _meet(one: int, other: int) -> bool:
    return abs(one - other) < MARK_BYTES


def judge_marks(size_bytes: int, written: Mapping[int, bytes], found: Mapping[int, bytes]) -> Capacity:
    """What the marks, by their offsets, say after all were written in ascending order and then read."""
    wrong = [offset for offset in sorted(written) if found[offset] != written[offset]]
    if not wrong:
        return Capacity(True, size_bytes, size_bytes)
    origin = {data: offset for offset, data in written.items()}
    jumps = [origin[found[offset]] - offset for offset in wrong if origin.get(found[offset], offset) > offset]
    if jumps:  # each is a multiple of the real capacity
        return Capacity(False, min(jumps), min(jumps), wraps=True)
    good = [offset + len(written[offset]) for offset in written if offset < wrong[0]]
    return Capacity(False, max(good, default=0), wrong[0])


def probe_capacity(target: Target) -> None:
    """Raises `LivebuilderError` when the stick loses, or puts elsewhere, what is written to parts of it.

    It takes seconds. What was at the marks is there again afterwards, also when it is interrupted.
    """
    offsets = mark_offsets(target.size_bytes, sector_bytes=target.device.sector_bytes)
    nonce = secrets.token_bytes(16)
    marks = {offset: _mark(nonce, offset) for offset in offsets}
    state = target.state
    with measured_step(f"Looking whether {target.path} holds {render_size(target.size_bytes)}") as progress:
        kept = _each(offsets, lambda offset: target.read(offset, MARK_BYTES), _part(progress, 0))
        target.state = "left with test patterns in it: prepare it again"
        try:
            _each(offsets, lambda offset: target.write(offset, marks[offset]), _part(progress, 1))
            target.flush()
            found = _each(offsets, lambda offset: target.read(offset, MARK_BYTES), _part(progress, 2))
        finally:
            # On a stick that wraps the beginning is what counts: it is put back last.
            _each(offsets[::-1], lambda offset: target.write(offset, kept[offset]), _part(progress, 3))
            target.flush()
            target.state = state
    capacity = judge_marks(target.size_bytes, marks, found)
    if not capacity.genuine:
        raise LivebuilderError(
            f"{target.path} is not what it says it is: of {render_size(target.size_bytes)} {_told(capacity)}",
            hint="do not use it for anything: give it back; livebuilder usb list shows the others",
        )


def _told(capacity: Capacity) -> str:
    if capacity.wraps:
        return (
            f"it holds no more than {render_size(capacity.good_bytes)},"
            " and what is written behind that overwrites its beginning"
        )
    if capacity.good_bytes == 0:
        return "it keeps nothing that is written to it"
    return (
        f"it holds {render_size(capacity.good_bytes)} or a little more,"
        f" and loses what is written at {render_size(capacity.bad_bytes)} and behind"
    )


def _mark(nonce: bytes, offset: int) -> bytes:
    """Bytes that stand at no other place and were never written before."""
    return hashlib.shake_128(nonce + offset.to_bytes(8, "little")).digest(MARK_BYTES)


def _each(offsets: Sequence[int], act: Callable[[int], T], progress: Progress) -> dict[int, T]:
    results = {}
    for number, offset in enumerate(offsets, 1):
        results[offset] = act(offset)
        progress(number, len(offsets))
    return results


def _part(progress: Progress, number: int) -> Progress:
    """The progress of one of four passes over the marks."""
    return lambda done, total: progress((number * total + done) * MARK_BYTES, 4 * total * MARK_BYTES)
