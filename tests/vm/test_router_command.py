"""router on a real boot: settings saved, changed and taken back, and a page that says the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.vm.machine import Stick
from livebuilder.vm.shell import GuestShell
from tests.support.boots import SECONDS, booting, observe, power_off, shows
from tests.support.builds import BuiltImage
from tests.support.status import Status
from tests.support.sticks import ext4_state, list_folder, stick_image

pytestmark = [pytest.mark.vm, pytest.mark.network]

# What a person over ssh has in the environment: from the console nothing would have to be confirmed.
OVER_SSH = "SSH_CONNECTION='192.168.1.100 50000 192.168.1.1 22'"
# Facts of files that are changed and come back: permissions, owner, what is in them.
FACTS = "stat -c '%a %u:%g %F' /etc/hosts /etc/services /etc/rc.d/S12log; md5sum /etc/hosts /etc/services; hostname"


def status(shell: GuestShell) -> Status:
    said(shell, "router status --json >/tmp/status.json")
    return Status.model_validate(shell.read_json("/tmp/status.json"))


def said(shell: GuestShell, command: str) -> str:
    answer = shell.run(command, timeout_seconds=SECONDS, attempts=1)
    assert answer.status == 0, answer
    return answer.output


def lan_is(shell: GuestShell, address: str) -> None:
    """Wait until the LAN has that address, for itself and for the page."""
    address_there = f"ip -4 addr show br-lan | grep -q 'inet {address}/'"
    page_there = f"netstat -ltn | grep -q ' {address}:80 '"
    waiting = f"until {address_there} && {page_there}; do sleep 1; done"
    assert shell.run(waiting, timeout_seconds=SECONDS).status == 0
    assert status(shell).lan.address == address


def test_settings_are_saved_changed_and_taken_back(default_image: BuiltImage, tmp_path: Path) -> None:
    """By a power cut before the change was confirmed; then all of /etc goes back to a commit point.

    test_routing.py waits for the minute that somebody has, over a real ssh.
    """
    stick = stick_image(tmp_path / "stick.img")

    with booting(default_image, sticks=[Stick(stick)], log=tmp_path / "first.log") as session:
        boot, shell = observe(session)
        lan_is(shell, "192.168.1.1")
        found = status(shell)
        assert (found.name, found.settings.state, found.wan.state) == ("router", "persistent", "none")
        assert found.wan.reason and "only one network card" in found.wan.reason
        assert shows(boot.text, "network: no WAN: there is only one network card, eth0, which is the LAN")
        assert len(found.lan.ports) == 1 and found.memory.total_kib and not found.clock.synced
        assert "Settings are kept on /dev/sd" in said(shell, "router status")
        assert_page(shell)

        before = said(shell, FACTS)
        assert said(shell, "router save as it came") == "Saved as 1.\n"
        assert "LAN is 10.1.1.1/24 now" in said(shell, f"{OVER_SSH} router set lan 10.1.1.1/24")
        lan_is(shell, "10.1.1.1")
        assert status(shell).settings.pending
        said(shell, "router set hostname attic || router confirm")
        lan_is(shell, "10.1.1.1")
        assert not status(shell).settings.pending

        said(shell, "router set hostname attic")
        said(shell, "rm /etc/hosts /etc/rc.d/S12log; mkdir /etc/hosts /etc/mine; chmod 640 /etc/services; sync")
        said(shell, "chown nobody:nogroup /etc/services; echo x >>/etc/services; echo x >/etc/mine/file")
        assert said(shell, FACTS + "; true") != before
        assert "goes back to 1" in said(shell, "router revert")
        said(shell, f"{OVER_SSH} router set lan 10.3.3.3/24")
        # The power goes here.

    with booting(default_image, sticks=[Stick(stick)], log=tmp_path / "second.log") as session:
        boot, shell = observe(session)
        assert shows(boot.text, "router: the last change was not confirmed before the power went")
        assert shows(
            boot.text, "router: these are the settings of commit point 1; those before it are: router revert 2"
        )
        assert shows(boot.screen, "router: these are the settings of commit point 1")
        assert said(shell, FACTS) == before and said(shell, "ls -d /etc/mine || echo gone").endswith("gone\n")
        lan_is(shell, "192.168.1.1")
        history = said(shell, "router history").splitlines()
        assert [line.split()[0] for line in history] == ["1", "2"] and history[0].endswith("as it came")
        # What was taken back by the start was not what the commit point was made of.
        kept = said(shell, "tar -xzOf /overlay/.livebuilder/history/2/settings.tar.gz ./config/network ./config/system")
        assert "'10.1.1.1'" in kept and "'attic'" in kept and "10.3.3.3" not in kept
        power_off(session)
    assert ext4_state(stick).unmounted
    names = list_folder(stick, "upper/etc")
    assert "mine" not in names and not any("put-back" in name for name in names)


def assert_page(shell: GuestShell) -> None:
    page = said(shell, "wget -q -O - http://192.168.1.1/")
    assert "Settings are kept on /dev/sd" in page and "192.168.1.1/24 on eth" in page
    assert "{" in said(shell, "wget -q -O - http://192.168.1.1/style.css | head -n 1")
    refused = shell.run("wget -O - --header 'Host: evil.example' http://192.168.1.1/ 2>&1").output
    assert "403" in refused and "Settings" not in refused
    assert said(shell, "ps | grep '[h]ttpd -f'").split()[1] == "nobody"
