"""Pieces of what is to be written, each read while the one before is in use."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.usb.extents import PIECE_BYTES, Extent, FileSlice, aligned, read_ahead

MORE = PIECE_BYTES + 512


def test_extents_come_in_pieces_in_order(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"skip" + b"f" * MORE)
    extents = [Extent(0, 512, b"b" * 512), Extent(1024, MORE, FileSlice(file, 4)), Extent(1 << 30, MORE)]
    told: list[tuple[int, int]] = []
    with read_ahead(extents, Extent.read_into, aligned, lambda *how_far: told.append(how_far)) as pieces:
        found = [(piece.offset, bytes(view)) for piece, view in pieces]
    assert found == [
        (0, b"b" * 512),
        (1024, b"f" * PIECE_BYTES), (1024 + PIECE_BYTES, b"f" * 512),
        (1 << 30, bytes(PIECE_BYTES)), ((1 << 30) + PIECE_BYTES, bytes(512)),
    ]  # fmt: skip
    total = 512 + 2 * MORE
    assert told == [(done, total) for done in (512, 512 + PIECE_BYTES, 512 + MORE, total - 512, total)]


def test_the_next_piece_is_read_while_one_is_used_and_does_not_touch_it() -> None:
    read = [threading.Event() for _ in range(4)]

    def number(piece: Extent, view: memoryview) -> None:
        view[:] = bytes([piece.offset]) * piece.length
        read[piece.offset].set()

    with read_ahead([Extent(place, 512) for place in range(4)], number, bytearray) as pieces:
        for piece, view in pieces:
            if piece.offset < 3:
                assert read[piece.offset + 1].wait(60), "it is read only when it is asked for"
            assert bytes(view) == bytes([piece.offset]) * 512


def test_what_cannot_be_read_fails_at_its_place_after_the_pieces_before(tmp_path: Path) -> None:
    file, used = tmp_path / "short", list[int]()
    file.write_bytes(bytes(PIECE_BYTES + 100))
    with (
        pytest.raises(LivebuilderError, match=r"short ends at .*, before all of it was read"),
        read_ahead([Extent(0, MORE, FileSlice(file))], Extent.read_into, bytearray) as pieces,
    ):
        used.extend(piece.offset for piece, _ in pieces)
    assert used == [0]


def test_bytes_fill_their_extent() -> None:
    with pytest.raises(ValueError, match="3 bytes cannot fill 512"):
        Extent(0, 512, b"abc")
