import pytest

from livebuilder.iso import lzo

# Hand-made from the description of the format, one instruction after another.
END = b"\x11\0\0"


@pytest.mark.parametrize(
    ("stream", "plain"),
    [
        (bytes([17 + 3]) + b"abc" + END, b"abc"),
        (bytes([17 + 5]) + b"abcde" + END, b"abcde"),
        (bytes([0, 2]) + bytes(range(20)) + END, bytes(range(20))),  # 15 + 2 + 3 as they are
        (bytes([0, 0, 0]) + b"x" * 0 + END, None),  # a count that runs into the end
        (bytes([17 + 4]) + b"abcd" + bytes([0b010_011_00, 0]) + END, b"abcd" + b"ab" + b"c"),  # 3 bytes, 4 back
        (bytes([17 + 4]) + b"abcd" + bytes([32 | 6, 0, 0]) + END, b"abcd" + b"d" * 8),  # 8 bytes, 1 back: overlaps
        (bytes([17 + 4]) + b"abcd" + bytes([32 | 1, 0x0E, 0]) + b"xy" + END, b"abcd" + b"abc" + b"xy"),
    ],
)
def test_instructions(stream: bytes, plain: bytes | None) -> None:
    if plain is None:
        with pytest.raises(ValueError, match=r"reaches out|no end"):
            lzo.unpack(stream, limit=1000)
    else:
        assert lzo.unpack(b"before" + stream + b"behind", 6, limit=1000) == (plain, 6 + len(stream))


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        bytes([17 + 3]) + b"ab",  # shorter than it says
        bytes([17 + 3]) + b"abc",  # no end
        bytes([17 + 4]) + b"abcd" + bytes([0b010_111_00, 0]) + END,  # 8 back in 4 bytes
        bytes([32]) + b"\0" * 1000,
    ],
)
def test_damage_is_an_error(stream: bytes) -> None:
    with pytest.raises(ValueError, match=r"reaches out|no end"):
        lzo.unpack(stream, limit=1000)


def test_a_bomb_stops_at_the_limit() -> None:
    bomb = bytes([17 + 4]) + b"abcd" + bytes([32]) + b"\0" * 5000 + bytes([9, 0, 0]) + END
    with pytest.raises(ValueError, match="reaches out"):
        lzo.unpack(bomb, limit=100_000)
    assert len(lzo.unpack(bomb, limit=2_000_000)[0]) == 4 + 5000 * 255 + 31 + 9 + 2
