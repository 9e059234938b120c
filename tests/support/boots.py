"""Boots to test with: an image started in QEMU, and all that the guest says about itself.

    with booting(image, "lb.settle=3", sticks=[Stick(path)], log=folder / "boot.log") as session:
        boot, shell = observe(session)
        assert boot.record.storage.state == "persistent"
        power_off(session)

There QEMU puts kernel and initramfs of the image into memory itself, which saves the firmware and the disc's menu;
`at_the_menu` goes through both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from livebuilder.vm.accelerator import TCG
from livebuilder.vm.machine import Card, Guest, ImageBoot, KernelBoot, Media, Stick, machine_named
from livebuilder.vm.scenario import RECORD_PATH, SUMMARY
from livebuilder.vm.session import Session, run_guest
from livebuilder.vm.shell import CONSOLE_QUESTION, GuestShell, activate_console
from tests.support.builds import BuiltImage

# No fact takes so long; a host that is busy with other things may.
SECONDS = 300.0
# What the disc's own menu gives to Linux, but for the tests of its own cryptography that the kernel would spend a
# third of the boot on.
WORDS = ("console=tty0", "console=ttyS0,115200n8", "cryptomgr.notests")
RESCUE_PROMPT = r"livebuilder# "


class _Facts(BaseModel):
    """A part of the boot record: these keys, of these types, and no others."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RootFacts(_Facts):
    mode: Literal["ext2", "squashfs", "tmpfs"]
    device: str
    uuid: str | None
    size_bytes: int
    used_bytes: int
    attempts: int
    seconds: float
    reason: str | None


class MemoryFacts(_Facts):
    total_kib: int
    available_kib: int
    needed_kib: int


class Cure(_Facts):
    command: str
    erases: bool
    here: bool


class Candidate(_Facts):
    device: str
    label: str | None
    fstype: str | None
    uuid: str | None
    cure: Cure | None


class StorageFacts(_Facts):
    state: Literal["persistent", "read-only", "volatile"]
    reason: str | None
    device: str | None
    label: str | None
    uuid: str | None
    fstype: str | None
    by_mac: str | None
    fsck: int | None
    waited_seconds: float
    candidates: list[Candidate]


class StaleFacts(_Facts):
    count: int
    hidden: int
    files: list[str]


class ImageRecord(_Facts):
    build: str | None
    before: str | None
    stale: StaleFacts


class ParameterFacts(_Facts):
    unknown: list[str]


class Record(_Facts):
    """/etc/livebuilder/boot.json, as it is documented."""

    version: Literal[1]
    livebuilder: str
    name: str
    kernel: str
    failsafe: bool
    root: RootFacts
    memory: MemoryFacts
    storage: StorageFacts
    image: ImageRecord
    parameters: ParameterFacts
    warnings: list[str]


@dataclass(frozen=True)
class Boot:
    """What one boot said until its console answered.

    `summary` is the line on the console, `login` what a person reads before the first prompt, `screen` what the
    monitor showed meanwhile, `steps` our lines in the kernel's log, with their times.
    """

    log: Path
    summary: str
    record: Record
    login: str = field(repr=False)
    screen: str = field(repr=False)
    steps: str = field(repr=False)
    text: str = field(repr=False)


@contextmanager
def booting(
    image: BuiltImage,
    *words: str,
    log: Path,
    machine: str = "pc-2000",
    sticks: Sequence[Stick] = (),
    cards: Sequence[Card] = (),
    ssh_port: int | None = None,
    memory_bytes: int | None = None,
    kernel: Path | None = None,
    loglevel: int = 4,
    extra: Sequence[str] = (),
) -> Iterator[Session]:
    """A guest with the image's kernel (or another) and initramfs, and `words` on its command line.

    `extra` goes to QEMU as it is. The power is cut where the block ends.
    """
    append = " ".join([*WORDS, f"loglevel={loglevel}", *words])
    guest = Guest(
        machine=machine_named(machine), boot=KernelBoot(kernel or image.kernel, image.initramfs, append),
        sticks=tuple(sticks), cards=tuple(cards), memory_bytes=memory_bytes, ssh_port=ssh_port,
        extra=tuple(extra),
    )  # fmt: skip
    with run_guest(guest, log=log, accelerator=TCG) as session:
        yield session


@contextmanager
def at_the_menu(
    image: BuiltImage,
    *,
    log: Path,
    machine: str = "pc-1997",
    media: Media = Media.CD,
    sticks: Sequence[Stick] = (),
    ssh_port: int | None = None,
    extra: Sequence[str] = (),
) -> Iterator[Session]:
    """A guest that starts the disc itself, with its boot menu waiting for what is typed."""
    guest = Guest(
        machine=machine_named(machine), boot=ImageBoot(image.iso, media), sticks=tuple(sticks), ssh_port=ssh_port,
        extra=tuple(extra),
    )  # fmt: skip
    with run_guest(guest, log=log, accelerator=TCG) as session:
        session.wait_for("boot: ", timeout_seconds=SECONDS)
        yield session


def observe(session: Session) -> tuple[Boot, GuestShell]:
    """Wait for the summary and for the console, press Enter, read the record."""
    summary = session.wait_for(SUMMARY, timeout_seconds=SECONDS)[1]
    shell = activate_console(session, timeout_seconds=SECONDS)
    login = session.text.rpartition(CONSOLE_QUESTION)[2].split("dmesg -n 1", 1)[0]
    screen = session.screen_text()
    record = Record.model_validate(shell.read_json(RECORD_PATH))
    steps = shell.run("dmesg | grep livebuilder:").output
    return Boot(session.log, summary, record, login, screen, steps, session.text), shell


def power_off(session: Session) -> None:
    """Switch off as a person does; only then the sticks' files are whole."""
    session.type_line("poweroff")
    assert session.wait_for_end(timeout_seconds=SECONDS) == 0


def time_of(pattern: str, lines: str) -> float:
    """The guest's clock, in seconds since its kernel started, at the first line of its log that matches."""
    match = re.search(rf"^\[ *(\d+\.\d+)\] .*?{pattern}", lines, re.MULTILINE)
    assert match, f"no line matches {pattern!r} in:\n{lines}"
    return float(match[1])


def shows(console: str, line: str) -> bool:
    """Whether `line` stands on the console, wrapped or not."""
    return "".join(line.split()) in "".join(console.split())
