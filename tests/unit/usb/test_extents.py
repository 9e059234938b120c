"""Pieces of what is to be written, in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.usb.extents import PIECE_BYTES, Extent, FileSlice, aligned, read_pieces

MORE = PIECE_BYTES + 512


def test_extents_come_in_pieces_in_order(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"skip" + b"f" * MORE)
    extents = [Extent(0, 512, b"b" * 512), Extent(1024, MORE, FileSlice(file, 4)), Extent(1 << 30, MORE)]
    told: list[tuple[int, int]] = []
    pieces = read_pieces(extents, aligned(PIECE_BYTES), lambda *how_far: told.append(how_far))
    found = [(piece.offset, bytes(view)) for piece, view in pieces]
    assert found == [
        (0, b"b" * 512),
        (1024, b"f" * PIECE_BYTES), (1024 + PIECE_BYTES, b"f" * 512),
        (1 << 30, bytes(PIECE_BYTES)), ((1 << 30) + PIECE_BYTES, bytes(512)),
    ]  # fmt: skip
    total = 512 + 2 * MORE
    assert told == [(done, total) for done in (512, 512 + PIECE_BYTES, 512 + MORE, total - 512, total)]


def test_what_cannot_be_read_fails_at_its_place_after_the_pieces_before(tmp_path: Path) -> None:
    file, used = tmp_path / "short", list[int]()
    file.write_bytes(bytes(PIECE_BYTES + 100))
    with pytest.raises(LivebuilderError, match=r"short ends at .*, before all of it was read"):
        for piece, _ in read_pieces([Extent(0, MORE, FileSlice(file))], aligned(PIECE_BYTES)):
            used.append(piece.offset)
    assert used == [0]


def test_bytes_fill_their_extent() -> None:
    with pytest.raises(ValueError, match="3 bytes cannot fill 512"):
        Extent(0, 512, b"abc")
