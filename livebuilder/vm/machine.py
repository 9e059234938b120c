"""The PCs of the period, as QEMU is told to be them: a table, and pure functions from a guest to an argv.

Nothing of QEMU's defaults or of the user's configuration gets in (`-nodefaults -no-user-config`), so a machine
is the same everywhere, and a guest that asks for a reboot ends QEMU instead of looping (`-no-reboot`).
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import KIB, MIB, render_size


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One PC. `board`, `cpu`, `usb`, `network` and `video` are QEMU's names of its parts."""

    name: str
    title: str
    program: str
    board: str
    cpu: str
    memory_mib: int
    usb: str
    network: str
    video: str


MACHINES = (
    Machine(
        name="pc-1997",
        title="1997: Pentium II, IDE, USB 1 (UHCI), NE2000 network card, 96 MiB",
        program="qemu-system-i386",
        board="pc,hpet=off",
        cpu="pentium2",
        memory_mib=96,
        usb="piix3-usb-uhci",
        network="ne2k_pci",
        video="cirrus-vga",
    ),
    Machine(
        name="pc-2000",
        title="2000: Pentium III, IDE, USB 2 (EHCI), RTL8139 network card, 256 MiB",
        program="qemu-system-i386",
        board="pc,hpet=off",
        cpu="pentium3",
        memory_mib=256,
        usb="usb-ehci",
        network="rtl8139",
        video="cirrus-vga",
    ),
    Machine(
        name="pc-modern",
        title="today: 64-bit processor, SATA (AHCI), USB 3 (xHCI), e1000e network card, 1 GiB",
        program="qemu-system-x86_64",
        board="q35",
        cpu="qemu64",
        memory_mib=1024,
        usb="qemu-xhci",
        network="e1000e",
        video="VGA",
    ),
)


def machine_named(name: str) -> Machine:
    """The machine of that name; raises `LivebuilderError` with the nearest name."""
    for machine in MACHINES:
        if machine.name == name:
            return machine
    names = [machine.name for machine in MACHINES]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"--machine {near[0]}" if near else "the machines are " + ", ".join(names)
    raise LivebuilderError(f"there is no machine named {name!r}", hint=hint)


class Media(StrEnum):
    """How the firmware meets the image it boots from."""

    CD = "cd"
    IDE_DISK = "ide-disk"
    USB_DISK = "usb-disk"


@dataclass(frozen=True)
class ImageBoot:
    """Boot the image `path` through the firmware. It is never written to: what the guest writes is forgotten."""

    path: Path
    media: Media = Media.CD


@dataclass(frozen=True)
class KernelBoot:
    """Boot a kernel that QEMU puts into memory itself: quick, but no boot loader is tried."""

    kernel: Path
    initramfs: Path | None = None
    append: str = "console=ttyS0,115200n8"


@dataclass(frozen=True)
class Stick:
    """A USB stick that is the raw image `path`.

    The guest writes to that file, unless `snapshot` (what it writes is forgotten) or `read_only` (the stick's
    write protection is on). `boot_index` puts it into the firmware's order; the boot image is number 5.
    """

    path: Path
    serial: str = "LIVEBUILDER1"
    snapshot: bool = False
    read_only: bool = False
    boot_index: int | None = None


@dataclass(frozen=True)
class Cable:
    """A guest's end of an Ethernet cable to another guest: the Unix sockets of this end and of the other.

    Either guest may come and go: what is sent while nobody is at the other end is lost, as on a real one.
    """

    here: Path
    there: Path

    @property
    def other_end(self) -> Cable:
        """The same cable, for the guest at its other end."""
        return Cable(self.there, self.here)


@dataclass(frozen=True)
class Card:
    """A network card that QEMU calls `driver`, on a cable."""

    driver: str
    mac: str
    cable: Cable


BOOT_INDEX = 5
LEAST_MEMORY_BYTES = 2 * MIB


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A machine and what is put into it.

    Without `cards` there is one that hears nobody but this host: a user-mode network where the guest is 192.168.1.1
    and everything else is cut off; `ssh_port` is a port of 127.0.0.1 that leads to the guest's port 22.
    `display` is QEMU's word for a window (`gtk`, `sdl`) or `none`. `extra` goes to QEMU as it is, last.
    """

    machine: Machine
    boot: ImageBoot | KernelBoot
    sticks: tuple[Stick, ...] = ()
    memory_bytes: int | None = None
    ssh_port: int | None = None
    cards: tuple[Card, ...] = ()
    display: str = "none"
    extra: tuple[str, ...] = ()

    @property
    def installed_bytes(self) -> int:
        """The memory the guest has: what was asked for, else what the machine had."""
        return self.machine.memory_mib * MIB if self.memory_bytes is None else self.memory_bytes


def verify_guest(guest: Guest) -> None:
    """Raises `LivebuilderError` that names every file the guest lacks or may not write."""
    boot = guest.boot
    needed = (
        [boot.path] if isinstance(boot, ImageBoot) else [boot.kernel, *([boot.initramfs] if boot.initramfs else [])]
    )
    problems = [f"{path} is no file that can be read" for path in needed if not _is_usable(path, os.R_OK)]
    for stick in guest.sticks:
        mode = os.R_OK if stick.snapshot or stick.read_only else os.R_OK | os.W_OK
        if not _is_usable(stick.path, mode):
            problems.append(f"the stick {stick.path} is no file that can be read{' and written' * (mode != os.R_OK)}")
    if guest.installed_bytes < LEAST_MEMORY_BYTES:
        problems.append(f"a PC with {render_size(guest.installed_bytes)} cannot even start its firmware")
    if problems:
        raise LivebuilderError("; ".join(problems), hint="livebuilder build; livebuilder usb image stick.img")


def _is_usable(path: Path, mode: int) -> bool:
    return path.exists() and not path.is_dir() and os.access(path, mode)


@dataclass(frozen=True)
class Control:
    """The sockets we listen on and QEMU connects to, and the file that keeps all the guest says."""

    serial: Path
    qmp: Path
    log: Path


def qemu_argv(guest: Guest, *, accelerator: str, control: Control | None) -> list[str]:
    """QEMU's argv for `guest`; without `control` its serial line is the terminal (Ctrl-A X ends QEMU)."""
    machine = guest.machine
    return [
        machine.program,
        "-name", f"livebuilder {machine.name}",
        "-no-user-config", "-nodefaults", "-no-reboot",
        "-machine", machine.board,
        "-accel", accelerator,
        "-cpu", machine.cpu,
        "-m", _memory(guest.installed_bytes),
        "-device", machine.video,
        "-display", guest.display,
        "-device", f"{machine.usb},id=usb",
        *_boot_argv(guest.boot),
        *(word for number, stick in enumerate(guest.sticks) for word in _stick_argv(stick, f"stick{number}")),
        *(_cards_argv(guest.cards) if guest.cards else _network_argv(machine.network, guest.ssh_port)),
        *_control_argv(control),
        *guest.extra,
    ]  # fmt: skip


