"""A kernel that lacks what every kernel of Debian has, made from one of Debian's."""

from __future__ import annotations

import lzma

from livebuilder.kernel.image import read_bzimage

_MIB = 1024 * 1024


def kernel_without_devtmpfs(image: bytes) -> bytes:
    """The kernel `image` (packed with xz) with its devtmpfs under another name: mounting it by its own gives ENODEV.

    One letter changes in the unpacked kernel. Packed anew it has to fit where it was: the boot code in front of it
    knows where it lies, and how long it is when unpacked (the last four bytes).
    """
    payload = read_bzimage(image).payload
    packed, size = payload[:-4], payload[-4:]
    plain = lzma.decompress(packed)
    # One string serves for three: the linker lets "devtmpfs" and "tmpfs" be the ends of "kdevtmpfs".
    assert plain.count(b"devtmpfs\0") == plain.count(b"\0kdevtmpfs\0") == 1
    patched = plain.replace(b"\0kdevtmpfs\0", b"\0kdeXtmpfs\0")
    return image.replace(payload, _pack(patched, len(packed)) + size)


def _pack(plain: bytes, most_bytes: int) -> bytes:
    """The xz stream, as the kernel's own scripts/xz_wrap.sh makes it, with nothing behind its end but zeros."""
    for effort in ({"preset": 6, "nice_len": 128}, {"preset": 9 | lzma.PRESET_EXTREME}):  # the kernel's, and a bit more
        filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "dict_size": 32 * _MIB, **effort}]
        packed = lzma.compress(plain, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=filters)
        if len(packed) <= most_bytes:
            return packed.ljust(most_bytes, b"\0")
    raise ValueError(f"the patched kernel is {len(packed) - most_bytes} bytes larger than it was")
