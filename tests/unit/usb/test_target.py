"""What tells one disk from another, on records alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from livebuilder.sizes import GIB, MIB
from livebuilder.usb.blockdevice import BlockDevice, Volume
from livebuilder.usb.target import identity_changes

STICK = BlockDevice(
    path="/dev/sdb", kind="disk", name="sdb", major_minor="8:16", model="Ultra Fit", serial="4C530001", bus="usb",
    size_bytes=16 * GIB, removable=True, table="gpt",
    volumes=(Volume(path="/dev/sdb1", number=1, offset_bytes=MIB, size_bytes=GIB, fs="ext4", label="rootfs_data"),),
)  # fmt: skip
OTHER_CARD = replace(STICK.volumes[0], label="PHOTOS", fs="vfat")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"serial": "4C530002"}, "the serial is '4C530002', not '4C530001'"),
        ({"serial": ""}, "the serial is ''"),
        ({"model": "Ultra"}, "the model is"),
        ({"size_bytes": 8 * GIB}, "the size in bytes is"),
        ({"sector_bytes": 4096}, "the sector size is 4096, not 512"),
        ({"major_minor": "8:32"}, "the device number is '8:32'"),
        ({"kind": "partition"}, "the kind is"),
        ({"table": "dos"}, "the partition table is 'dos'"),
        ({"volumes": ()}, "the partitions is"),
        ({"volumes": (OTHER_CARD,)}, "PHOTOS"),
    ],
)
def test_any_other_disk_is_told(change: dict[str, Any], said: str) -> None:
    (text,) = identity_changes(STICK, replace(STICK, **change))
    assert said in text


@pytest.mark.parametrize(
    "change",
    [{}, {"uses": ("held by livebuilder",)}, {"name": "sdc"}, {"readable": False}, {"group": "disk"},
     {"volumes": (replace(STICK.volumes[0], uses=("mounted at /mnt",)),)}],
)  # fmt: skip
def test_what_is_done_with_a_disk_does_not_make_it_another(change: dict[str, Any]) -> None:
    assert identity_changes(STICK, replace(STICK, **change)) == []
