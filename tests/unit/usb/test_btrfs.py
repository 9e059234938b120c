"""The checksum of btrfs; that btrfs's own tools read what is changed, tests/tools/test_stick.py shows."""

import pytest

from livebuilder.usb.btrfs import crc32c


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        # RFC 3720, B.4; the bytes of a CRC stand there in the order they are sent.
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_the_examples_of_the_rfc(data: bytes, checksum: int) -> None:
    assert crc32c(data) == crc32c(bytearray(data)) == checksum
