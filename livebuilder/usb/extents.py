"""What is to be written where, and reading it piece by piece."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from livebuilder.console import Progress, no_progress
from livebuilder.errors import LivebuilderError
from livebuilder.sizes import MIB, render_size

PIECE_BYTES = 4 * MIB


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


def aligned(length: int) -> mmap.mmap:
    """Memory that O_DIRECT takes: it begins with a page."""
    return mmap.mmap(-1, length)


@contextmanager
def read_ahead(
    extents: Sequence[Extent],
    read: Callable[[Extent, memoryview], None],
    memory: Callable[[int], bytearray | mmap.mmap],
    progress: Progress = no_progress,
) -> Iterator[Iterator[tuple[Extent, memoryview]]]:
    """Every piece of `extents`, in order, with what `read` gave; while it is used a thread reads the next one.

    `progress` is told bytes that were used.
    """
    total = sum(extent.length for extent in extents)
    views = cycle([memoryview(memory(PIECE_BYTES)) for _ in range(2)])

    def fill(piece: Extent) -> tuple[Extent, memoryview]:
        view = next(views)[: piece.length]
        read(piece, view)
        return piece, view

    def filled(thread: ThreadPoolExecutor) -> Iterator[tuple[Extent, memoryview]]:
        done = 0
        pieces = (piece for extent in extents for piece in extent.pieces())
        coming = [thread.submit(fill, piece) for piece in islice(pieces, 1)]
        while coming:
            ready = coming.pop()
            coming += [thread.submit(fill, piece) for piece in islice(pieces, 1)]
            yield ready.result()
            done += len(ready.result()[1])
            progress(done, total)

    with ThreadPoolExecutor(max_workers=1) as thread:
        yield filled(thread)
