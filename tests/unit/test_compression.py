"""Compressions: round trips, the limits of the other machine, damage."""

import io
import lzma
import os
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebuilder.compression import COMPRESSIONS, XZ
from livebuilder.errors import LivebuilderError
from livebuilder.unpacking import PackingError, packing_of, unpack_first, unpack_to

_PACKED = [name for name in COMPRESSIONS if name != "none"]
_LIMIT = 2**24


@pytest.mark.parametrize("name", _PACKED)
@given(data=st.binary(max_size=5000), tail=st.binary(max_size=20))
def test_what_was_packed_comes_back(name: str, data: bytes, tail: bytes) -> None:
    compression = COMPRESSIONS[name]
    packed = compression.compress(data)
    assert packing_of(packed) == name
    assert unpack_first(packed + tail, name, most_bytes=_LIMIT) == (data, len(packed))


@pytest.mark.parametrize(("name", "tool"), [("gzip", "gzip"), ("xz", "xz"), ("zstd", "zstd")])
def test_the_systems_own_tools_unpack_it(name: str, tool: str) -> None:
    data = os.urandom(1000) + b"livebuilder " * 300_000
    program = shutil.which(tool)
    assert program
    done = subprocess.run([program, "-dc"], input=COMPRESSIONS[name].compress(data), capture_output=True, check=True)
    assert done.stdout == data


def test_xz_asks_little_of_the_other_machine() -> None:
    packed = XZ.compress(os.urandom(3 * 2**20))
    assert packed[7] == lzma.CHECK_CRC32, "the kernel knows no other check"
    # A decoder with room for 1 MiB of dictionary and a little more is enough; xz -9 would ask for 65 MiB.
    lzma.LZMADecompressor(memlimit=2**20 + 200_000).decompress(packed)
    with pytest.raises(lzma.LZMAError):
        lzma.LZMADecompressor(memlimit=2**20 + 200_000).decompress(lzma.compress(b"x", preset=9))


@pytest.mark.parametrize("name", _PACKED)
def test_damage_is_an_error_of_ours(name: str) -> None:
    compression = COMPRESSIONS[name]
    packed = bytearray(compression.compress(os.urandom(4000)))
    packed[len(packed) // 2] ^= 0xFF
    for bad in (bytes(packed), bytes(packed[:-10]), compression.compress(b"")[:6]):
        with pytest.raises(LivebuilderError):
            unpack_first(bad, name, most_bytes=_LIMIT)


@pytest.mark.parametrize("name", _PACKED)
def test_a_bomb_is_stopped(name: str) -> None:
    compression = COMPRESSIONS[name]
    with pytest.raises(LivebuilderError):
        unpack_first(compression.compress(bytes(2**22)), name, most_bytes=2**16)


@pytest.mark.parametrize("name", [*_PACKED, None])
def test_unpacking_into_a_file(name: str | None) -> None:
    data = os.urandom(5000) * 700
    packed = COMPRESSIONS[name].compress(data) if name else data
    for source, size, ok in (
        (packed, len(packed), True),
        (packed + b"tail", len(packed), True),
        (packed[:-9], len(packed), False),
        (packed, len(packed) - 9, name is None),
    ):
        out = io.BytesIO()
        if ok:
            unpack_to(out, io.BytesIO(source), size=size, packing=name, most_bytes=len(data))
            assert out.getvalue() == data[: None if name else size]
        else:
            with pytest.raises(PackingError, match="cut short"):
                unpack_to(out, io.BytesIO(source), size=size, packing=name, most_bytes=len(data))
    out = io.BytesIO()
    with pytest.raises(PackingError, match="more than"):
        unpack_to(out, io.BytesIO(packed), size=len(packed), packing=name, most_bytes=len(data) - 1)
    assert len(out.getvalue()) < len(data)
