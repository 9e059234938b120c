"""Ranges of bytes: what they cover, and what not."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebuilder.sizes import KIB, MIB
from livebuilder.usb.ranges import Range, differing, merged, pieces, subtracted, widened

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)))


def numbers(ranges: list[Range]) -> set[int]:
    return {number for start, end in ranges for number in range(start, end)}


@given(one=RANGES, other=RANGES)
def test_ranges_are_sets_of_bytes(one: list[Range], other: list[Range]) -> None:
    left, right = merged(one), merged(other)
    assert numbers(left) == numbers(one)
    assert all(a[1] < b[0] for a, b in pairwise(left))
    assert numbers(subtracted(left, right)) == numbers(one) - numbers(other)


def test_where_two_pieces_differ() -> None:
    old = bytes(20_000)
    new = bytearray(old)
    assert differing(old, bytes(new)) == []
    new[5000] = new[9000] = new[19_999] = 1
    assert differing(old, bytes(new)) == [(4096, 12_288), (16_384, 20_000)]


def test_pieces_are_of_a_mib_at_most() -> None:
    assert list(pieces([(5, 5 + 2 * MIB + 1), (4 * MIB, 5 * MIB)])) == [
        (5, MIB), (5 + MIB, MIB), (5 + 2 * MIB, 1), (4 * MIB, MIB),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ranges", "wanted"),
    [
        ([], []),
        ([(0, 1)], [(0, 4 * KIB)]),
        ([(5000, 5001), (0, 10)], [(0, 8 * KIB)]),
        ([(0, 4 * KIB), (8 * KIB, 9 * KIB)], [(0, 4 * KIB), (8 * KIB, 12 * KIB)]),
        ([(0, MIB), (KIB, 2 * KIB)], [(0, MIB)]),
        ([(MIB - 1, MIB)], [(MIB - 4 * KIB, MIB)]),
        ([(7, 7), (9, 8)], []),
    ],
)
def test_ranges_are_widened_to_whole_grains(ranges: list[Range], wanted: list[Range]) -> None:
    assert merged(widened(ranges, size_bytes=MIB)) == wanted


@given(st.lists(st.tuples(st.integers(0, MIB), st.integers(0, MIB))), st.integers(1, MIB // 512))
def test_widened_every_byte_is_covered_once_and_none_behind_the_end(ranges: list[Range], sectors: int) -> None:
    size = sectors * 512
    clipped = [(min(start, size), min(end, size)) for start, end in ranges]
    wide = merged(widened(clipped, size_bytes=size))
    assert all(end <= size and start < end for start, end in wide)
    assert all(start % 512 == 0 and end % 512 == 0 for start, end in wide)
    assert all(left[1] < right[0] for left, right in pairwise(wide))
    for start, end in clipped:
        assert start >= end or any(first <= start and end <= last for first, last in wide)
