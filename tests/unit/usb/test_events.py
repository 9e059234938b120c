"""Sticks that come and go, in a captured tree."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

from livebuilder.usb.devices import list_devices
from livebuilder.usb.events import DeviceEvent, watch
from tests.support.sysfs import KINGSTON_SYSFS, SATA_SYSFS, write_tree


def _nothing(_number: str) -> Mapping[str, str]:
    return {}


def test_watching_begins_with_what_is_not_known(tmp_path: Path) -> None:
    root = write_tree(tmp_path, KINGSTON_SYSFS + SATA_SYSFS)
    sda, sdb = list_devices(root)
    events = watch([sda], root, properties=_nothing)
    assert next(events) == DeviceEvent("added", sdb)


def test_a_stick_is_plugged_in_changed_and_pulled_out(tmp_path: Path) -> None:
    root = write_tree(tmp_path, SATA_SYSFS)
    events = watch(list_devices(root), root, poll_seconds=0.01)
    plug = threading.Timer(0.1, write_tree, (root, KINGSTON_SYSFS))
    plug.start()
    event = next(events)
    while event.device.size_bytes == 0 or event.device.read_only:  # its attributes appear one after the other
        event = next(events)
    assert event.device.path == "/dev/sdb"
    plug.join()
    blocks = root / "sys/class/block"
    (blocks / "sdb/size").write_text("0\n")
    while event.device.medium:
        event = next(events)
    assert (event.action, event.device.size_bytes) == ("changed", 0)
    (blocks / "sdb").unlink()
    started = time.monotonic()
    event = next(events)
    assert (event.action, event.device.path) == ("removed", "/dev/sdb")
    assert time.monotonic() - started < 5


def test_another_stick_in_the_same_place_is_one_removed_and_one_added(tmp_path: Path) -> None:
    root = write_tree(tmp_path, KINGSTON_SYSFS)
    events = watch(list_devices(root), root, poll_seconds=0.01)
    serial = next((root / "sys/devices").rglob("1-1/serial"))
    serial.write_text("ANOTHER\n")
    (root / "sys/class/block/sdb/diskseq").write_text("9\n")
    first, second = next(events), next(events)
    assert (first.action, first.device.serial) == ("removed", "0013729982D5B97196320049")
    assert (second.action, second.device.serial) == ("added", "ANOTHER")
