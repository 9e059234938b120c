"""A stick that the BIOS tries before the CD: it says that it is no boot disk, and the CD starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.iso.menu import KERNEL_PATH, boot_files
from livebuilder.iso.writer import write_iso
from livebuilder.sizes import MIB
from livebuilder.usb.bootcode import AREA_BYTES, MESSAGE
from livebuilder.vm.accelerator import TCG
from livebuilder.vm.machine import MACHINES, Guest, ImageBoot, Stick, machine_named
from livebuilder.vm.scenario import SUMMARY
from livebuilder.vm.serial import GuestTimeout
from livebuilder.vm.session import run_guest
from tests.support.boots import SECONDS as BOOT_SECONDS
from tests.support.builds import BuiltImage
from tests.support.echo_kernel import echo_kernel
from tests.support.isos import small_menu, small_plan
from tests.support.sticks import Table, stick_image

pytestmark = pytest.mark.vm

SECONDS = 60.0
HANG_SECONDS = 12.0  # some twenty times what the menu takes to appear


@pytest.fixture(scope="module")
def disc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("disc") / "live.iso"
    write_iso(small_plan(files={**boot_files(small_menu()), KERNEL_PATH: echo_kernel()}), path)
    return path


def _guest(disc: Path, stick: Path, machine: str) -> Guest:
    return Guest(machine=machine_named(machine), boot=ImageBoot(disc), sticks=(Stick(stick, boot_index=0),))


@pytest.mark.parametrize("table", ["gpt", "dos"])
@pytest.mark.parametrize("machine", [machine.name for machine in MACHINES])
def test_a_stick_first_in_the_boot_order_hands_on_to_the_cd(
    disc: Path, tmp_path: Path, machine: str, table: Table
) -> None:
    stick = stick_image(tmp_path / "stick.img", table=table)
    with run_guest(_guest(disc, stick, machine), log=tmp_path / "boot.log", accelerator=TCG) as session:
        session.wait_for("boot: ", timeout_seconds=SECONDS)


@pytest.mark.network
@pytest.mark.parametrize("machine", [machine.name for machine in MACHINES])
def test_the_router_on_the_cd_finds_the_stick_that_was_first(
    default_image: BuiltImage, tmp_path: Path, machine: str
) -> None:
    stick = stick_image(tmp_path / "stick.img")
    log = tmp_path / "boot.log"
    with run_guest(_guest(default_image.iso, stick, machine), log=log, accelerator=TCG) as session:
        session.wait_for("boot: ", timeout_seconds=BOOT_SECONDS)
        session.type_line("1")
        summary = session.wait_for(SUMMARY, timeout_seconds=BOOT_SECONDS)[1]
    assert "storage=persistent device=/dev/sda1 label=rootfs_data" in summary


def test_it_says_why_and_the_bios_looks_further(tmp_path: Path) -> None:
    blank = tmp_path / "blank.iso"
    blank.write_bytes(bytes(MIB))
    stick = stick_image(tmp_path / "stick.img")
    with run_guest(_guest(blank, stick, "pc-1997"), log=tmp_path / "boot.log", accelerator=TCG) as session:
        session.wait_for_screen("No bootable device", timeout_seconds=SECONDS)
        screen = session.screen_text()
    assert screen.index("Booting from Hard Disk") < screen.index(MESSAGE) < screen.index("Booting from DVD/CD")


def test_with_the_boot_code_zeroed_the_machine_hangs(disc: Path, tmp_path: Path) -> None:
    stick = stick_image(tmp_path / "stick.img")
    with stick.open("r+b") as stream:
        stream.write(bytes(AREA_BYTES))
    with run_guest(_guest(disc, stick, "pc-2000"), log=tmp_path / "boot.log", accelerator=TCG) as session:
        session.wait_for_screen("Booting from Hard Disk", timeout_seconds=SECONDS)
        with pytest.raises(GuestTimeout):
            session.wait_for("boot: ", timeout_seconds=HANG_SECONDS)
