"""LZO1X, only its unpacking: how ISOLINUX packs the part of itself that runs in protected mode.

The stream is a row of instructions, each a copy of earlier output (byte, length and distance in it) followed by up
to three bytes taken as they are, or a longer run of such bytes (Linux: Documentation/staging/lzo.rst). The end is
a copy of distance zero from the farthest class.
"""

from __future__ import annotations


def unpack(data: bytes, start: int = 0, *, limit: int) -> tuple[bytes, int]:
    """The bytes that the stream at `start` stands for, and the offset behind its end.

    Raises `ValueError` when it is none, or gives more than `limit` bytes.
    """
    try:
        return _unpack(data, start, limit)
    except IndexError:
        raise ValueError("the stream has no end") from None


def _unpack(data: bytes, at: int, limit: int) -> tuple[bytes, int]:
    out = bytearray()
    plain = 0  # how many bytes the last instruction took as they are; 4 stands for a long run
    if data[at] > 17:
        plain = data[at] - 17
        at = _take(data, at + 1, plain, out, limit)
        plain = min(plain, 4)
    while True:
        code = data[at]
        at += 1
        if code >= 64:
            distance = (code >> 2 & 7) + (data[at] << 3) + 1
            length, at, plain = (code >> 5) + 1, at + 1, code & 3
        elif code >= 16:
            near = code >= 32
            length, at = _count(data, at, code, 31 if near else 7)
            word = data[at] | data[at + 1] << 8
            distance = (word >> 2) + (1 if near else (code & 8) << 11)
            at, plain = at + 2, word & 3
            if not near:
                if distance == 0:
                    return bytes(out), at
                distance += 0x4000
            length += 2
        elif plain == 0:
            length, at = _count(data, at, code, 15)
            at = _take(data, at, length + 3, out, limit)
            plain = 4
            continue
        else:
            length, base = (3, 2049) if plain == 4 else (2, 1)
            distance = (code >> 2) + (data[at] << 2) + base
            at, plain = at + 1, code & 3
        begin = len(out) - distance
        if begin < 0 or len(out) + length > limit:
            raise ValueError("a copy reaches out of what was unpacked")
        for index in range(begin, begin + length):  # may read what it has just written
            out.append(out[index])
        at = _take(data, at, plain, out, limit)


def _count(data: bytes, at: int, code: int, mask: int) -> tuple[int, int]:
    count = code & mask
    if count:
        return count, at
    while data[at] == 0:
        count += 255
        at += 1
    return count + mask + data[at], at + 1


def _take(data: bytes, at: int, count: int, out: bytearray, limit: int) -> int:
    if at + count > len(data) or len(out) + count > limit:
        raise ValueError("a run reaches out of the stream")
    out += data[at : at + count]
    return at + count
