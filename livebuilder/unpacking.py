"""Unpacking what others packed: archives, packages, kernels and their modules, told by their first bytes."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import IO, Protocol

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import MIB

_MAGICS = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\x5d\0\0": "lzma",
    b"\x02\x21\x4c\x18": "lz4",
    b"\x89LZO": "lzo",
    b"\x7fELF": "none",
}
_XZ_MEMORY_BYTES = 256 * MIB
_ZSTD_WINDOW_BYTES = 128 * MIB  # the kernel's own build uses `zstd -22 --ultra`, which takes this much
# What goes in at a time: so little that even a bomb gives no more than some ten MiB before it is noticed.
_STEP_BYTES = 1024


class PackingError(LivebuilderError):
    """A compressed stream is damaged, cut short, or unpacks to more than was allowed."""


class Decompressor(Protocol):
    """What the decompressors of the standard library and of zstandard have in common."""

    def decompress(self, data: bytes, /) -> bytes:
        """What comes out when `data` goes in."""
        ...

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What went in behind the stream's end."""
        ...


def _zstd() -> Decompressor:
    import zstandard  # costs start-up

    return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()


_DECOMPRESSORS: dict[str, Callable[[], Decompressor]] = {
    "gzip": lambda: zlib.decompressobj(31),
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES),
    "lzma": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_XZ_MEMORY_BYTES),
    "bzip2": bz2.BZ2Decompressor,
    "zstd": _zstd,
}


def packing_of(data: bytes) -> str:
    """How `data` is packed: gzip xz zstd bzip2 lzma lz4 lzo, `none` for a plain ELF file, else `unknown`."""
    return next((name for magic, name in _MAGICS.items() if data.startswith(magic)), "unknown")


def can_unpack(packing: str) -> bool:
    """Whether a packing that `packing_of` names can be undone here: not lz4, lzo and the unknown."""
    return packing == "none" or packing in _DECOMPRESSORS


def unpack(data: bytes, *, most_bytes: int) -> bytes | None:
    """The bytes that gzip, xz, zstd, bzip2 or lzma packed; plain data as it is; None for lz4, lzo and the unknown.

    Only the first stream is taken: a kernel's payload carries its size behind it. Raises `PackingError`.
    """
    packing = packing_of(data)
    if packing == "none":
        return data
    return unpack_first(data, packing, most_bytes=most_bytes)[0] if can_unpack(packing) else None


def unpack_first(data: bytes, packing: str, *, most_bytes: int) -> tuple[bytes, int]:
    """The first stream of `data`, unpacked, and how many bytes of `data` it took. Raises `PackingError`."""
    decompressor = new_decompressor(packing)
    plain = bytearray()
    for start in range(0, len(data), _STEP_BYTES):
        plain += unpack_step(decompressor, data[start : start + _STEP_BYTES], packing)
        if len(plain) > most_bytes:
            raise PackingError(f"data packed with {packing} unpacks to more than {most_bytes} bytes")
        if decompressor.eof:
            return bytes(plain), min(start + _STEP_BYTES, len(data)) - len(decompressor.unused_data)
    raise PackingError(f"data packed with {packing} is cut short")


def unpack_to(out: IO[bytes], packed: IO[bytes], *, size: int, packing: str | None, most_bytes: int) -> None:
    """Write to `out` what the next `size` bytes of `packed` unpack to; with `packing` None they are copied.

    Raises `PackingError` when they are cut short, damaged or unpack to more than `most_bytes`.
    """
    decompressor = new_decompressor(packing) if packing else None
    left, plain_bytes = size, 0
    while left and not (decompressor and decompressor.eof):
        chunk = packed.read(min(left, MIB))
        if not chunk:
            raise PackingError(f"cut short: {left} of {size} bytes are missing")
        left -= len(chunk)
        for start in range(0, len(chunk), _STEP_BYTES):
            plain = chunk[start : start + _STEP_BYTES]
            if decompressor and packing:
                if decompressor.eof:
                    break
                plain = unpack_step(decompressor, plain, packing)
            plain_bytes += len(plain)
            if plain_bytes > most_bytes:
                raise PackingError(f"data of {size} bytes unpacks to more than {most_bytes}")
            out.write(plain)
    if decompressor and not decompressor.eof:
        raise PackingError(f"data packed with {packing} is cut short")


def new_decompressor(packing: str) -> Decompressor:
    """A decompressor for one stream; `KeyError` for a packing this module cannot undo."""
    return _DECOMPRESSORS[packing]()


def unpack_step(decompressor: Decompressor, data: bytes, packing: str) -> bytes:
    """What comes out when `data` goes in; raises `PackingError` for damage."""
    try:
        return decompressor.decompress(data)
    except MemoryError:
        raise PackingError(f"data packed with {packing} would take all memory to unpack") from None
    except Exception as error:  # lzma, zlib, bz2 and zstandard have no exception in common
        raise PackingError(f"data packed with {packing} is damaged: {error}") from error
