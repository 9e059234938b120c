"""The compressions of an initramfs: what writes them, what tells them apart, which kernel option unpacks them.

Limits come from the other machine: the kernel's xz checks CRC32 only (Documentation/staging/xz.rst), and a large
dictionary is memory the machine may not have, so it is 1 MiB.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import MIB

XZ_DICTIONARY_BYTES = MIB


@dataclass(frozen=True)
class Compression:
    """One way to compress. `parameters` names everything that decides the bytes, for cache keys."""

    name: str
    suffix: str
    magic: bytes
    kernel_option: str | None
    parameters: str
    compress: Callable[[bytes], bytes]


def _xz(data: bytes) -> bytes:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": XZ_DICTIONARY_BYTES}]
    return lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=filters)


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)  # 31: a gzip header, without name and time
    return packer.compress(data) + packer.flush()


def _zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=19, write_checksum=True).compress(data)


NONE = Compression("none", "", b"070701", None, "", lambda data: data)
GZIP = Compression("gzip", ".gz", b"\x1f\x8b", "CONFIG_RD_GZIP", "level=9", _gzip)
XZ = Compression("xz", ".xz", b"\xfd7zXZ\0", "CONFIG_RD_XZ", f"preset=6 check=crc32 dict={XZ_DICTIONARY_BYTES}", _xz)
ZSTD = Compression("zstd", ".zst", b"\x28\xb5\x2f\xfd", "CONFIG_RD_ZSTD", "level=19 checksum", _zstd)

COMPRESSIONS = {compression.name: compression for compression in (NONE, GZIP, XZ, ZSTD)}


def compression_of(data: bytes) -> Compression | None:
    """The compression `data` begins with, by its magic number."""
    return next((c for c in COMPRESSIONS.values() if data.startswith(c.magic)), None)


def decompress(data: bytes, compression: Compression, *, limit_bytes: int) -> tuple[bytes, int]:
    """The first compressed stream of `data`, unpacked, and how many bytes of `data` it took.

    Raises `LivebuilderError` when the stream is damaged or unpacks to more than `limit_bytes`.
    """
    try:
        if compression is XZ:
            unxz = lzma.LZMADecompressor(format=lzma.FORMAT_XZ)
            plain = unxz.decompress(data, max_length=limit_bytes)
            ended, left = unxz.eof, len(unxz.unused_data)
        elif compression is GZIP:
            gunzip = zlib.decompressobj(31)
            plain = gunzip.decompress(data, limit_bytes)
            ended, left = gunzip.eof, len(gunzip.unused_data)
        elif compression is ZSTD:
            return _unzstd(data, limit_bytes)
        else:
            return data, len(data)
    except (lzma.LZMAError, zlib.error) as error:
        raise LivebuilderError(f"the {compression.name} stream is damaged: {error}") from error
    if not ended:
        why = f"unpacks to more than {limit_bytes} bytes" if len(plain) >= limit_bytes else "ends too early"
        raise LivebuilderError(f"the {compression.name} stream {why}")
    return plain, len(data) - left


def _unzstd(data: bytes, limit_bytes: int) -> tuple[bytes, int]:
    import zstandard

    plain = bytearray()
    unzstd = zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj()
    step = 64 * 1024
    try:
        for start in range(0, len(data), step):
            plain += unzstd.decompress(data[start : start + step])
            if len(plain) > limit_bytes:
                raise LivebuilderError(f"the zstd stream unpacks to more than {limit_bytes} bytes")
            if unzstd.eof:
                return bytes(plain), min(start + step, len(data)) - len(unzstd.unused_data)
    except zstandard.ZstdError as error:
        raise LivebuilderError(f"the zstd stream is damaged: {error}") from error
    raise LivebuilderError("the zstd stream ends too early")
