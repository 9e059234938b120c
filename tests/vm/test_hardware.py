"""Network cards: each that QEMU can be finds its driver by itself and passes packets; docs/hardware.md says which."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from livebuilder.kernel.modules import read_feature
from tests.support.boots import SECONDS, booting, observe
from tests.support.builds import BuiltImage
from tests.vm.conftest import build_small

MANUAL = Path(__file__).parents[2] / "docs/hardware.md"

# Which driver takes the card that QEMU calls so. Its rtl8139 is a C+; without USB 2 its usb-net works.
CARDS = {
    "ne2k_pci": "ne2k-pci", "rtl8139": "8139cp", "pcnet": "pcnet32", "i82557b": "e100", "i82558b": "e100",
    "i82559er": "e100", "i82801": "e100", "e1000": "e1000", "e1000e": "e1000e", "tulip": "tulip",
    "virtio-net-pci": "virtio_net", "usb-net": "cdc_ether",
}  # fmt: skip
# In the feature because a driver of the table wants them.
HELPERS = {"realtek", "broadcom", "virtio_pci"}

# Of each card: its address, its driver, the lease it got, and whether a large echo came back.
ASK_EACH = r"""
cat >/tmp/lease <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ifconfig "$interface" "$ip" netmask "$subnet"
echo "$ip" >"/tmp/lease-$interface"
END
chmod +x /tmp/lease
for card in /sys/class/net/*; do
    [ -e "$card/device" ] || continue
    name=${card##*/}
    driver=$(readlink "$card/device/driver")
    ip link set "$name" up
    udhcpc -i "$name" -n -q -s /tmp/lease >/dev/null 2>&1
    read -r lease 2>/dev/null <"/tmp/lease-$name" || lease=none
    ping -c 1 -W 10 -s 1400 "${lease%.*}.2" >/dev/null 2>&1 && echo=yes || echo=no
    ip link set "$name" down
    echo "card $(cat "$card/address") ${driver##*/} $lease $echo"
done
"""


def documented() -> dict[str, set[str]]:
    """The table of the manual: by driver, what it says was tested."""
    rows = re.findall(r"^\| (`.*?) \| .* \| ?(`.*?`)? ?\|$", MANUAL.read_text(), re.MULTILINE)
    names = re.compile(r"`([^`]+)`")
    return {driver: set(names.findall(tested)) for drivers, tested in rows for driver in names.findall(drivers)}


def test_the_manual_s_table_has_the_drivers_of_the_feature_and_what_is_tested() -> None:
    table = documented()
    assert table.keys() == {pattern.text for pattern in read_feature("nic")} - HELPERS
    assert {card: driver for driver, cards in table.items() for card in cards} == CARDS


@pytest.mark.vm
@pytest.mark.network
def test_every_card_finds_its_driver_and_passes_packets(tmp_path: Path) -> None:
    """All at once, as no PC had them; what the router would do with them is left out."""
    service = tmp_path / "files/etc/init.d/network"
    service.parent.mkdir(parents=True)
    service.write_text("#!/bin/sh /etc/rc.common\nSTART=20\nstart() { :; }\n")
    service.chmod(0o755)
    build_small(tmp_path / "image", 'modules.features=["nic", "usb-storage"]', f"root.files={tmp_path}/files")
    cards = {f"52:54:00:00:00:{number:02x}": model for number, model in enumerate(CARDS, start=1)}
    extra: list[str] = []
    for number, (address, model) in enumerate(cards.items(), start=1):
        where = "bus=usb.0" if model == "usb-net" else "romfile="
        extra += ["-netdev", f"user,id=card{number},net=10.0.{number}.0/24,restrict=on"]
        extra += ["-device", f"{model},netdev=card{number},mac={address},{where}"]
    with booting(
        BuiltImage(tmp_path / "image"), "lb.storage=off", machine="pc-1997", memory_bytes=128 * 1024 * 1024,
        log=tmp_path / "boot.log", extra=extra,
    ) as session:  # fmt: skip
        _, shell = observe(session)
        said = shell.run(ASK_EACH.strip(), timeout_seconds=SECONDS).output
    found = {word[1]: tuple(word[2:]) for word in map(str.split, said.splitlines()) if word[0] == "card"}
    wanted = {
        address: (CARDS[model], f"10.0.{number}.15", "yes")
        for number, (address, model) in enumerate(cards.items(), start=1)
    }
    assert {cards[address]: found.get(address) for address in cards} == {
        cards[address]: facts for address, facts in wanted.items()
    }
