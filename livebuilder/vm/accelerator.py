"""Which of QEMU's accelerators to use: KVM only when it was seen to work, in a moment, on this host.

`/dev/kvm` may be there, open, and be useless: a host that emulates it takes about a microsecond for every
instruction, so that firmware ends after seconds and a kernel looks as if it hung for ever. The probe therefore
boots a sector that counts to a hundred million before it ends QEMU: some tenths of a second with KVM or TCG.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from loguru import logger

from livebuilder.cache import Cache
from livebuilder.errors import LivebuilderError
from livebuilder.process import require_tool, run

# Without options: thread=single, tb-size=64…1024 and other processors gain nothing when a kernel boots (measured).
TCG = "tcg"
KVM = "kvm"

PROBE_SECONDS = 3.0

# mov ecx, 100_000_000 · dec ecx · jnz · mov dx, 0x501 · mov al, 0x2a · out dx, al · hlt
PROBE_SECTOR = bytes.fromhex("66b900e1f505 6649 75fc ba0105 b02a ee f4").ljust(510, b"\0") + b"\x55\xaa"
# isa-debug-exit ends QEMU with the status (value << 1) | 1.
PROBE_STATUS = (0x2A << 1) | 1


def probe_argv(program: str, image: Path, *, accelerator: str) -> list[str]:
    """QEMU's argv for one probe: it ends with `PROBE_STATUS` when the sector ran to its end."""
    return [
        program,
        "-no-user-config", "-nodefaults", "-no-reboot",
        "-machine", "pc", "-accel", accelerator, "-cpu", "pentium3", "-m", "16M",
        "-display", "none",
        "-device", "isa-debug-exit,iobase=0x501,iosize=1",
        "-drive", f"if=ide,format=raw,snapshot=on,file={os.fspath(image).replace(',', ',,')}",
    ]  # fmt: skip


def works(program: str, accelerator: str, *, timeout_seconds: float = PROBE_SECONDS) -> bool:
    """Whether `accelerator` boots the probe to its end in time."""
    with tempfile.TemporaryDirectory(prefix="livebuilder-") as folder:
        image = Path(folder) / "probe.img"
        image.write_bytes(PROBE_SECTOR)
        argv = probe_argv(program, image, accelerator=accelerator)
        try:
            done = run(argv, check=False, timeout_seconds=timeout_seconds)
        except LivebuilderError as error:
            logger.debug("{} is of no use: {}", accelerator, error)
            return False
    return done.returncode == PROBE_STATUS


def find_accelerator(program: str, *, cache: Cache, device: Path = Path("/dev/kvm")) -> str:
    """`KVM` where it works, else `TCG`; the answer is kept until the host boots again or QEMU changes.

    Raises `LivebuilderError` when `program` is not installed.
    """
    emulator = require_tool(program)
    if not os.access(device, os.R_OK | os.W_OK):
        return TCG
    key = _key(emulator)
    known = cache.find("accelerator", key)
    if known is not None:
        return known.read_text(encoding="ascii")
    accelerator = KVM if works(program, KVM) else TCG
    with cache.place("accelerator", key) as draft:
        draft.write_text(accelerator, encoding="ascii")
    return accelerator


def _key(emulator: Path) -> str:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    status = emulator.stat()
    facts = f"{boot_id} {emulator.resolve()} {status.st_size} {status.st_mtime_ns}"
    return hashlib.sha256(facts.encode()).hexdigest()[:32]
