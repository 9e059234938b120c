from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import KIB, MIB
from livebuilder.vm.machine import (
    MACHINES,
    Cable,
    Card,
    Control,
    Guest,
    ImageBoot,
    KernelBoot,
    Media,
    Stick,
    machine_named,
    qemu_argv,
    stick_device,
    verify_guest,
)

CONTROL = Control(serial=Path("/run/serial"), qmp=Path("/run/qmp"), log=Path("/logs/boot.log"))
ISO = Path("/out/router.iso")

# What every machine has in front of, and behind, what it boots from.
FIRST = {
    "pc-1997": [
        "qemu-system-i386", "-name", "livebuilder pc-1997", "-no-user-config", "-nodefaults", "-no-reboot",
        "-machine", "pc,hpet=off", "-accel", "tcg", "-cpu", "pentium2", "-m", "96M",
        "-device", "cirrus-vga", "-display", "none", "-device", "piix3-usb-uhci,id=usb",
    ],
    "pc-2000": [
        "qemu-system-i386", "-name", "livebuilder pc-2000", "-no-user-config", "-nodefaults", "-no-reboot",
        "-machine", "pc,hpet=off", "-accel", "tcg", "-cpu", "pentium3", "-m", "256M",
        "-device", "cirrus-vga", "-display", "none", "-device", "usb-ehci,id=usb",
    ],
    "pc-modern": [
        "qemu-system-x86_64", "-name", "livebuilder pc-modern", "-no-user-config", "-nodefaults", "-no-reboot",
        "-machine", "q35", "-accel", "tcg", "-cpu", "qemu64", "-m", "1024M",
        "-device", "VGA", "-display", "none", "-device", "qemu-xhci,id=usb",
    ],
}  # fmt: skip
CARD = {"pc-1997": "ne2k_pci", "pc-2000": "rtl8139", "pc-modern": "e1000e"}
LAST = [
    "-chardev", "socket,id=serial0,path=/run/serial,logfile=/logs/boot.log", "-serial", "chardev:serial0",
    "-chardev", "socket,id=qmp0,path=/run/qmp", "-mon", "chardev=qmp0,mode=control",
]  # fmt: skip
BOOTS = {
    "cd": (ImageBoot(ISO), [
        "-drive", "if=none,id=boot-image,format=raw,readonly=on,file=/out/router.iso",
        "-device", "ide-cd,bus=ide.1,drive=boot-image,bootindex=5",
    ]),
    "ide-disk": (ImageBoot(ISO, Media.IDE_DISK), [
        "-drive", "if=none,id=boot-image,format=raw,snapshot=on,file=/out/router.iso",
        "-device", "ide-hd,bus=ide.0,drive=boot-image,bootindex=5",
    ]),
    "usb-disk": (ImageBoot(ISO, Media.USB_DISK), [
        "-drive", "if=none,id=boot-image,format=raw,snapshot=on,file=/out/router.iso",
        "-device", "usb-storage,bus=usb.0,removable=on,serial=LIVEBUILDER0,drive=boot-image,bootindex=5",
    ]),
    "kernel": (KernelBoot(Path("/vmlinuz"), Path("/initramfs"), "console=ttyS0"), [
        "-kernel", "/vmlinuz", "-initrd", "/initramfs", "-append", "console=ttyS0",
    ]),
    "kernel alone": (KernelBoot(Path("/vmlinuz")), [
        "-kernel", "/vmlinuz", "-append", "console=ttyS0,115200n8",
    ]),
}  # fmt: skip


def network(card: str, forward: str = "") -> list[str]:
    return [
        "-netdev", f"user,id=network0,net=192.168.1.0/24,host=192.168.1.2,restrict=on{forward}",
        "-device", f"{card},netdev=network0,romfile=",
    ]  # fmt: skip


def guest(name: str = "pc-1997", **parts: object) -> Guest:
    return Guest(**{"machine": machine_named(name), "boot": KernelBoot(Path("/vmlinuz")), **parts})  # type: ignore[arg-type]


def argv(guest: Guest, *, control: Control | None = CONTROL) -> list[str]:
    return qemu_argv(guest, accelerator="tcg", control=control)


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("way", BOOTS)
def test_argv_of_every_machine_and_way_to_boot(name: str, way: str) -> None:
    boot, words = BOOTS[way]
    assert argv(guest(name, boot=boot)) == [*FIRST[name], *words, *network(CARD[name]), *LAST]


def test_the_table_is_what_is_tested_here() -> None:
    assert [machine.name for machine in MACHINES] == list(FIRST)


STICKS = {
    "written to": (
        Stick(Path("s.img")),
        "if=none,id=stick0-image,format=raw,file=s.img",
        "usb-storage,id=stick0,bus=usb.0,drive=stick0-image,serial=LIVEBUILDER1,removable=on",
    ),
    "snapshot": (
        Stick(Path("s.img"), serial="A1", snapshot=True),
        "if=none,id=stick0-image,format=raw,snapshot=on,file=s.img",
        "usb-storage,id=stick0,bus=usb.0,drive=stick0-image,serial=A1,removable=on",
    ),
    "write-protected": (
        Stick(Path("s.img"), read_only=True),
        "if=none,id=stick0-image,format=raw,readonly=on,file=s.img",
        "usb-storage,id=stick0,bus=usb.0,drive=stick0-image,serial=LIVEBUILDER1,removable=on",
    ),
    "first in the firmware's order": (
        Stick(Path("s.img"), boot_index=0),
        "if=none,id=stick0-image,format=raw,file=s.img",
        "usb-storage,id=stick0,bus=usb.0,drive=stick0-image,serial=LIVEBUILDER1,removable=on,bootindex=0",
    ),
}


