"""What is to be written where, and reading it piece by piece."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from livebuilder.console import Progress
from livebuilder.errors import LivebuilderError
from livebuilder.sizes import MIB, render_size

PIECE_BYTES = MIB


@dataclass(frozen=True)
class FileSlice:
    """The bytes of the file `path` from `offset` on."""

    path: Path
    offset: int = 0


@dataclass(frozen=True)
class Extent:
    """What belongs into the `length` bytes at `offset`: bytes, a part of a file, or zeros (None)."""

    offset: int
    length: int
    source: bytes | FileSlice | None = None

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.length


def for_each_piece(extents: Sequence[Extent], act: Callable[[int, memoryview], None], progress: Progress) -> None:
    """Call `act` with the place and the content of every piece of every extent, in order."""
    total, done = sum(extent.length for extent in extents), 0
    # O_DIRECT wants memory that is aligned: pages are.
    with mmap.mmap(-1, PIECE_BYTES) as buffer, memoryview(buffer) as view:
        for extent in extents:
            with _reader(extent) as read_into:
                for position in range(0, extent.length, PIECE_BYTES):
                    with view[: min(PIECE_BYTES, extent.length - position)] as piece:
                        read_into(position, piece)
                        act(extent.offset + position, piece)
                        done += len(piece)
                        progress(done, total)


@contextmanager
def _reader(extent: Extent) -> Iterator[Callable[[int, memoryview], None]]:
    """What fills a buffer with the content of `extent` from a position on."""
    source = extent.source
    if source is None:
        yield lambda _position, piece: _copy(piece, bytes(len(piece)))
    elif isinstance(source, bytes):
        if len(source) != extent.length:
            raise ValueError(f"{len(source)} bytes cannot fill {extent.length}")
        yield lambda position, piece: _copy(piece, source[position : position + len(piece)])
    else:
        with source.path.open("rb", buffering=0) as stream:

            def read(position: int, piece: memoryview) -> None:
                done = 0
                while done < len(piece):
                    place = source.offset + position + done
                    count = os.preadv(stream.fileno(), [piece[done:]], place)
                    if count == 0:
                        raise LivebuilderError(f"{source.path} ends at {render_size(place)}, before all of it was read")
                    done += count

            yield read


def _copy(piece: memoryview, data: bytes) -> None:
    piece[:] = data
