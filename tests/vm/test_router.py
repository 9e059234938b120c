"""The default router as its owner meets it: consoles, network, ssh, passwords; and again after a restart."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import pytest

from livebuilder.process import Completed, run
from livebuilder.vm.machine import Media, Stick
from livebuilder.vm.session import Session
from livebuilder.vm.shell import CONSOLE_QUESTION, GuestShell
from tests.support.boots import SECONDS, Boot, at_the_menu, booting, observe, power_off, shows
from tests.support.builds import BuiltImage
from tests.support.ssh import Ssh, free_port, wait_for_ssh
from tests.support.sticks import ext4_state, extracted, list_folder, stick_image

pytestmark = [pytest.mark.vm, pytest.mark.network]

PASSWORD = "a-long-0ld-word"
HOST_KEY = "/etc/dropbear/dropbear_ed25519_host_key"


# The oldest PC. The other machines keep the settings of a router in test_command.py and test_proof.py.
MACHINE, MEDIA, DRIVER = "pc-1997", Media.IDE_DISK, "ne2k-pci"


def test_two_days_of_a_router(default_image: BuiltImage, tmp_path: Path) -> None:
    """On the first day its owner sets a password and restarts it; the second finds it as it was."""
    stick, port = stick_image(tmp_path / "stick.img"), free_port()
    ssh = Ssh(tmp_path, port)
    start: dict[str, Any] = {"machine": MACHINE, "sticks": [Stick(stick)], "ssh_port": port}

    with at_the_menu(default_image, media=MEDIA, log=tmp_path / "first.log", **start) as session:
        session.type_line()
        boot, shell = observe(session)
        assert_persistent(boot)
        assert_both_consoles_ask(session, boot)
        assert_network(shell)
        wait_for_ssh(shell)
        assert ssh.offered() == "publickey", "root has no password yet"
        assert_refused(ssh.login("publickey"))
        authorize = f"umask 077; mkdir -p /root/.ssh; echo '{ssh.public_key}' > /root/.ssh/authorized_keys"
        assert shell.run(authorize).status == 0
        assert_let_in(ssh.login("publickey"))

        set_password(session)
        assert shell.run("/etc/init.d/dropbear restart", timeout_seconds=SECONDS).status == 0
        wait_for_ssh(shell)
        assert ssh.offered() == "publickey,password"
        assert_let_in(ssh.login("password", password=PASSWORD))
        host_key = ssh.known_host
        session.type_line("reboot")
        assert session.wait_for_end(timeout_seconds=SECONDS) == 0
        assert "reboot: Restarting system" in session.text
    assert_clean(stick)

    with booting(default_image, log=tmp_path / "second.log", **start) as session:
        boot, shell = observe(session)
        assert_persistent(boot)
        assert "root has no password" not in boot.login
        wait_for_ssh(shell)
        assert ssh.offered() == "publickey,password"
        assert_let_in(ssh.login("password", password=PASSWORD))
        assert_refused(ssh.login("password", password=PASSWORD[::-1]))
        assert ssh.known_host == host_key
        assert host_key == " ".join(shell.run(f"dropbearkey -y -f {HOST_KEY}").output.splitlines()[1].split()[:2])
        power_off(session)
        assert "reboot: Power down" in session.text
    assert_clean(stick)
    # The passwords are nobody's to read but root's, and what tells this boot from others is not kept.
    assert stat.filemode(list_folder(stick, "upper/etc")["shadow"][0]) == "-rw-------"
    assert "boot.json" not in list_folder(stick, "upper/etc/livebuilder")


def assert_persistent(boot: Boot) -> None:
    assert (boot.record.root.mode, boot.record.storage.state) == ("ext2", "persistent")
    assert "Settings are kept on /dev/sd" in boot.login and "NOT KEPT" not in boot.login


def assert_clean(stick: Path) -> None:
    """Nothing to repair, and no journal to replay."""
    assert ext4_state(stick).unmounted
    with extracted(stick) as volume:
        run(["e2fsck", "-fn", volume])


def assert_both_consoles_ask(session: Session, boot: Boot) -> None:
    """Monitor and serial line say the same, and a shell answers on either."""
    for console in (boot.text, boot.screen):
        for line in (f"livebuilder: {boot.summary}", "router: settings are kept on ", CONSOLE_QUESTION):
            assert shows(console, line)
    session.press("ret")
    session.wait_for_screen(r"^root@router:~#", timeout_seconds=SECONDS)
    session.press(*"tty", "ret")
    session.wait_for_screen(r"^/dev/tty1$", timeout_seconds=SECONDS)


def assert_network(shell: GuestShell) -> None:
    assert shell.run("hostname").output == "router\n"
    assert re.search(r"inet addr:127\.0\.0\.1 +Mask:255\.0\.0\.0", shell.run("ifconfig lo").output)
    lan = shell.run("ifconfig br-lan").output
    assert re.search(r"inet addr:192\.168\.1\.1 .*Mask:255\.255\.255\.0", lan) and " UP " in lan
    driver = shell.run("readlink /sys/class/net/eth0/device/driver").output.strip()
    assert driver.rsplit("/", 1)[1] == DRIVER


def set_password(session: Session) -> None:
    session.forget()
    session.type_line("passwd")
    session.wait_for("New password:", timeout_seconds=SECONDS)
    session.type_line(PASSWORD)
    session.wait_for("Retype password:", timeout_seconds=SECONDS)
    session.type_line(PASSWORD)
    session.wait_for("password .*changed", timeout_seconds=SECONDS)


def assert_let_in(login: Completed) -> None:
    assert (login.returncode, login.stdout) == (0, "router\n"), login


def assert_refused(login: Completed) -> None:
    assert login.returncode == 255 and "Permission denied" in login.stderr, login
