"""Discs to test with: small ones of ours, and ones that are wrong in one chosen place."""

import random
from collections.abc import Mapping
from pathlib import Path

from livebuilder.iso.iso9660 import SECTOR
from livebuilder.iso.loader import find_loader
from livebuilder.iso.menu import INITRAMFS_PATH, KERNEL_PATH, BootMenu, boot_files, menu_for
from livebuilder.iso.plan import IsoPlan
from livebuilder.iso.report import IsoReport
from livebuilder.iso.writer import write_iso
from livebuilder.tree import Content

EPOCH = 1_700_000_000
KERNEL = bytes(range(256)) * 41 + b"the kernel's last bytes"
INITRAMFS = bytes(reversed(range(256))) * 77 + b"the initramfs's last bytes"


def small_menu() -> BootMenu:
    return menu_for("attic-pc", version="0.1.0", storage_label="rootfs_data")


def small_plan(
    *, files: Mapping[str, bytes] | None = None, volume_id: str = "ATTIC_PC", epoch: int = EPOCH,
    mbr_id: int | None = None,
) -> IsoPlan:  # fmt: skip
    """A plan of a disc with everything but a real kernel; `files` come on top."""
    contents = {**boot_files(small_menu()), KERNEL_PATH: KERNEL, INITRAMFS_PATH: INITRAMFS, **(files or {})}
    return IsoPlan(
        volume_id, {name: Content.from_bytes(data) for name, data in contents.items()}, find_loader(), epoch, mbr_id
    )


class SmallIso:
    """A disc of `small_plan()`, its bytes, and where things are in them."""

    def __init__(self, folder: Path) -> None:
        self.plan = small_plan()
        self.path = folder / "small.iso"
        self.report: IsoReport = write_iso(self.plan, self.path)
        self.data = self.path.read_bytes()

    @property
    def catalog(self) -> int:
        """The byte at which the boot catalogue starts."""
        assert self.report.catalog_sector is not None
        return self.report.catalog_sector * SECTOR

    def file(self, path: str) -> int:
        """The byte at which a file starts."""
        return next(file.sector for file in self.report.files if file.path == path) * SECTOR

    def record(self, name: bytes) -> int:
        """The byte at which the directory record of a file starts, by its ISO 9660 name, as in `VMLINUZ.;1`."""
        assert self.data.count(name) == 1, "or the test breaks something else"
        return self.data.index(name) - 33

    def broken(self, folder: Path, *changes: tuple[int, bytes]) -> Path:
        """A copy with other bytes at these places."""
        data = bytearray(self.data)
        for offset, new in changes:
            assert data[offset : offset + len(new)] != new, "a change that changes nothing tests nothing"
            data[offset : offset + len(new)] = new
        path = folder / "broken.iso"
        path.write_bytes(data)
        return path


def both(number: int) -> bytes:
    """A number in both byte orders, as ISO 9660 writes it."""
    return number.to_bytes(4, "little") + number.to_bytes(4, "big")


def structurally_mutated(data: bytes, seed: int) -> bytes:
    """A disc with one to thirty of the bytes that hold it together changed, or cut short."""
    rng = random.Random(seed)
    used = [sector for sector in range(16, 32) if data[sector * SECTOR : (sector + 1) * SECTOR].strip(b"\0")]
    broken = bytearray(data)
    for _ in range(rng.choice((1, 2, 5, 30))):
        sector = rng.choice(used) * SECTOR
        # Most sectors begin with what they hold, and are empty behind it.
        at = sector + rng.randrange(len(data[sector : sector + SECTOR].rstrip(b"\0")) or 1)
        match rng.randrange(5):
            case 0:
                broken[at] ^= 1 << rng.randrange(8)
            case 1:
                broken[at] = rng.randrange(256)
            case 2:
                broken[at : at + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", rng.randbytes(4)))
            case 3:
                broken[at : at + 8] = both(rng.choice((0, 1, 16, 24, 1 << 31, (1 << 32) - 1, rng.randrange(600))))
            case 4:
                size, source = rng.randrange(SECTOR), rng.choice(used) * SECTOR
                broken[at : at + size] = data[source : source + size]
    return bytes(broken[: rng.randrange(len(broken))] if seed % 10 == 0 else broken[: len(data)])
