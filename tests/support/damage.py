"""Bytes broken on purpose, the same way for the same seed."""

import random


def changed(data: bytes, offset: int, new: bytes) -> bytes:
    """`data` with `new` written over what is at `offset`."""
    return data[:offset] + new + data[offset + len(new) :]


def mutated(data: bytes, seed: int) -> bytes:
    """`data` cut short, or with some bits flipped, bytes replaced or taken out."""
    rng = random.Random(seed)
    if seed % 4 == 0:
        return data[: rng.randrange(len(data))]
    broken = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(broken))
        match seed % 4:
            case 1:
                broken[at] ^= 1 << rng.randrange(8)
            case 2:
                broken[at] = rng.choice(b"0123456789ABCDEF\0/.")
            case 3:
                del broken[at : at + rng.randint(1, 40)]
    return bytes(broken)
