"""Getting back in: settings of one machine, failsafe by an f on the serial line, a reset that a person says yes to."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.vm.machine import Stick
from tests.support.boots import SECONDS, at_the_menu, booting, observe, power_off, shows
from tests.support.builds import BuiltImage, run_main
from tests.support.ssh import Ssh, free_port, wait_for_ssh
from tests.support.sticks import ext4_state, fill_ext4, list_folder, read_file, stick_image
from tests.vm.conftest import build_small

pytestmark = pytest.mark.vm

MAC = "52-54-00-12-34-56"  # what QEMU gives its first card
_QUESTION = r"type yes and hit \[enter\] within 60 seconds"
_KEYBOARD = r"input: QEMU QEMU USB Keyboard"
OLD = "/overlay/.livebuilder/old/1"
_NOTE = f"by-mac/{MAC}/root/note"


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Ssh:
    return Ssh(tmp_path_factory.mktemp("owner"), free_port())


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, owner: Ssh) -> BuiltImage:
    """The small image with its owner's key, and drivers for the card and for a keyboard on USB."""
    folder = tmp_path_factory.mktemp("image") / "image"
    build_small(folder, 'modules.extra=["8139cp","usbhid","hid-generic"]', f'router.ssh_keys=["{owner.public_key}"]')
    return BuiltImage(folder)


@pytest.fixture(scope="module")
def stick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = {f"by-mac/{MAC}/etc/banner.mine": "this machine", "upper/etc/shared": "all machines"}
    return stick_image(tmp_path_factory.mktemp("failsafe") / "stick.img", files=files)


class TestGettingBackIn:
    """In this order."""

    def test_the_machine_with_the_card_has_settings_of_its_own(
        self, image: BuiltImage, stick: Path, tmp_path: Path
    ) -> None:
        with booting(image, sticks=[Stick(stick)], log=tmp_path / "own.log") as session:
            boot, shell = observe(session)
            assert shell.run("cat /etc/banner.mine /etc/shared").output == "this machineall machines"
            assert shell.run("rm /etc/shared; echo locked >/root/note; chmod 0 /root").status == 0
            status = shell.run("lb-status").output
            power_off(session)
        assert (boot.record.storage.state, boot.record.storage.by_mac) == ("persistent", MAC)
        assert (boot.record.failsafe, boot.record.warnings) == (False, [])
        assert f"label=rootfs_data by-mac={MAC} " in boot.summary
        assert f"Settings are kept on /dev/sda1 (rootfs_data, by-mac/{MAC})." in boot.login
        assert f"by-mac      {MAC}" in status
        assert read_file(stick, _NOTE) == b"locked\n"
        assert read_file(stick, "upper/root/note") is None
        assert read_file(stick, "upper/etc/shared") == b"all machines"
        assert ext4_state(stick).unmounted

    def test_f_on_the_serial_line_starts_without_them_and_with_the_stick_at_hand(
        self, image: BuiltImage, stick: Path, owner: Ssh, tmp_path: Path
    ) -> None:
        log = tmp_path / "failsafe.log"
        with booting(image, sticks=[Stick(stick)], log=log, ssh_port=owner.port) as session:
            session.wait_for(r"press the \[f\] key and hit \[enter\]", timeout_seconds=SECONDS)
            session.type_text("\x00\x7f~ff\rf\r")
            boot, shell = observe(session)
            seen = shell.run("cat /root/note /etc/shared; stat -c %a /root; hostname; ip addr").output
            mounts = shell.run("grep -E ' (/|/overlay) ' /proc/mounts").output
            line = shell.run("cat /etc/livebuilder/boot.json").output
            wait_for_ssh(shell)
            login = owner.login("publickey")
            repaired = shell.run(f"chmod 700 /overlay/by-mac/{MAC}/root && echo free >/overlay/{_NOTE}").status
            power_off(session)
        assert (login.returncode, login.stdout) == (0, "small\n"), login
        storage = boot.record.storage
        assert (boot.record.failsafe, storage.state, storage.device, storage.by_mac) == (
            True, "volatile", "/dev/sda1", MAC
        )  # fmt: skip
        reason = f"they are in /overlay/upper and /overlay/by-mac/{MAC}, and reboot starts with them again"
        assert storage.reason and storage.reason.endswith(reason)
        for console in (boot.text, boot.screen):
            assert shows(console, reason)
        assert "* FAILSAFE MODE: CHANGES ARE NOT KEPT *" in boot.login
        assert "Seen:" not in boot.login
        assert "700\nsmall\n" in seen and "locked" not in seen and "all machines" not in seen
        assert "192.168.1.1" in seen
        assert "/dev/sda1 /overlay ext4 rw," in mounts and "overlayfs" not in mounts
        assert '"failsafe":true' in line
        assert repaired == 0
        assert ext4_state(stick).unmounted
        assert read_file(stick, _NOTE) == b"free\n"

    def test_a_reset_that_the_keyboard_says_yes_to_puts_everything_aside(
        self, image: BuiltImage, stick: Path, tmp_path: Path
    ) -> None:
        """On a stick with no block left, which is what may have locked somebody out."""
        fill_ext4(stick)
        keyboard = ("-device", "usb-kbd,bus=usb.0")
        log = tmp_path / "reset.log"
        with at_the_menu(image, machine="pc-2000", sticks=[Stick(stick)], log=log, extra=keyboard) as session:
            session.type_line("reset loglevel=7 cryptomgr.notests")
            session.wait_for(rf"(?s){_QUESTION}.*{_KEYBOARD}|{_KEYBOARD}.*{_QUESTION}", timeout_seconds=SECONDS)
            session.type_on_keyboard("yes")
            boot, shell = observe(session)
            seen = shell.run("cat /root/note /etc/shared /etc/banner.mine").output
            old = shell.run(f"cat {OLD}/upper/etc/shared {OLD}/{_NOTE}").output
            assert shell.run("rm /overlay/filler* && sync && echo new >/root/note").status == 0
            power_off(session)
        assert (boot.record.storage.state, boot.record.storage.by_mac) == ("persistent", None)
        full, was_reset = boot.record.warnings
        assert full.startswith("/dev/sda1 is full")
        assert was_reset == f"the settings were reset: those before are in {OLD}"
        assert f"WARNING: the settings were reset: those before are in {OLD}" in boot.login
        assert "all machines" not in seen and "this machine" not in seen and "free" not in seen
        assert old == "all machinesfree\n"
        assert read_file(stick, "upper/root/note") == b"new\n"
        assert list_folder(stick, "by-mac") == {}
        check = run_main("usb", "check", stick)
        assert check.status == 0, check.stdout
