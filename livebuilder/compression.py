"""The compressions of an initramfs: what writes them, and which kernel option unpacks them.

Limits come from the other machine: the kernel's xz checks CRC32 only (Documentation/staging/xz.rst), and a large
dictionary is memory the machine may not have, so it is 1 MiB.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from livebuilder.sizes import MIB

XZ_DICTIONARY_BYTES = MIB


@dataclass(frozen=True)
class Compression:
    """One way to compress. `parameters` names everything that decides the bytes, for cache keys."""

    name: str
    suffix: str
    kernel_option: str | None
    parameters: str
    compress: Callable[[bytes], bytes]


def _xz(data: bytes) -> bytes:
    # Without position bits (pb) an old machine unpacks a tenth sooner, for half a per cent more bytes.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": XZ_DICTIONARY_BYTES, "pb": 0}]
    return lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=filters)


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)  # 31: a gzip header, without name and time
    return packer.compress(data) + packer.flush()


def _zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=19, write_checksum=True).compress(data)


NONE = Compression("none", "", None, "", lambda data: data)
GZIP = Compression("gzip", ".gz", "CONFIG_RD_GZIP", "level=9", _gzip)
XZ = Compression("xz", ".xz", "CONFIG_RD_XZ", f"preset=6 check=crc32 dict={XZ_DICTIONARY_BYTES} pb=0", _xz)
ZSTD = Compression("zstd", ".zst", "CONFIG_RD_ZSTD", "level=19 checksum", _zstd)

COMPRESSIONS = {compression.name: compression for compression in (NONE, GZIP, XZ, ZSTD)}
