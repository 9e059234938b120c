"""initramfs/lib/machine.sh and the layers of overlay.sh: one stick, and for each machine what is its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.init.test_init_rootimage import add_payload, configure
from tests.init.test_init_search import ext4
from tests.support.init import InitMachine

_FIND = (
    'LB_OVERLAY_BY=init STORAGE_STATE=persistent; {facts} find_machine; echo "$BY_MAC"; readlink "$MACHINE" 2>/dev/null'
)
_CARDS = {"lo": "00:00:00:00:00:00", "eth0": "52:54:00:aa:bb:cc", "eth1": "00:0e:0c:01:02:03"}
_NETWORK, _IDE = "pci:v000010ECd00008139sv0sd0bc02sc00i00", "pci:v00008086d00007010sv0sd0bc01sc01i80"
_USB = {
    "keyboard": "usb:v0627p0001d0000dc00dsc00dp00ic03isc01ip01in00",
    "disk": "usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00",
    "hub": "usb:v1D6Bp0001d0601dc09dsc00dp00ic09isc00ip00in00",
    "asix": "usb:v0B95p7720d0001dcFFdscFFdp00icFFiscFFip00in00",
    "cdc": "usb:v0525pA4A2d0000dc02dsc00dp00ic02isc06ip00in00",
}


@pytest.fixture
def cards(machine: InitMachine) -> InitMachine:
    for name, address in _CARDS.items():
        machine.write(f"sys/class/net/{name}/address", f"{address}\n")
    return machine


def find(machine: InitMachine, facts: str = "") -> list[str]:
    return machine.call(_FIND.format(facts=facts)).stdout.replace(str(machine.root), "").splitlines()


@pytest.mark.parametrize(
    "name", ["52:54:00:aa:bb:cc", "52-54-00-aa-bb-cc", "52:54:00:AA:BB:CC", "52-54-00-Aa-bB-CC", "525400aabbcc"]
)
def test_the_folder_is_found_however_its_name_is_written(cards: InitMachine, name: str) -> None:
    cards.write(f"stick/by-mac/{name}/etc/config/network", "mine")
    cards.write("stick/by-mac/00:11:22:33:44:55/etc/config/network", "another's")
    assert find(cards) == [name, f"/stick/by-mac/{name}"]
    assert "warning" not in cards.console


def test_of_several_the_lowest_address_is_taken_and_it_is_said(cards: InitMachine) -> None:
    for name in ("52:54:00:aa:bb:cc", "00-0E-0C-01-02-03"):
        cards.write(f"stick/by-mac/{name}/etc/note", name)
    assert find(cards)[0] == "00-0E-0C-01-02-03"
    assert (
        "folders in /by-mac for several cards of this machine: 00-0E-0C-01-02-03 and 52:54:00:aa:bb:cc;"
        " taking 00-0E-0C-01-02-03, the lowest"
    ) in cards.console


@pytest.mark.parametrize("name", ["eth0", "52:54:00:aa:bb", "52:54:00:aa:bb:cc:dd", "\x1b[2J", "gg:54:00:aa:bb:cc"])
def test_a_folder_that_no_card_can_have_is_told(cards: InitMachine, name: str) -> None:
    cards.write(f"stick/by-mac/{name}/etc/note", "x")
    assert find(cards) == [""]
    assert f"/by-mac/{name.replace(chr(27), '?')} on the stick is not named by the address of a network card" in (
        cards.console
    )
    assert "\x1b" not in cards.console


@pytest.mark.parametrize("name", [None, "00:11:22:33:44:55"])
def test_otherwise_there_is_none(cards: InitMachine, name: str | None) -> None:
    (cards.root / "stick/by-mac").mkdir(parents=True)
    if name:
        cards.write(f"stick/by-mac/{name}/etc/note", "another's")
    assert find(cards) == [""]
    assert cards.console == ""
    assert ("for a network card of this machine: 525400aabbcc 000e0c010203\n" in cards.log) == bool(name)


def test_drivers_of_network_cards_are_loaded_only_for_a_stick_that_asks(cards: InitMachine) -> None:
    for number, alias in enumerate((_NETWORK, _IDE)):
        cards.write(f"sys/bus/pci/devices/0000:00:0{number}.0/modalias", f"{alias}\n")
    for name, alias in _USB.items():
        cards.write(f"sys/bus/usb/devices/{name}/modalias", f"{alias}\n")
    virtio = "virtio:d00000001v00001AF4"
    cards.write("sys/bus/virtio/devices/virtio0/modalias", f"{virtio}\n")
    cards.write("sys/bus/virtio/devices/virtio1/modalias", "virtio:d00000002v00001AF4\n")
    (cards.root / "stick/by-mac").mkdir(parents=True)
    find(cards)
    assert cards.commands == []
    cards.write("stick/by-mac/525400aabbcc/etc/note", "x")
    find(cards)
    assert cards.commands == [
        f"modprobe -a -q {_NETWORK} {_USB['asix']} {_USB['cdc']}",
        f"modprobe -a -q {virtio}",
        "ln -sfn /stick/by-mac/525400aabbcc /machine",
    ]


def test_a_root_that_lays_the_overlay_itself_is_not_given_it(cards: InitMachine) -> None:
    cards.write("stick/by-mac/525400aabbcc/etc/note", "x")
    assert find(cards, "LB_OVERLAY_BY=hook;") == [""]
    assert "/by-mac/525400aabbcc on the stick is not used: this root lays the overlay itself" in cards.console


def test_a_stick_that_is_not_there_is_not_looked_at(cards: InitMachine) -> None:
    cards.write("stick/by-mac/525400aabbcc/etc/note", "x")
    assert find(cards, "STORAGE_STATE=volatile;") == [""]


@pytest.mark.parametrize("protected", [False, True])
def test_it_is_laid_over_what_all_machines_have(cards: InitMachine, tmp_path: Path, protected: bool) -> None:
    configure(cards)
    add_payload(cards)
    cards.add_disk("sdb1", ext4(tmp_path / "stick"), read_only=protected)
    mine = "stick/by-mac/52:54:00:AA:BB:CC"
    old = [cards.write(f"{layer}/etc/livebuilder/boot.json", "old") for layer in ("stick/upper", mine)]
    assert cards.boot().returncode == 0
    (mount,) = [line for line in cards.commands if line.endswith("overlayfs:/overlay /merged")]
    assert mount.split(" -o noatime,")[1].split()[0] == (
        "lowerdir=/machine:/stick/upper:/newroot,upperdir=/ramlayer/upper,workdir=/ramlayer/work"
        if protected
        else "lowerdir=/stick/upper:/newroot,upperdir=/machine,workdir=/stick/.livebuilder/work/52:54:00:AA:BB:CC"
    )
    assert (cards.root / "machine").resolve() == (cards.root / mine).resolve()
    assert cards.record["storage"]["by_mac"] == "52:54:00:AA:BB:CC"
    assert " label=rootfs_data by-mac=52:54:00:AA:BB:CC seconds=" in cards.console
    covering = cards.root / "ramlayer/upper/etc/livebuilder/boot.json"
    assert [path.exists() for path in (*old, covering)] == [protected] * 3
    if protected:
        assert json.loads(covering.read_bytes())["storage"]["by_mac"] == "52:54:00:AA:BB:CC"


def test_in_failsafe_it_is_named_and_not_laid(cards: InitMachine, tmp_path: Path) -> None:
    configure(cards)
    add_payload(cards)
    cards.write("proc/cmdline", "lb.failsafe\n")
    cards.add_disk("sdb1", ext4(tmp_path / "stick"))
    cards.write("stick/by-mac/525400aabbcc/etc/note", "x")
    cards.boot()
    assert not [line for line in cards.commands if "overlayfs:/overlay" in line]
    assert "they are in /overlay/upper and /overlay/by-mac/525400aabbcc, and reboot" in cards.console


def test_a_keyboard_on_usb_gets_its_driver_while_the_stick_is_waited_for(machine: InitMachine) -> None:
    machine.write("sys/bus/usb/devices/1-1:1.0/modalias", f"{_USB['disk']}\n")
    script = 'start_search; search rootfs_data 1; wait; echo "$KEYBOARD"'
    assert machine.call(script).stdout == "none\n"
    assert not [line for line in machine.commands if line.startswith("modprobe")]
    machine.write("sys/bus/usb/devices/1-2:1.0/modalias", f"{_USB['keyboard']}\n")
    assert machine.call(script).stdout == "usb\n"
    assert [line for line in machine.commands if line.startswith("modprobe")] == ["modprobe -a -q usbhid hid-generic"]