def stick_device(stick: Stick, name: str, *, drive: str) -> dict[str, object]:
    """The properties of the USB device that is `stick`, as QEMU's `device_add` takes them."""
    device: dict[str, object] = {
        "driver": "usb-storage", "id": name, "bus": "usb.0", "drive": drive, "serial": stick.serial, "removable": True
    }  # fmt: skip
    return device if stick.boot_index is None else {**device, "bootindex": stick.boot_index}


def _boot_argv(boot: ImageBoot | KernelBoot) -> list[str]:
    if isinstance(boot, KernelBoot):
        initramfs = [] if boot.initramfs is None else ["-initrd", os.fspath(boot.initramfs)]
        return ["-kernel", os.fspath(boot.kernel), *initramfs, "-append", boot.append]
    # A disk that cannot be written makes the firmware and the kernel behave otherwise: a disk gets a snapshot.
    keep = "readonly=on" if boot.media is Media.CD else "snapshot=on"
    device = {
        Media.CD: "ide-cd,bus=ide.1",
        Media.IDE_DISK: "ide-hd,bus=ide.0",
        Media.USB_DISK: "usb-storage,bus=usb.0,removable=on,serial=LIVEBUILDER0",
    }[boot.media]
    return [
        "-drive", f"if=none,id=boot-image,format=raw,{keep},file={_escaped(boot.path)}",
        "-device", f"{device},drive=boot-image,bootindex={BOOT_INDEX}",
    ]  # fmt: skip


def _stick_argv(stick: Stick, name: str) -> list[str]:
    keep = ",readonly=on" if stick.read_only else ",snapshot=on" if stick.snapshot else ""
    properties = stick_device(stick, name, drive=f"{name}-image")
    driver = properties.pop("driver")
    device = ",".join(f"{key}={'on' if value is True else value}" for key, value in properties.items())
    return [
        "-drive", f"if=none,id={name}-image,format=raw{keep},file={_escaped(stick.path)}",
        "-device", f"{driver},{device}",
    ]  # fmt: skip


def _network_argv(card: str, ssh_port: int | None) -> list[str]:
    forward = "" if ssh_port is None else f",hostfwd=tcp:127.0.0.1:{ssh_port}-192.168.1.1:22"
    return [
        "-netdev", f"user,id=network0,net=192.168.1.0/24,host=192.168.1.2,restrict=on{forward}",
        "-device", f"{card},netdev=network0,romfile=",  # no boot ROM: the network is never booted from
    ]  # fmt: skip


def _cards_argv(cards: tuple[Card, ...]) -> list[str]:
    argv = []
    for number, card in enumerate(cards):
        name, here, there = f"network{number}", _escaped(card.cable.here), _escaped(card.cable.there)
        ends = f"local.type=unix,local.path={here},remote.type=unix,remote.path={there}"
        argv += [
            "-netdev",
            f"dgram,id={name},{ends}",
            "-device",
            f"{card.driver},netdev={name},mac={card.mac},romfile=",
        ]
    return argv


def _control_argv(control: Control | None) -> list[str]:
    if control is None:
        return [
            "-chardev", "stdio,id=serial0,mux=on,signal=off",
            "-serial", "chardev:serial0",
            "-mon", "chardev=serial0,mode=readline",
        ]  # fmt: skip
    return [
        "-chardev", f"socket,id=serial0,path={_escaped(control.serial)},logfile={_escaped(control.log)}",
        "-serial", "chardev:serial0",
        "-chardev", f"socket,id=qmp0,path={_escaped(control.qmp)}",
        "-mon", "chardev=qmp0,mode=control",
    ]  # fmt: skip


def _memory(size_bytes: int) -> str:
    return f"{size_bytes // MIB}M" if size_bytes % MIB == 0 else f"{size_bytes // KIB}K"


def _escaped(path: Path) -> str:
    """`path` as a value among QEMU's options: a comma is doubled (qemu(1), "file=file")."""
    return os.fspath(path).replace(",", ",,")
