"""Compressions: round trips, the limits of the other machine, damage."""

import lzma
import os
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebuilder.compression import COMPRESSIONS, XZ
from livebuilder.errors import LivebuilderError
from livebuilder.unpacking import packing_of, unpack_first

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
