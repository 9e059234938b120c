"""The capacity of sticks that are what they say, and of forged ones, as models of what their addresses do."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from livebuilder.sizes import GIB, MIB
from livebuilder.usb.probe import MARK_BYTES, Capacity, judge_marks, mark_offsets

SIZES = [32 * MIB, 64 * MIB + 512, 1000 * 1000 * 1000 // 512 * 512, 8 * GIB, 62_333_952 * 512, 2048 * GIB]


@pytest.mark.parametrize("size", SIZES)
def test_the_marks_are_few_whole_sectors_and_reach_the_end(size: int) -> None:
    offsets = mark_offsets(size)
    assert all(offset % 512 == 0 for offset in offsets)
    assert all(a + MARK_BYTES <= b for a, b in pairwise(offsets))
    assert offsets[-1] + MARK_BYTES == size
    assert offsets[0] < MIB
    assert len(offsets) < 80


@pytest.mark.parametrize("size", [4096 * 1000 * 100, 8 * GIB])
def test_larger_sectors_stay_whole(size: int) -> None:
    assert all(offset % 4096 == 0 for offset in mark_offsets(size, sector_bytes=4096))


def _seen(size: int, place: Callable[[int], int | None]) -> Capacity:
    """What is found when a byte written to an address lands at `place(address)`, or nowhere."""
    offsets = mark_offsets(size)
    written = {offset: str(offset).encode().ljust(MARK_BYTES, b".") for offset in offsets}
    cells: dict[int, bytes] = {}
    for offset, data in written.items():
        landed = place(offset)
        if landed is not None:
            cells[landed] = data
    found = {offset: cells.get(place(offset), b"") for offset in offsets}  # type: ignore[arg-type]
    return judge_marks(size, written, found)


@pytest.mark.parametrize("size", SIZES)
def test_an_honest_stick_is_genuine(size: int) -> None:
    assert _seen(size, lambda address: address) == Capacity(True, size, size)


@given(st.integers(22, 36), st.integers(1, 2**37 // 512))
def test_any_wrap_at_a_power_of_two_is_found_with_its_capacity(power: int, more: int) -> None:
    real = 2**power
    size = real + max(more * 512, MIB)
    seen = _seen(size, lambda address: address % real)
    assert not seen.genuine
    assert seen.wraps
    assert seen.good_bytes % real == 0


@given(st.integers(4 * MIB // 512, 2**33 // 512), st.integers(1, 6))
@example(17409, 1)  # its half ends where a mark behind 8 MiB would begin
def test_a_wrap_of_an_odd_size_that_was_doubled_is_found(sectors: int, doublings: int) -> None:
    real = sectors * 512
    seen = _seen(real * 2**doublings, lambda address: address % real)
    assert (seen.genuine, seen.wraps) == (False, True)


@given(st.integers(2 * MIB // 512, 2**36 // 512), st.integers(2 * MIB // 512, 2**36 // 512))
def test_lost_writes_are_found_and_bounded(good: int, lost: int) -> None:
    real, size = good * 512, (good + lost) * 512
    seen = _seen(size, lambda address: address if address + MARK_BYTES <= real else None)
    assert (seen.genuine, seen.wraps) == (False, False)
    assert seen.good_bytes <= real
    assert seen.bad_bytes + MARK_BYTES > real


def test_a_stick_that_keeps_nothing_has_nothing_good() -> None:
    assert _seen(8 * GIB, lambda address: None) == Capacity(False, 0, mark_offsets(8 * GIB)[0])
