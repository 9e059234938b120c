"""Boots that measure: a kernel and an initramfs in, what the guest said about itself out."""

from __future__ import annotations

import re
from pathlib import Path

from loguru import logger

from livebuilder.sizes import MIB
from livebuilder.vm.accelerator import TCG
from livebuilder.vm.machine import Guest, KernelBoot, machine_named
from livebuilder.vm.serial import GuestError
from livebuilder.vm.session import run_guest

MACHINE = machine_named("pc-2000")
AMPLE_MIB = 256
FIRST_LIMIT_SECONDS = 300.0
# The words that start what is measured, with no waiting for a stick.
START = "rdinit=/bench/start lb.storage=off"
_STANDS = r"^bench: root stands on (?P<kind>\w+) from (?P<started>\d+\.\d\d) to (?P<stopped>\d+\.\d\d)$"
_FAILURE = r"Kernel panic|Out of memory|cannot go on|gave up|bench: damaged"


class Boots:
    """What boots are made with: a kernel, and a folder for the initramfs and the log.

    A boot may take several times as long as the slowest that went well so far: with too little memory a kernel is
    more likely to stand still than to say so.
    """

    def __init__(self, kernel: Path, folder: Path) -> None:
        self.kernel = kernel
        self.folder = folder
        self._slowest_seconds: float | None = None

    def boot(self, initramfs: bytes, *, until: str, memory_mib: int = AMPLE_MIB, words: str = "") -> re.Match[str]:
        """Boot until the guest says `until`; raises `GuestError` when it does not, or has no memory left."""
        image = self.folder / "initramfs"
        image.write_bytes(initramfs)
        append = f"console=ttyS0,115200n8 panic=-1 {words}".strip()
        guest = Guest(
            machine=MACHINE, boot=KernelBoot(self.kernel, image, append=append), memory_bytes=memory_mib * MIB
        )
        limit = FIRST_LIMIT_SECONDS if self._slowest_seconds is None else 10 + 4 * self._slowest_seconds
        with run_guest(guest, log=self.folder / "serial.log", accelerator=TCG) as session:
            said = session.wait_for(until, timeout_seconds=limit, unless=_FAILURE)
            self._slowest_seconds = max(session.seconds, self._slowest_seconds or 0)
        return said

    def seconds_in_init(self, initramfs: bytes) -> float:
        """From the first line of /init to the first line of the new root's init, by the guest's own clock."""
        said = self.boot(initramfs, until=_STANDS, words=f"quiet {START}")
        return float(said["stopped"]) - float(said["started"])

    def root_kind(self, initramfs: bytes, *, memory_mib: int, words: str = "") -> str | None:
        """The file system the root stands on with that memory; None unless every file has the bytes it is to have."""
        words = f"{START} bench.check {words}"
        try:
            said = self.boot(initramfs, until=rf"{_STANDS}\n(?s:.*)^bench: clean$", memory_mib=memory_mib, words=words)
        except GuestError:
            logger.info("  {} MiB: no clean root", memory_mib)
            return None
        logger.info("  {} MiB: a clean root on {}", memory_mib, said["kind"])
        return said["kind"]

    def has_floor(self, initramfs: bytes, *, memory_mib: int) -> bool:
        """Whether the kernel starts an empty init with that memory."""
        try:
            self.boot(initramfs, until="bench: floor", memory_mib=memory_mib)
        except GuestError:
            logger.info("  {} MiB: the kernel does not start", memory_mib)
            return False
        logger.info("  {} MiB: the kernel starts", memory_mib)
        return True
