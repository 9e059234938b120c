"""Unpacking what others packed: kernels and kernel modules, told by their first bytes."""

from __future__ import annotations

import bz2
import lzma
import zlib

from livebuilder.errors import LivebuilderError

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
_XZ_MEMORY_BYTES = 256 * 1024 * 1024
_ZSTD_WINDOW_BYTES = 128 * 1024 * 1024  # the kernel's own build uses `zstd -22 --ultra`, which takes this much


class PackingError(LivebuilderError):
    """A compressed stream is damaged, cut short, or unpacks to more than was allowed."""


def packing_of(data: bytes) -> str:
    """How `data` is packed: gzip xz zstd bzip2 lzma lz4 lzo, `none` for a plain ELF file, else `unknown`."""
    return next((name for magic, name in _MAGICS.items() if data.startswith(magic)), "unknown")


def unpack(data: bytes, *, most_bytes: int) -> bytes | None:
    """The bytes that gzip, xz, zstd, bzip2 or lzma packed; plain data as it is; None for lz4, lzo and the unknown.

    Only the first stream is taken: a kernel's payload carries its size behind it. Raises `PackingError`.
    """
    packing = packing_of(data)
    if packing == "none":
        return data
    if packing == "zstd":
        plain, complete = _unpack_zstd(data, most_bytes)
    elif packing in ("gzip", "xz", "bzip2", "lzma"):
        plain, complete = _unpack_stream(data, packing, most_bytes)
    else:
        return None
    if not complete:
        reason = f"it is larger than {most_bytes} bytes" if len(plain) >= most_bytes else "it is cut short"
        raise PackingError(f"data packed with {packing} cannot be unpacked: {reason}")
    return plain


def _unpack_stream(data: bytes, packing: str, most_bytes: int) -> tuple[bytes, bool]:
    try:
        if packing == "gzip":
            gzip = zlib.decompressobj(31)
            return gzip.decompress(data, most_bytes), gzip.eof
        if packing == "bzip2":
            bzip2 = bz2.BZ2Decompressor()
            return bzip2.decompress(data, most_bytes), bzip2.eof
        kind = lzma.FORMAT_XZ if packing == "xz" else lzma.FORMAT_ALONE
        xz = lzma.LZMADecompressor(kind, memlimit=_XZ_MEMORY_BYTES)
        return xz.decompress(data, most_bytes), xz.eof
    except (zlib.error, lzma.LZMAError, OSError) as error:
        raise PackingError(f"data packed with {packing} cannot be unpacked: {error}") from error


def _unpack_zstd(data: bytes, most_bytes: int) -> tuple[bytes, bool]:
    import zstandard  # costs start-up, and most kernels need none of it

    # The reader stops in silence at the end of its input; whether a frame ended there shows in its checksum only.
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).stream_reader(data)
        plain = reader.read(most_bytes)
    except zstandard.ZstdError as error:
        raise PackingError(f"data packed with zstd cannot be unpacked: {error}") from error
    return plain, len(plain) < most_bytes
