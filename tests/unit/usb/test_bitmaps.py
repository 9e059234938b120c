"""Which blocks of an ext file system are in use; that it is all of them, tests/tools/test_usb_content.py shows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from livebuilder.errors import LivebuilderError
from livebuilder.usb.bitmaps import used_ranges


@given(st.binary(min_size=1024, max_size=1024))
def test_a_superblock_of_noise_is_refused_or_understood(noise: bytes) -> None:
    def read(offset: int, length: int) -> bytes:
        return (noise * (length // 1024 + 1))[:length]

    try:
        found = used_ranges(read, size_bytes=64 * 2**20, path="x")
    except LivebuilderError:
        return
    assert found is None or all(0 <= start < end <= 64 * 2**20 for start, end in found)
