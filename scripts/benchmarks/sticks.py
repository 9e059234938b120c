"""Sticks: making an image of one, and writing and verifying a live image, against the tools one would type."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from livebuilder.process import find_tool, run
from livebuilder.sizes import MIB

LIVE_BYTES = 650 * MIB  # what a CD holds
STICK_BYTES = 64 * MIB
_TABLE = 'label: gpt\nstart=1MiB, name="rootfs_data", type=linux\n'


@dataclass(frozen=True)
class Sticks:
    """A folder to work in, and an ISO of `LIVE_BYTES`."""

    folder: Path
    iso: Path

    def prepare(self) -> float:
        """Seconds that `livebuilder usb image` takes, from its start to its end."""
        image = self.folder / "ours.img"
        image.unlink(missing_ok=True)
        return _seconds(lambda: _ours("image", image))

    def prepare_by_hand(self) -> float:
        """Seconds of sfdisk, mke2fs -d and e2fsck -fn, which verifies."""
        image, tree = self.folder / "theirs.img", self.folder / "tree"
        for folder in ("upper", "work"):
            (tree / folder).mkdir(parents=True, exist_ok=True)
        with image.open("wb") as stream:
            stream.truncate(STICK_BYTES)

        def make() -> None:
            run(["sfdisk", "--quiet", image], input_bytes=_TABLE.encode())
            volume = f"{image}?offset={MIB}"
            offset = f"offset={MIB},lazy_itable_init=0,lazy_journal_init=0"
            run(["mke2fs", "-q", "-F", "-t", "ext4", "-L", "rootfs_data", "-E", offset, "-d", tree, image, "62M"])
            run(["e2fsck", "-fn", volume])

        return _seconds(make)

    def write(self) -> float:
        """Seconds that `livebuilder usb write` takes to write the ISO and compare every byte."""
        image = self._blank("ours.img")
        return _seconds(lambda: _ours("write", self.iso, image, "--erase", image.name))

    def write_by_hand(self) -> float:
        """Seconds of dd, flushed, and cmp past the page cache."""
        image = self._blank("theirs.img")

        def write() -> None:
            run(["dd", f"if={self.iso}", f"of={image}", "bs=4M", "conv=notrunc,fsync"])
            run(["dd", f"if={image}", "iflag=nocache", "count=0"])
            run(["cmp", "-n", str(self.iso.stat().st_size), self.iso, image])

        return _seconds(write)

    def _blank(self, name: str) -> Path:
        """A stick a little larger than the ISO, its blocks written once, none of it in the page cache.

        Memory that nobody used for some seconds is slow to get in a virtual machine, and would fall to whichever side
        wants it first: so as much as either side can use was in use a moment ago.
        """
        image = self.folder / name
        with image.open("wb") as stream:
            for _ in range(LIVE_BYTES // MIB + 8):
                stream.write(bytes(MIB))
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        used = b"\1" * (2 * LIVE_BYTES)
        del used
        return image


def make_sticks(folder: Path, iso: Path) -> Sticks:
    """`iso` made larger by noise behind it, which a live image may have, so that more is measured than a start."""
    live = folder / "live.iso"
    with live.open("wb") as stream:
        stream.write(iso.read_bytes())
        while (left := LIVE_BYTES - stream.tell()) > 0:
            stream.write(os.urandom(min(left, 16 * MIB)))
    return Sticks(folder, live)


def _ours(*words: str | Path) -> None:
    program = find_tool("livebuilder")
    assert program is not None, "scripts/bench puts it on the PATH"
    run([program, "--quiet", "usb", *words])


def _seconds(act: Callable[[], None]) -> float:
    started = time.monotonic()
    act()
    return time.monotonic() - started