@pytest.mark.parametrize("case", STICKS)
def test_argv_of_a_stick(case: str) -> None:
    stick, drive, device = STICKS[case]
    before, after = argv(guest()), argv(guest(sticks=(stick,)))
    place = before.index("-netdev")
    assert after == [*before[:place], "-drive", drive, "-device", device, *before[place:]]


def test_two_sticks_have_two_names() -> None:
    words = " ".join(argv(guest(sticks=(Stick(Path("a")), Stick(Path("b"), serial="B")))))
    assert "id=stick0,bus=usb.0,drive=stick0-image" in words
    assert "id=stick1,bus=usb.0,drive=stick1-image" in words


def test_a_plugged_stick_is_the_same_device_as_one_that_was_there() -> None:
    assert stick_device(Stick(Path("s.img"), serial="A1"), "plugged1", drive="node") == {
        "driver": "usb-storage", "id": "plugged1", "bus": "usb.0", "drive": "node", "serial": "A1", "removable": True,
    }  # fmt: skip


def test_without_control_the_terminal_is_the_serial_line() -> None:
    assert argv(guest(), control=None)[-6:] == [
        "-chardev", "stdio,id=serial0,mux=on,signal=off",
        "-serial", "chardev:serial0",
        "-mon", "chardev=serial0,mode=readline",
    ]  # fmt: skip


def test_what_the_caller_chooses() -> None:
    chosen = guest(memory_bytes=40 * MIB, ssh_port=2022, display="gtk", extra=("-smp", "2"))
    words = qemu_argv(chosen, accelerator="kvm", control=CONTROL)
    assert words[words.index("-m") + 1] == "40M"
    assert words[words.index("-display") + 1] == "gtk"
    assert words[words.index("-accel") + 1] == "kvm"
    assert words[words.index("-netdev") :][:4] == network("ne2k_pci", ",hostfwd=tcp:127.0.0.1:2022-192.168.1.1:22")
    assert words[-2:] == ["-smp", "2"]


def test_cards_on_cables_take_the_place_of_the_network() -> None:
    wan, lan = Cable(Path("/t/wan"), Path("/t/wan,far")), Cable(Path("/t/lan"), Path("/t/lan-far"))
    words = argv(guest(cards=(Card("rtl8139", "52:54:00:00:01:01", wan.other_end), Card("e1000", "aa:bb", lan))))
    assert words[words.index("-netdev") : -len(LAST)] == [
        "-netdev", "dgram,id=network0,local.type=unix,local.path=/t/wan,,far,remote.type=unix,remote.path=/t/wan",
        "-device", "rtl8139,netdev=network0,mac=52:54:00:00:01:01,romfile=",
        "-netdev", "dgram,id=network1,local.type=unix,local.path=/t/lan,remote.type=unix,remote.path=/t/lan-far",
        "-device", "e1000,netdev=network1,mac=aa:bb,romfile=",
    ]  # fmt: skip


def test_memory_that_is_no_whole_number_of_mebibytes() -> None:
    words = argv(guest(memory_bytes=20 * MIB + 512 * KIB))
    assert words[words.index("-m") + 1] == "20992K"


def test_a_comma_in_a_name_is_no_end_of_it() -> None:
    boot = ImageBoot(Path("/out/a,b.iso"))
    control = dataclasses.replace(CONTROL, log=Path("/logs/a,b.log"))
    words = argv(guest(boot=boot, sticks=(Stick(Path("c,d.img")),)), control=control)
    assert "if=none,id=boot-image,format=raw,readonly=on,file=/out/a,,b.iso" in words
    assert "if=none,id=stick0-image,format=raw,file=c,,d.img" in words
    assert "socket,id=serial0,path=/run/serial,logfile=/logs/a,,b.log" in words


def test_an_unknown_machine_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(LivebuilderError, match="no machine named 'pc-1998'") as refused:
        machine_named("pc-1998")
    assert refused.value.hint == "--machine pc-1997"
    with pytest.raises(LivebuilderError) as refused:
        machine_named("vax")
    assert refused.value.hint == "the machines are pc-1997, pc-2000, pc-modern"


def test_everything_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    incomplete = guest(
        boot=ImageBoot(tmp_path / "no.iso"), sticks=(Stick(tmp_path / "no.img"), Stick(tmp_path)), memory_bytes=MIB
    )
    with pytest.raises(LivebuilderError) as refused:
        verify_guest(incomplete)
    assert refused.value.message.split("; ") == [
        f"{tmp_path}/no.iso is no file that can be read",
        f"the stick {tmp_path}/no.img is no file that can be read and written",
        f"the stick {tmp_path} is no file that can be read and written",
        "a PC with 1.0 MiB cannot even start its firmware",
    ]


def test_a_kernel_and_its_initramfs_must_be_there(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"")
    verify_guest(guest(boot=KernelBoot(kernel, kernel)))
    with pytest.raises(LivebuilderError, match="initramfs is no file"):
        verify_guest(guest(boot=KernelBoot(kernel, tmp_path / "initramfs")))
