import struct

import pytest

from livebuilder.iso.hybrid import Hybrid, Partition, read_hybrid


def sector(code: bytes = b"", *, image: int = 0, disk_id: int = 0, partitions: bytes = b"", gpt: bool = False) -> bytes:
    head = code.ljust(432, b"\0") + struct.pack("<I4xI2x", image, disk_id) + partitions.ljust(64, b"\0") + b"\x55\xaa"
    return (head + (b"EFI PART" if gpt else b"")).ljust(1024, b"\0")


WHOLE = struct.pack("<BBBBBBBBII", 0x80, 0, 1, 0, 0x17, 63, 32, 9, 0, 20480)
EFI = struct.pack("<BBBBBBBBII", 0, 254, 255, 255, 0xEF, 254, 255, 255, 400, 2880)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"\0" * 1024, None),
        (b"", None),
        (sector()[:600], None),
        (sector(), Hybrid("none", 0, None, (), False)),
        (
            sector(b"isolinux.bin missing", image=120, disk_id=0xCAFE, partitions=WHOLE),
            Hybrid("isohybrid", 0xCAFE, 120, (Partition(1, True, 0x17, 0, 20480),), False),
        ),
        (
            sector(b"..GRUB .Geom", partitions=WHOLE + EFI, gpt=True),
            Hybrid("GRUB", 0, None, (Partition(1, True, 0x17, 0, 20480), Partition(2, False, 0xEF, 400, 2880)), True),
        ),
        (
            sector(b"\xfa\xeb", partitions=b"\0" * 48 + WHOLE),
            Hybrid("other", 0, None, (Partition(4, True, 0x17, 0, 20480),), False),
        ),
    ],
)
def test_boot_sector(data: bytes, found: Hybrid | None) -> None:
    assert read_hybrid(data) == found
