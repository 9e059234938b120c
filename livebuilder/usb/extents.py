"""What is to be written where, and reading it piece by piece."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from livebuilder.console import Progress, no_progress
from livebuilder.errors import LivebuilderError
from livebuilder.sizes import MIB, render_size

PIECE_BYTES = MIB  # larger ones leave the processor's cache before they are written or compared


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

    def __post_init__(self) -> None:
        if isinstance(self.source, bytes) and len(self.source) != self.length:
            raise ValueError(f"{len(self.source)} bytes cannot fill {self.length}")

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.length

    def pieces(self) -> Iterator[Extent]:
        """The same in parts of at most `PIECE_BYTES`, in order."""
        for start in range(0, self.length, PIECE_BYTES):
            length = min(PIECE_BYTES, self.length - start)
            source = self.source
            if isinstance(source, bytes):
                source = source[start : start + length]
            elif source is not None:
                source = FileSlice(source.path, source.offset + start)
            yield Extent(self.offset + start, length, source)

    def read_into(self, view: memoryview) -> None:
        """Fill `view`, which is as long, with what belongs here; raises `LivebuilderError` when a file ends before."""
        if not isinstance(self.source, FileSlice):
            view[:] = bytes(self.length) if self.source is None else self.source
            return
        done = 0
        with self.source.path.open("rb", buffering=0) as stream:
            while done < self.length:
                place = self.source.offset + done
                count = os.preadv(stream.fileno(), [view[done:]], place)
                if count == 0:
                    raise LivebuilderError(
                        f"{self.source.path} ends at {render_size(place)}, before all of it was read"
                    )
                done += count
            # What follows is read while this is used (mm/fadvise.c).
            os.posix_fadvise(stream.fileno(), self.source.offset + done, self.length, os.POSIX_FADV_WILLNEED)


def aligned(length: int) -> memoryview:
    """Memory that O_DIRECT takes: it begins with a page."""
    return memoryview(mmap.mmap(-1, length))


def read_pieces(
    extents: Sequence[Extent], memory: memoryview, progress: Progress = no_progress
) -> Iterator[tuple[Extent, memoryview]]:
    """Every piece of `extents`, in order, with what belongs there, in `memory`: one of `PIECE_BYTES` is used for all.

    `progress` is told bytes that were used.
    """
    done, total = 0, sum(extent.length for extent in extents)
    for piece in (piece for extent in extents for piece in extent.pieces()):
        view = memory[: piece.length]
        piece.read_into(view)
        yield piece, view
        done += piece.length
        progress(done, total)
