"""The disc's own menu, with the real ISOLINUX and BIOS, on the screen and on the serial line, from every medium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from livebuilder.iso.menu import INITRAMFS_PATH, KERNEL_PATH, boot_files
from livebuilder.iso.writer import write_iso
from livebuilder.vm.accelerator import TCG
from livebuilder.vm.machine import Guest, ImageBoot, Media, machine_named
from livebuilder.vm.session import Session, run_guest
from tests.support.echo_kernel import echo_kernel
from tests.support.isos import INITRAMFS, small_menu, small_plan

pytestmark = pytest.mark.vm

SECONDS = 60
MENU = small_menu()
APPEND = {entry.label: entry.append for entry in MENU.entries}


@pytest.fixture(scope="module")
def disc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_disc(tmp_path_factory.mktemp("disc"), timeout_seconds=MENU.timeout_seconds)


def write_disc(folder: Path, *, timeout_seconds: int) -> Path:
    menu = boot_files(replace(MENU, timeout_seconds=timeout_seconds))
    write_iso(small_plan(files={**menu, KERNEL_PATH: echo_kernel()}), folder / "live.iso")
    return folder / "live.iso"


@contextmanager
def at_the_menu(disc: Path, log: Path, media: Media = Media.CD) -> Iterator[Session]:
    # USB 1, at a megabyte a second, only costs time here.
    guest = Guest(
        machine=machine_named("pc-2000" if media is Media.USB_DISK else "pc-1997"), boot=ImageBoot(disc, media)
    )
    with run_guest(guest, log=log / "boot.log", accelerator=TCG) as session:
        session.wait_for("boot: ", timeout_seconds=SECONDS)
        yield session


def assert_started(session: Session, append: str) -> None:
    """The kernel got the command line `append`, among what ISOLINUX adds, and the whole initramfs."""
    said = session.wait_for(r"^KERNEL ([^\r\n]*)[\r\n]", timeout_seconds=SECONDS)[1]
    ours = [word for word in said.split() if not word.startswith(("BOOT_IMAGE=", "initrd="))]
    assert " ".join(ours) == append
    assert f"BOOT_IMAGE=/{KERNEL_PATH}" in said.split()
    assert f"initrd=/{INITRAMFS_PATH}" in said.split()
    assert int(session.wait_for(r"^INITRD (\w+)[\r\n]", timeout_seconds=SECONDS)[1], 16) == len(INITRAMFS)
    assert session.wait_for_end(timeout_seconds=SECONDS) == 0


@pytest.mark.parametrize("media", list(Media), ids=str)
def test_left_alone_it_starts_the_first_entry_from_every_medium(disc: Path, tmp_path: Path, media: Media) -> None:
    with at_the_menu(disc, tmp_path, media) as session:
        assert_started(session, APPEND["start"])


def test_the_screen_shows_the_menu_and_takes_keys(disc: Path, tmp_path: Path) -> None:
    with at_the_menu(disc, tmp_path) as session:
        session.press("f3")
        session.wait_for_screen(r"e2label /dev/sdX1 rootfs_data", timeout_seconds=SECONDS)
        session.press("f4")
        session.wait_for_screen(rf"1  {MENU.entries[0].title}[^$]*F4 menu", timeout_seconds=SECONDS)
        screen = session.screen_text()
        for text in ("attic-pc", "livebuilder 0.1.0", "label rootfs_data", *(entry.title for entry in MENU.entries)):
            assert text in screen
        assert "e2label" not in screen, "the menu clears what was there"
        session.press("2", "ret")
        assert_started(session, APPEND["nostick"])


def test_a_serial_line_shows_the_menu_and_takes_names_and_words(disc: Path, tmp_path: Path) -> None:
    with at_the_menu(disc, tmp_path) as session:
        shown = session.text
        session.type_text("\x1bOQ")  # F2 of a VT100
        session.wait_for(r"lb\.settle=SECONDS +wait", timeout_seconds=SECONDS)
        session.type_text("rescue lb.label=other\r")
        assert_started(session, f"{APPEND['rescue']} lb.label=other")
    for entry in MENU.entries:
        assert entry.title in shown
    assert not re.search(r"\x1b\[[0-9;]*m", shown), "no colours: they cost thirteen bytes a character"


def test_without_a_timeout_it_waits(tmp_path: Path) -> None:
    with at_the_menu(write_disc(tmp_path, timeout_seconds=0), tmp_path) as session:
        session.wait_for_screen(r"Enter alone starts 1\.", timeout_seconds=SECONDS)
        session.type_text("\r")
        assert_started(session, APPEND["start"])
